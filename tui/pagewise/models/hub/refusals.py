"""What the hub's refusals, its silence, and a disk that is full mean to a person."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager

import httpx2
from huggingface_hub import constants
from huggingface_hub.errors import (
    EntryNotFoundError,
    GatedRepoError,
    HfHubHTTPError,
    HFValidationError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from pagewise.models.gguf import printable
from pagewise.models.hub.selection import HubError

_TOKEN = "Put the token of an account that may read it into HF_TOKEN; `hf auth login` stores one."
_AGAIN = "What was fetched is kept: the same command goes on where it was."
_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})


@contextmanager
def told_to_a_person(repository: str) -> Iterator[None]:
    """Turns what the library, the network and the disk raise into HubError."""
    try:
        yield
    except OfflineModeIsEnabled as error:
        raise HubError(
            "The hub is not asked: HF_HUB_OFFLINE is set",
            "Nothing can be listed or fetched then.",
            "Unset it; `pagewise models` shows what is on this machine.",
        ) from error
    except HFValidationError as error:
        raise HubError(
            f"{repository!r} is not the name of a repository", printable(str(error)), "It has the form org/repo."
        ) from error
    except HfHubHTTPError as error:
        raise _refused(repository, error) from error
    except EntryNotFoundError as error:
        raise HubError(
            f"{repository} has no such file any more", "It was there when it was listed.", "List it again."
        ) from error
    except httpx2.TimeoutException as error:
        raise HubError(
            "The hub does not answer",
            f"{constants.ENDPOINT} was asked, and said nothing for {constants.HF_HUB_DOWNLOAD_TIMEOUT} seconds.",
            f"Try it again later. {_AGAIN}",
        ) from error
    except httpx2.HTTPError as error:
        raise HubError(
            "The hub cannot be reached",
            f"{constants.ENDPOINT}: {printable(str(error)) or type(error).__name__}.",
            f"Check the network, its proxy, and HF_ENDPOINT. {_AGAIN}",
        ) from error
    except OSError as error:
        if error.errno in _FULL:
            raise HubError(
                "The disk is full",
                f"{constants.HF_HUB_CACHE} has no room for the rest of the file.",
                f"Make room, or set HF_HUB_CACHE to another disk. {_AGAIN}",
            ) from error
        raise HubError(
            "The cache cannot be written",
            f"The system says: {error}.",
            "Check the permissions of the folder, or set HF_HUB_CACHE to another one.",
        ) from error


def _refused(repository: str, error: HfHubHTTPError) -> HubError:
    status = error.response.status_code
    if isinstance(error, GatedRepoError):
        return HubError(
            f"{repository} is gated",
            f"Its owner gives access to accounts that asked for it; the hub answered {status}.",
            f"Ask for access on its page, then: {_TOKEN}",
        )
    if isinstance(error, RevisionNotFoundError):
        return HubError(f"{repository} is empty", "It has no main branch.", "Choose another repository.")
    if "Invalid credentials" in error.response.headers.get("X-Error-Message", ""):
        return HubError("The hub does not accept your token", f"It answered {status}.", _TOKEN)
    if isinstance(error, RepositoryNotFoundError) or status in (401, 404):
        return HubError(
            f"There is no repository {repository}, or it is private",
            f"The hub answered {status}.",
            f"Check the spelling. If it is private: {_TOKEN}",
        )
    if status == 403:
        return HubError(f"The hub does not let you read {repository}", f"It answered {status}.", _TOKEN)
    if status == 429:
        return HubError(
            "The hub asks for patience", "It answered 429: too many requests.", f"Wait some minutes. {_AGAIN}"
        )
    return HubError(
        "The hub has a fault" if status >= 500 else "The hub refuses",
        f"It answered {status} to a request for {repository}.",
        f"Try it again later. {_AGAIN}",
    )

"""One file of the hub: fetched into the shared cache, in pieces that outlive a broken connection, and verified.

huggingface_hub finds the file, its checksum and its place; of a fetch that breaks off that library keeps nothing, so
the bytes are fetched here: into ``blobs/CHECKSUM.incomplete``, the name under which its earlier versions resume too.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import httpx2
from filelock import Timeout
from huggingface_hub import (
    constants,
    get_hf_file_metadata,
    get_session,
    hf_hub_download,
    hf_hub_url,
    try_to_load_from_cache,
)
from huggingface_hub.errors import HfHubHTTPError
from huggingface_hub.file_download import repo_folder_name
from huggingface_hub.utils import WeakFileLock, build_hf_headers, hf_raise_for_status
from tqdm.auto import tqdm

from pagewise.models.hub.selection import HubError

TRIES = 5
"""How often a connection may break without a byte in between."""
_WAIT_S = 0.5
_PIECE = 1 << 20
_RETRIED = frozenset({408, 429, 500, 502, 503, 504})
Told = Callable[[str, int], None]
"""``told(phase, bytes of this file that are there)``."""


class Remote(NamedTuple):
    """A file of a repository at one commit. ``sha256``: of LFS files; ``blob_id``: git's own, of all others."""

    repository: str
    commit: str
    path: str
    size: int
    sha256: str | None
    blob_id: str | None


class Fetched(NamedTuple):
    """Where a file is now, how many bytes came over the network, and whether its checksum was compared."""

    path: Path
    bytes: int
    verified: bool


def cached(file: Remote) -> Path | None:
    """Where the file is in the cache; None if it is not."""
    found = try_to_load_from_cache(file.repository, file.path, revision=file.commit)
    return Path(found) if isinstance(found, str) else None


def left_bytes(file: Remote) -> int:
    """Bytes that are still to be fetched, and will take room on the disk."""
    if cached(file) is not None:
        return 0
    part = _incomplete(file, file.sha256 or file.blob_id or "")
    return file.size - (min(part.stat().st_size, file.size) if part.exists() else 0)


def check_disk(files: list[Remote]) -> None:
    """Raises HubError where the disk has no room for what is left of ``files``."""
    folder = Path(constants.HF_HUB_CACHE)
    while not folder.exists():
        folder = folder.parent
    needed, free = sum(map(left_bytes, files)), shutil.disk_usage(folder).free
    if needed > free:
        raise HubError(
            "The disk has no room for it",
            f"{_gib(needed)} are to be fetched into {constants.HF_HUB_CACHE}, where {_gib(free)} are free.",
            "Make room, choose a smaller quant level, or set HF_HUB_CACHE to another disk.",
        )


def fetch(file: Remote, told: Told, tries: int = TRIES) -> Fetched:
    """Bring the file into the cache. Raises HubError, and what the library and the system raise."""
    found = cached(file)
    if found is not None:
        return Fetched(found, 0, False)
    metadata = get_hf_file_metadata(hf_hub_url(file.repository, file.path, revision=file.commit))
    etag = metadata.etag
    if not etag or "/" in etag:
        raise HubError(
            f"{file.path} cannot be fetched", "The hub does not say which version it is.", "Check HF_ENDPOINT."
        )
    if file.size > constants.MAX_HTTP_DOWNLOAD_SIZE:
        return _fetch_by_library(file, etag, told)
    try:
        with WeakFileLock(_lock(file, etag), timeout=1.0):
            fetched = _fetch_blob(file, etag, told, tries)
    except Timeout as error:
        raise HubError(
            f"{file.path} is being fetched already", "Another program has it in hand.", "Wait until that is done."
        ) from error
    return Fetched(_link(file), fetched, True)


def _link(file: Remote) -> Path:
    """The library's own name for a blob that is there: other tools find it under ``main`` too."""
    latest = Path(hf_hub_download(file.repository, file.path))
    return cached(file) or latest


def _fetch_blob(file: Remote, etag: str, told: Told, tries: int) -> int:
    blob = _blob(file, etag)
    if blob.exists():
        return 0
    part = _incomplete(file, etag)
    part.parent.mkdir(parents=True, exist_ok=True)
    with part.open("ab", buffering=0) as target:
        check = _Checksum(file)
        at = target.tell()
        if at > file.size:
            target.truncate(0)
            at = 0
        check.read(part, at, told)
        came = _Stream(file, target, check, told).run(at, tries)
        os.fsync(target.fileno())
    if not check.agrees():
        part.unlink()
        raise HubError(
            f"{file.path} is not what the hub says it is",
            f"The checksum of the {file.size:,} bytes that came is another one: {check.hexdigest()[:16]}….",
            "It was deleted. Fetch it again; if that happens again, the hub or a proxy on the way is at fault.",
        )
    part.rename(blob)
    return came


class _Checksum:
    """That of the hub's large files, or git's of small ones."""

    def __init__(self, file: Remote) -> None:
        self._wanted = file.sha256 or file.blob_id or ""
        self._new = hashlib.sha256 if file.sha256 else hashlib.sha1
        self._prefix = b"" if file.sha256 else b"blob %d\0" % file.size
        self._size = file.size
        self.begin()

    def begin(self) -> None:
        """From the first byte on."""
        self._digest = self._new(self._prefix)

    def update(self, piece: bytes) -> None:
        """The next bytes."""
        self._digest.update(piece)

    def read(self, path: Path, end: int, told: Told) -> None:
        """The bytes that are there from an earlier time."""
        done = 0
        with path.open("rb") as source:
            while done < end and (piece := source.read(min(_PIECE, end - done))):
                self.update(piece)
                done += len(piece)
                told("reading what is there", done)

    def hexdigest(self) -> str:
        """As it is."""
        return self._digest.hexdigest()

    def agrees(self) -> bool:
        """Whether it is the one that the hub stated; a file without one is refused."""
        return self.hexdigest() == self._wanted


class _Stream:
    """The bytes from the hub into the file, over as many connections as it takes."""

    def __init__(self, file: Remote, target: Any, check: _Checksum, told: Told) -> None:
        self._file, self._target, self._check, self._told = file, target, check, told
        self._came = 0
        self._at = 0

    def run(self, at: int, tries: int) -> int:
        """From byte ``at`` to the end; how many bytes came. Raises what the last of ``tries`` raised."""
        self._at = at
        failed = 0
        while self._at < self._file.size:
            before = self._came
            try:
                self._connection()
            except (httpx2.TransportError, HfHubHTTPError) as error:
                if isinstance(error, HfHubHTTPError) and error.response.status_code not in _RETRIED:
                    raise
                failed = 0 if self._came > before else failed + 1
                if failed >= tries:
                    raise
                self._told("waiting for the hub", self._at)
                time.sleep(_WAIT_S * 2 ** min(failed, 4))
        return self._came

    def _connection(self) -> None:
        """Whatever one connection gives. The address is asked for anew each time: signed ones expire."""
        file = self._file
        headers = {**build_hf_headers(), "Accept-Encoding": "identity", "Range": f"bytes={self._at}-"}
        url = hf_hub_url(file.repository, file.path, revision=file.commit)
        timeout = constants.HF_HUB_DOWNLOAD_TIMEOUT
        with get_session().stream("GET", url, headers=headers, timeout=timeout, follow_redirects=True) as response:
            if response.status_code >= 400:
                response.read()
            hf_raise_for_status(response)
            if response.status_code != 206 and self._at:
                self._begin_again()
            for piece in response.iter_bytes():
                kept = piece[: file.size - self._at]
                self._target.write(kept)
                self._check.update(kept)
                self._at += len(kept)
                self._came += len(kept)
                self._told("fetching", self._at)
        if self._at < file.size:
            raise httpx2.RemoteProtocolError("the connection ended before the file did")

    def _begin_again(self) -> None:
        """The hub sends the file from its first byte, whatever was asked for."""
        self._target.truncate(0)
        self._check.begin()
        self._at = 0


def _fetch_by_library(file: Remote, etag: str, told: Told) -> Fetched:
    """Files beyond what the hub gives over one connection: the library has a way of its own, without resuming."""

    class Bar(tqdm):  # type: ignore[misc, unused-ignore]
        """Where the library tells how far it is."""

        def __init__(self, *args: Any, **kwargs: Any) -> None:
            super().__init__(*args, **{**kwargs, "disable": True})
            self._there = 0

        def update(self, n: float | None = 1) -> bool | None:
            self._there += int(n or 0)
            told("fetching", min(self._there, file.size))
            return None

    path = Path(hf_hub_download(file.repository, file.path, revision=file.commit, tqdm_class=Bar))
    check = _Checksum(file)
    check.read(path, file.size, lambda _phase, done: told("verifying", done))
    if not check.agrees():
        path.unlink()
        _blob(file, etag).unlink(missing_ok=True)
        raise HubError(
            f"{file.path} is not what the hub says it is",
            f"The checksum of the {file.size:,} bytes that came is another one: {check.hexdigest()[:16]}….",
            "It was deleted. Fetch it again; if that happens again, the hub or a proxy on the way is at fault.",
        )
    _link(file)
    return Fetched(path, file.size, True)


def _folder(file: Remote) -> str:
    return repo_folder_name(repo_id=file.repository, repo_type="model")


def _blob(file: Remote, etag: str) -> Path:
    return Path(constants.HF_HUB_CACHE) / _folder(file) / "blobs" / etag


def _incomplete(file: Remote, etag: str) -> Path:
    return Path(constants.HF_HUB_CACHE) / _folder(file) / "blobs" / f"{etag}.incomplete"


def _lock(file: Remote, etag: str) -> Path:
    path = Path(constants.HF_HUB_CACHE) / ".locks" / _folder(file) / f"{etag}.lock"
    path.parent.mkdir(parents=True, exist_ok=True)
    return path


def _gib(value: int) -> str:
    return f"{value / 1024**3:.1f} GiB" if value >= 1024**3 else f"{value / 1024**2:.1f} MiB"

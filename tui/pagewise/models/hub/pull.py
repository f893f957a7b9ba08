"""A whole pull: ask the hub what there is, choose, and fetch every part."""

from __future__ import annotations

import time
from collections.abc import Callable

import msgspec
from huggingface_hub import HfApi, constants

from pagewise.jobs.pull import Brought, Offer, Offers
from pagewise.models.hub.fetch import TRIES, Fetched, Remote, cached, check_disk, fetch
from pagewise.models.hub.refusals import told_to_a_person
from pagewise.models.hub.selection import HubError, choose, offers

Told = Callable[[str, int, int, str], None]
"""``told(phase, done, total, file)`` in bytes."""


def pull(repository: str, quant: str, list_only: bool, told: Told, tries: int = TRIES) -> Brought:
    """Fetch ``quant`` of ``repository``, or list what there is. Raises HubError, and nothing else of the hub's."""
    told("asking the hub", 0, 0, repository)
    with told_to_a_person(repository):
        files, listed = _listed(repository)
        chosen = None if list_only else choose(repository, listed.levels, quant)
        if chosen is None:
            return Brought(listed)
        return _bring(listed, chosen, [files[path] for path in chosen.files], told, tries)


def _listed(repository: str) -> tuple[dict[str, Remote], Offers]:
    info = HfApi().model_info(repository, files_metadata=True, timeout=constants.HF_HUB_ETAG_TIMEOUT)
    commit = info.sha
    if not commit:
        raise HubError(
            f"{repository} cannot be used", "The hub does not say which version it is.", "Check HF_ENDPOINT."
        )
    files: dict[str, Remote] = {}
    for sibling in info.siblings or ():
        size = sibling.lfs.size if sibling.lfs is not None else sibling.size
        sha256 = sibling.lfs.sha256 if sibling.lfs is not None else None
        files[sibling.rfilename] = Remote(repository, commit, sibling.rfilename, size or 0, sha256, sibling.blob_id)
    listed = offers({path: file.size for path, file in files.items()})
    levels = tuple(_with_kept(level, files) for level in listed.levels)
    return files, Offers(repository, commit, constants.ENDPOINT, levels, listed.others)


def _with_kept(level: Offer, files: dict[str, Remote]) -> Offer:
    kept = all(cached(files[path]) is not None for path in level.files)
    return msgspec.structs.replace(level, kept=kept)


def _bring(listed: Offers, chosen: Offer, files: list[Remote], told: Told, tries: int) -> Brought:
    check_disk(files)
    began = time.monotonic()
    brought: list[Fetched] = []
    before = 0
    for file in files:
        done_before = before

        def of_this(phase: str, done: int, done_before: int = done_before, path: str = file.path) -> None:
            told(phase, done_before + done, chosen.bytes, path)

        brought.append(fetch(file, of_this, tries))
        before += file.size
    return Brought(
        offers=listed,
        path=str(brought[0].path),
        offer=chosen.files[0],
        quant=chosen.quant,
        bytes=chosen.bytes,
        fetched_bytes=sum(one.bytes for one in brought),
        seconds=time.monotonic() - began,
        verified=sum(one.verified for one in brought),
    )

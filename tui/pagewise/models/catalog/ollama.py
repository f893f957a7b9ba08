"""Models that Ollama keeps: names from its manifests, weights in blobs named by their digest."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import NamedTuple

from pagewise.failure import Failure
from pagewise.jobs.catalog import Unusable
from pagewise.models.catalog.places import Root
from pagewise.models.catalog.walk import Found, Walked, stat_file

_MODEL = "application/vnd.ollama.image.model"
_MORE = ("application/vnd.ollama.image.projector", "application/vnd.ollama.image.adapter")
_DIGEST = re.compile(r"^(sha256)[:-]([0-9a-f]{64})$")
_MAX_MANIFEST = 4 << 20
_LEVELS = 4
"""Folders between ``manifests`` and a manifest, and the manifest itself: host, namespace, model, tag."""


class Manifest(NamedTuple):
    """The blobs that a manifest names; ``why``: why it cannot be used, else empty."""

    model: tuple[str, ...]
    more: tuple[str, ...]
    """Projectors and adapters."""
    why: str = ""


ReadManifests = dict[str, tuple[int, int, Manifest]]
"""By path: size and time of change (ns) of the file that was read, and what it says."""


def walk_ollama(root: Root, before: ReadManifests, now: ReadManifests) -> Walked | None:
    """All models under Ollama's folder ``root``; None if there is none.

    Manifests that are as they were ``before`` are not read again; those that are there are put into ``now``.
    """
    manifests = root.path / "manifests"
    try:
        if not manifests.is_dir():
            return None
    except OSError as error:
        return Walked([], [], _why(root, error))
    whys: list[str] = []
    found: list[Found] = []
    unusable: list[Unusable] = []
    for path, size, mtime_ns in _manifest_files(manifests, root, whys):
        known = before.get(path)
        if known is None or known[:2] != (size, mtime_ns):
            known = (size, mtime_ns, read_manifest(Path(path)))
        now[path] = known
        name = _name(os.path.relpath(path, manifests))
        _take(root, name, path, known[2], found, unusable)
    return Walked(found, unusable, "; ".join(whys[:3]))


def read_manifest(path: Path) -> Manifest:
    """What the manifest at ``path`` names. Nothing it may contain raises."""
    try:
        with path.open("rb") as file:
            read = json.loads(file.read(_MAX_MANIFEST))
        layers = read["layers"]
        named: dict[str, list[str]] = {}
        for layer in layers:
            digest = _DIGEST.match(layer["digest"])
            if digest is not None:
                named.setdefault(layer["mediaType"], []).append(f"{digest[1]}-{digest[2]}")
    except OSError as error:
        return Manifest((), (), f"The system says: {error.strerror or error}.")
    except (ValueError, KeyError, TypeError, RecursionError):
        return Manifest((), (), "Its manifest is damaged: it is not the JSON that Ollama writes.")
    return Manifest(tuple(named.get(_MODEL, ())), tuple(blob for kind in _MORE for blob in named.get(kind, ())))


def _manifest_files(manifests: Path, root: Root, whys: list[str]) -> list[tuple[str, int, int]]:
    folders = [str(manifests)]
    files: list[tuple[str, int, int]] = []
    for level in range(_LEVELS):
        inside: list[str] = []
        for folder in folders:
            try:
                with os.scandir(folder) as entries:
                    for entry in sorted(entries, key=lambda entry: entry.name):
                        if entry.name.startswith("."):
                            continue
                        if level < _LEVELS - 1 and entry.is_dir():
                            inside.append(entry.path)
                        elif level == _LEVELS - 1 and entry.is_file():
                            status = entry.stat()
                            files.append((entry.path, status.st_size, status.st_mtime_ns))
            except OSError as error:
                whys.append(_why(root, error))
        folders = inside
    return files


def _name(relative: str) -> str:
    """``namespace/model:tag``; models of Ollama's own library have no namespace."""
    _, namespace, model, tag = Path(relative).parts
    return f"{model}:{tag}" if namespace == "library" else f"{namespace}/{model}:{tag}"


def _take(root: Root, name: str, path: str, manifest: Manifest, found: list[Found], unusable: list[Unusable]) -> None:
    if manifest.why:
        failure = Failure(f"{name} cannot be used", manifest.why, f"Fetch it again: `ollama pull {name}`.")
        unusable.append(Unusable(path, root.source, failure))
        return
    for blob in (*manifest.model, *manifest.more):
        file = str(root.path / "blobs" / blob)
        try:
            found.append(stat_file(file, root.source, name))
        except OSError as error:
            gone = isinstance(error, FileNotFoundError)
            why = "The file that its manifest names is not there." if gone else f"{error.strerror or error}."
            failure = Failure(f"{name} cannot be used", why, f"Fetch it again: `ollama pull {name}`.")
            unusable.append(Unusable(file, root.source, failure))


def _why(root: Root, error: OSError) -> str:
    advice = " (its files belong to the service: join the group ollama)" if isinstance(error, PermissionError) else ""
    return f"{error.filename or root.path} cannot be read: {error.strerror or error}{advice}"

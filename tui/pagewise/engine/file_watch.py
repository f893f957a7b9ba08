"""Notices that the model file on disk is no longer the one that was loaded."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from pagewise.engine.failures import Failed
from pagewise.engine.llamacpp.model import ModelFile
from pagewise.messages import Failure
from pagewise.models.gguf import printable


class _Seen(NamedTuple):
    device: int
    inode: int
    bytes: int
    changed_ns: int


class FileWatch:
    """Of one loaded model. Ask it before a reply."""

    def __init__(self, file: ModelFile) -> None:
        self._seen = {header.path: _seen(header.path) for header in file.headers}
        self._sizes = {header.path: header.file_bytes for header in file.headers}

    def check(self) -> Failure | None:
        """What has happened to the file since it was looked at last; None if nothing.

        Raises Failed where it was cut short: to touch what is gone would end the engine.
        """
        for path, before in self._seen.items():
            now = _seen(path)
            if now == before:
                continue
            name = printable(path.name)
            same = before is not None and now is not None and before[:2] == now[:2]
            if same and now is not None and now.bytes < self._sizes[path]:
                raise Failed(
                    f"{name} was cut short while it is in use",
                    f"It had {self._sizes[path]:,} bytes when it was loaded and has {now.bytes:,} now.",
                    "Restore the file and load the model again (F2).",
                )
            self._seen[path] = now
            return _said(name, same=same, gone=now is None)
        return None


def _said(name: str, *, same: bool, gone: bool) -> Failure:
    if gone:
        return Failure(
            f"{name} has been deleted or moved",
            "The model that is loaded goes on from what was deleted; it cannot be loaded again.",
            "Put the file back, or choose another model.",
        )
    if not same:
        return Failure(
            f"{name} has been replaced by another file",
            "The model that is loaded goes on from the former one.",
            "Load the profile again (F2) to use the new file.",
        )
    return Failure(
        f"{name} has been written to while it is in use",
        "Its weights are read from the file as they are needed, so that replies may be wrong from here on.",
        "Load the profile again (F2).",
    )


def _seen(path: Path) -> _Seen | None:
    try:
        status = path.stat()
    except OSError:
        # It is gone, or its folder cannot be reached.
        return None
    return _Seen(status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns)

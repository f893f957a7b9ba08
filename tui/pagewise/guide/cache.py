"""Quant levels of the guide: made once, kept in the user's cache folder, checked before each use.

A level's name holds the hash of the file it was made of, so a new release never meets an old one's levels. Beside each
stands its SHA-256; a file that does not match it is made again. Whatever goes wrong, there is a guide to talk to: the
shipped file.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import os
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import platformdirs

from pagewise.atomic import write_atomically
from pagewise.guide.files import SHIPPED_QUANT, check_quant, guide_path
from pagewise.messages import Failure

Quantize = Callable[[Path, Path, str], None]
"""``quantize(source, target, quant)`` writes ``target``; it raises OSError when the disk does not let it, and anything
else when llama.cpp refuses."""


def cache_folder() -> Path:
    """Where quant levels are kept."""
    return platformdirs.user_cache_path("pagewise") / "guide"


def provide(
    quant: str | None, quantize: Quantize, cache: Path | None = None, source: Path | None = None
) -> tuple[Path, str]:
    """The guide's file at ``quant`` (None: as it ships), and a note for the person, empty if all is as asked.

    Where the level cannot be made or kept, the shipped file is given and the note says why. Raises GuideError if the
    guide itself is missing or has no such level. Safe against other processes asking for the same level.
    """
    shipped = source or guide_path()
    level = SHIPPED_QUANT if quant is None else check_quant(quant)
    if level == SHIPPED_QUANT:
        return shipped, ""
    folder = cache or cache_folder()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        target = folder / f"guide-{level.lower()}-{_digest(shipped)[:16]}.gguf"
        with _locked(target.with_suffix(".lock")):
            return _kept_or_made(shipped, target, level, quantize)
    except OSError as error:
        return shipped, f"The guide runs as {SHIPPED_QUANT}: {level} could not be kept in {folder}, {_reason(error)}."
    except _NotMade as error:
        return shipped, f"The guide runs as {SHIPPED_QUANT}: {level} could not be made. {error}"


class _NotMade(Exception):
    """``quantize`` did not give a usable file."""


def _kept_or_made(shipped: Path, target: Path, level: str, quantize: Quantize) -> tuple[Path, str]:
    sidecar = target.with_suffix(".sha256")
    there = target.exists()
    for abandoned in target.parent.glob(f".*{target.stem}-*.part"):
        abandoned.unlink(missing_ok=True)
    if there and _recorded(sidecar) == _digest(target):
        return target, ""
    _make(shipped, target, sidecar, level, quantize)
    return target, f"{level} of the guide was damaged on disk and has been made again." if there else ""


def _make(shipped: Path, target: Path, sidecar: Path, level: str, quantize: Quantize) -> None:
    descriptor, name = tempfile.mkstemp(dir=target.parent, prefix=f".{target.stem}-", suffix=".part")
    os.close(descriptor)
    made = Path(name)
    try:
        try:
            quantize(shipped, made, level)
        except OSError:
            raise
        except Exception as error:
            failure = getattr(error, "failure", None)
            raise _NotMade(failure.why if isinstance(failure, Failure) else f"llama.cpp says: {error}.") from error
        with made.open("rb") as file:
            os.fsync(file.fileno())
        if made.stat().st_size == 0:
            raise _NotMade("The file came out empty: is the disk full?")
        digest = _digest(made)
        write_atomically(sidecar, f"{digest}\n".encode("ascii"))
        made.replace(target)
    finally:
        made.unlink(missing_ok=True)


def _recorded(sidecar: Path) -> str | None:
    try:
        return sidecar.read_text(encoding="ascii", errors="replace").strip()
    except FileNotFoundError:
        return None


def _digest(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while piece := file.read(1 << 20):
            digest.update(piece)
    return digest.hexdigest()


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    with path.open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _reason(error: OSError) -> str:
    if error.errno == errno.ENOSPC:
        return "the disk is full"
    if error.errno in (errno.EACCES, errno.EROFS, errno.EPERM):
        return "the folder cannot be written to"
    return (error.strerror or str(error)).lower()

"""A file that has no name until it is whole, so that whatever ends the program leaves nothing half done behind."""

from __future__ import annotations

import contextlib
import errno
import os
from pathlib import Path
from types import TracebackType

_NO_UNNAMED_FILES = (errno.EOPNOTSUPP, errno.EISDIR, errno.ENOENT, errno.EINVAL)


class UnnamedFile:
    """Use as a context manager. ``path`` can be opened by any program of this user while it is open here.

    On file systems that have no files without names it is named ``.NAME.PID.part`` meanwhile: ``remove_left`` removes
    what a process that was killed has left of such a one.
    """

    def __init__(self, folder: Path, name: str) -> None:
        """``name``: what it will be called, or what it is for. Raises OSError."""
        self._folder = folder
        self._part: Path | None = None
        try:
            self.descriptor = os.open(folder, os.O_TMPFILE | os.O_RDWR | os.O_CLOEXEC, 0o644)
            self.path = Path(f"/proc/{os.getpid()}/fd/{self.descriptor}")
        except (AttributeError, OSError) as error:
            if isinstance(error, OSError) and (error.errno not in _NO_UNNAMED_FILES or not folder.is_dir()):
                raise
            self._part = self.path = part_of(folder / name, os.getpid())
            self.descriptor = os.open(self.path, os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_CLOEXEC, 0o644)

    def __enter__(self) -> UnnamedFile:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        os.close(self.descriptor)
        if self._part is not None:
            self._part.unlink(missing_ok=True)

    @property
    def bytes(self) -> int:
        """What it takes on the disk by now."""
        status = os.fstat(self.descriptor)
        return max(status.st_size, status.st_blocks * 512)

    def become(self, target: Path) -> None:
        """Give it its name, in the folder it lies in, once all of it is on the disk. A former file is replaced."""
        os.fsync(self.descriptor)
        if self._part is None:
            part = part_of(target, os.getpid())
            part.unlink(missing_ok=True)
            folder = os.open(self._folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                # With a folder given Python calls linkat, which alone follows the link in /proc to the file.
                os.link(self.path, part.name, src_dir_fd=folder, dst_dir_fd=folder, follow_symlinks=True)
            finally:
                os.close(folder)
        else:
            part, self._part = self._part, None
        try:
            part.replace(target)
        finally:
            part.unlink(missing_ok=True)


def part_of(target: Path, pid: int) -> Path:
    """What the file is called meanwhile, where it must have a name."""
    return target.with_name(f".{target.name}.{pid}.part")


def remove_left(target: Path, pid: int) -> None:
    """Remove what process ``pid``, which has ended, may have left of a file that was to become ``target``."""
    with contextlib.suppress(OSError):
        part_of(target, pid).unlink(missing_ok=True)

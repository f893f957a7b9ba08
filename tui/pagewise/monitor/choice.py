"""What of the box is to be watched."""

from __future__ import annotations

from pathlib import Path

from pagewise.messages import Failure
from pagewise.models.gguf import printable, read_header
from pagewise.monitor.http import parse_url
from pagewise.monitor.processes import started


class ChoiceError(Exception):
    """What was asked for cannot be watched."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(failure.what)
        self.failure = failure


class Choice:
    """Narrows the monitor: to one process, to those that hold one file, to one server. Nothing given: all there is."""

    def __init__(self, pid: int | None = None, file: Path | None = None, url: str | None = None) -> None:
        """Raises ChoiceError, and pagewise.models.gguf.GgufError for a file that is no model."""
        self.pid = pid
        self.file = file.absolute() if file is not None else None
        self.url = url.rstrip("/") if url else None
        if pid is not None and started(pid) is None:
            raise ChoiceError(
                Failure(
                    f"There is no process {pid}",
                    "It has ended, or the number is that of another machine or container.",
                    "`pagewise monitor --once` lists the processes that hold a model.",
                )
            )
        if self.file is not None:
            read_header(self.file, complete=False)
        if self.url is not None:
            try:
                parse_url(self.url)
            except ValueError as error:
                raise ChoiceError(
                    Failure(
                        f"{printable(self.url)} is no address of a server",
                        f"{error}.",
                        "For example: `pagewise monitor --url http://127.0.0.1:8080`.",
                    )
                ) from error

"""The app's handle on a host: start it, send it commands, listen to its events, start it again when it ends.

All it needs is a command whose standard streams carry the protocol, so ``["ssh", "box", "pagewise", "host"]`` works
like the one on this machine.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shlex
import signal
import sys
import tempfile
from collections import deque
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path
from typing import BinaryIO

from pagewise.jobs.base import JobAnswer, JobFailed, JobRequest
from pagewise.messages import (
    Command,
    EngineStatus,
    Event,
    Failure,
    Finished,
    FrameError,
    FrameReader,
    Generate,
    Hello,
    HostHello,
    Load,
    Loaded,
    LoadFailed,
    Notice,
    Quit,
    Reading,
    SetRate,
    decode_event,
    encode,
)

LOCAL_HOST = (sys.executable, "-m", "pagewise.host")
Record = Callable[[Command | Event], Failure | None]
"""Keeps what is said on both sides; answers once with the reason why it cannot any more."""
_READ = 1 << 16
_QUIT_GRACE_S = 5.0
_TERMINATE_GRACE_S = 2.0
_RESTARTS = 2
_STEADY_S = 30.0
_TAIL = 4096
_WORDS = 300


class ClientError(Exception):
    """There is no host; ``failure`` says why to a person."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(f"{failure.what} {failure.why}")
        self.failure = failure


class HostClient:
    """Keeps one host running. Nothing that the app does or leaves undone holds up the reading of its events.

    Of the snapshots only the newest that was not yet taken is kept; every other event is delivered, in order. After a
    host has ended by itself a Notice says so, what was under way is ended by events of its own, and a new host is
    started: its HostHello says that it is there, with no profile in force. It has been greeted already then.
    """

    def __init__(
        self, command: Sequence[str] | None = None, log: Path | None = None, record: Record | None = None
    ) -> None:
        """``command`` speaks the protocol on its standard streams; ``log`` keeps what it writes to standard error.

        ``record`` is given every command, and every event as it arrives, whether or not somebody takes it in time.
        """
        self._command = tuple(command or LOCAL_HOST)
        self._log = log
        self._record = record
        self._errors: BinaryIO | None = None
        self._process: asyncio.subprocess.Process | None = None
        self._keeping: asyncio.Task[None] | None = None
        self._queue: deque[Event | None] = deque()
        self._reading: Reading | None = None
        self._arrived = asyncio.Event()
        self._over = False
        self._closing = False
        self._greeted = False
        self._rate: SetRate | None = None
        self._loads: set[int] = set()
        self._turns: set[int] = set()
        self._jobs: set[int] = set()

    @property
    def pid(self) -> int | None:
        """The host process (or what carries it, such as ssh); None while there is none."""
        return self._process.pid if self._process and self._process.returncode is None else None

    async def start(self) -> None:
        """Start the host and greet it. Raises ClientError where the command cannot be run."""
        self._over = self._closing = False
        await self._launch()
        self._keeping = asyncio.create_task(self._keep())

    def send(self, command: Command) -> None:
        """Hand one command over; it never waits. Without a host, what was asked is answered by its failure."""
        self._keep_record(command)
        match command:
            case Hello():
                # The client has greeted its host when it started it.
                return
            case SetRate():
                self._rate = command
            case Load(id=id):
                self._loads.add(id)
            case Generate(id=id):
                self._turns.add(id)
            case JobRequest(id=id):
                self._jobs.add(id)
        if not self._write(command):
            self._end_what_waits(Failure("There is no host", "It has ended.", "Start pagewise again."))

    async def events(self) -> AsyncIterator[Event]:
        """Every event, until ``close`` or until the host does not stay up. For one listener."""
        while True:
            while self._queue:
                event = self._queue.popleft()
                if event is None:
                    event, self._reading = self._reading, None
                if event is not None:
                    yield event
            if self._over:
                return
            self._arrived.clear()
            await self._arrived.wait()

    async def close(self) -> None:
        """End the host: by asking, then with SIGTERM, then with SIGKILL. Safe to call twice."""
        self._closing = True
        process = self._process
        if process is not None and process.returncode is None:
            self._write(Quit())
            if process.stdin is not None:
                process.stdin.close()
            if not await _ended(process, _QUIT_GRACE_S):
                await _terminate(process)
        if self._keeping is not None:
            await self._keeping
        self._finish()

    # ---- one host after the other -----------------------------------------------------------------------------------

    async def _launch(self) -> None:
        if self._errors is not None:
            self._errors.close()
        try:
            self._errors = _opened(self._log)
            self._process = await asyncio.create_subprocess_exec(
                *self._command,
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=self._errors,
                # Ctrl-C in the terminal is for the app; the host ends when its input closes.
                start_new_session=True,
            )
        except OSError as error:
            raise ClientError(
                Failure(
                    "The host cannot be started",
                    f"`{shlex.join(self._command)}`: {error.strerror}.",
                    "Check that the program is there; for a host on this machine, install pagewise again.",
                )
            ) from error
        self._greeted = False
        self._write(Hello())
        if self._rate is not None:
            self._write(self._rate)

    async def _keep(self) -> None:
        loop = asyncio.get_running_loop()
        restarts = 0
        while True:
            began = loop.time()
            await self._listen()
            if self._closing:
                break
            restarts = 0 if loop.time() - began > _STEADY_S else restarts + 1
            again = self._greeted and restarts <= _RESTARTS
            self._tell_end(again)
            if not again:
                break
            try:
                await self._launch()
            except ClientError as error:
                self._deliver(Notice(error.failure))
                break
            if self._closing and self._process is not None:
                await _terminate(self._process)
                break
        self._finish()

    async def _listen(self) -> None:
        process = self._process
        assert process is not None and process.stdout is not None
        frames = FrameReader()
        try:
            while data := await process.stdout.read(_READ):
                for _, payload in frames.feed(data):
                    self._take(decode_event(payload))
        except FrameError as error:
            why = f"{error}. Something on the way prints, or the two ends have different versions."
            self._deliver(Notice(Failure("The host cannot be understood", why, "Install the same version on both.")))
        if not await _ended(process, 0.5):
            await _terminate(process)

    def _take(self, event: Event) -> None:
        match event:
            case HostHello():
                self._greeted = True
            case Loaded(id=id) | LoadFailed(id=id):
                self._loads.discard(id)
            case Finished(id=id):
                self._turns.discard(id)
            case JobAnswer(id=id):
                self._jobs.discard(id)
        self._deliver(event)

    def _keep_record(self, message: Command | Event) -> None:
        failure = self._record(message) if self._record is not None else None
        if failure is not None:
            self._queue.append(Notice(failure))
            self._arrived.set()

    def _deliver(self, event: Event) -> None:
        self._keep_record(event)
        if isinstance(event, Reading):
            if self._reading is None:
                self._queue.append(None)
            self._reading = event
        else:
            self._queue.append(event)
        self._arrived.set()

    def _write(self, command: Command) -> bool:
        process = self._process
        if process is None or process.returncode is not None or process.stdin is None or process.stdin.is_closing():
            return False
        process.stdin.write(encode(command))
        return True

    def _tell_end(self, again: bool) -> None:
        """The host has ended by itself: say so, and end what it had in hand."""
        assert self._process is not None
        code = self._process.returncode
        how = f"by signal {-code}" if code is not None and code < 0 else f"with exit code {code}"
        words = self._last_words()
        failure = Failure(
            "The host has ended",
            f"It ended {how}." + (f' Its last words: "{words}"' if words else ""),
            "It is started again."
            if again
            else f"It does not stay up: `{shlex.join(self._command)}` run by hand says more.",
        )
        self._deliver(EngineStatus("lost"))
        self._deliver(Notice(failure))
        self._end_what_waits(failure)

    def _end_what_waits(self, failure: Failure) -> None:
        for turn in sorted(self._turns):
            self._deliver(Finished(turn, "engine lost", None, failure))
        for load in sorted(self._loads):
            self._deliver(LoadFailed(load, failure))
        what_then = f"{failure.next} What it was at is to be asked for once more."
        for job in sorted(self._jobs):
            self._deliver(JobFailed(job, Failure(failure.what, failure.why, what_then)))
        self._turns.clear()
        self._loads.clear()
        self._jobs.clear()

    def _last_words(self) -> str:
        if self._errors is None:
            return ""
        self._errors.seek(0, os.SEEK_END)
        self._errors.seek(max(0, self._errors.tell() - _TAIL))
        lines = self._errors.read(_TAIL).decode("utf-8", errors="replace").strip().splitlines()
        return "".join(letter for letter in lines[-1] if letter.isprintable())[:_WORDS] if lines else ""

    def _finish(self) -> None:
        self._over = True
        self._arrived.set()
        if self._errors is not None:
            self._errors.close()
            self._errors = None


def _opened(log: Path | None) -> BinaryIO:
    if log is None:
        return tempfile.TemporaryFile()
    log.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    return log.open("ab+")


async def _ended(process: asyncio.subprocess.Process, within_s: float) -> bool:
    try:
        await asyncio.wait_for(process.wait(), within_s)
    except asyncio.TimeoutError:
        return False
    return True


async def _terminate(process: asyncio.subprocess.Process) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGTERM)
    if not await _ended(process, _TERMINATE_GRACE_S):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        await process.wait()

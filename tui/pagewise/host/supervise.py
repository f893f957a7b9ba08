"""One engine process: started, spoken to, listened to, ended, and its end explained."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import Awaitable, Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple, cast

from pagewise.host.descriptors import LOG_VARIABLE
from pagewise.host.engine_exit import EngineExit, engine_exit, last_words
from pagewise.instruments.cgroup import find_memory_cgroup
from pagewise.memory_file import VARIABLE as KV_FILE_VARIABLE
from pagewise.messages import STREAM, Command, Event, FrameError, FrameReader, Quit, decode_event, encode
from pagewise.trace import last_seen

_QUIT_GRACE_S = 2.0
_LAST_FRAMES_S = 2.0
_OUTPUT = 1


class Listeners(NamedTuple):
    """Where an engine's words go. ``drain`` waits while they cannot go further: the engine is then not read either."""

    on_stream: Callable[[bytes], None]
    """A frame of the token path, undecoded."""
    on_event: Callable[[Event, bytes], None]
    """Any other frame, decoded and as it came."""
    on_exit: Callable[[Engine], None]
    """Once, behind the last frame, however it ended."""
    is_flowing: Callable[[], bool]
    drain: Callable[[], Awaitable[None]]


class Engine(asyncio.SubprocessProtocol):
    """A running engine. ``end`` is set once it is over."""

    def __init__(self, log: Path, listeners: Listeners) -> None:
        self.pid = 0
        self.log = log
        self.end: EngineExit | None = None
        self.refused: str | None = None
        """Why the host ended it by itself: bytes that are no frames, or no answer."""
        self.dismissed = False
        """Whether its end is what the host wanted."""
        self._listeners = listeners
        self._log_offset = log.stat().st_size if log.exists() else 0
        self._cgroup = find_memory_cgroup()
        self._oom_kills = self._cgroup.oom_kills() if self._cgroup else None
        self._frames = FrameReader()
        self._transport: asyncio.SubprocessTransport | None = None
        self._has_exited = self._is_silent = False
        self._over = asyncio.Event()
        self._draining: asyncio.Task[None] | None = None

    def send(self, command: Command) -> None:
        """Queue a command. To an engine that has just ended it does nothing: its end is on its way to ``on_exit``."""
        pipe = self._transport.get_pipe_transport(0) if self._transport else None
        if pipe is not None and not pipe.is_closing():
            cast("asyncio.WriteTransport", pipe).write(encode(command))

    def refuse(self, why: str) -> None:
        """End it at once because it does not do what it must."""
        if self.refused is None and not self._has_exited:
            self.refused = why
            self._kill()

    async def ended(self) -> None:
        """Wait until it is gone, and ``on_exit`` told."""
        await self._over.wait()

    async def dismiss(self, at_once: bool = False) -> None:
        """End it in good order, or with SIGKILL; returns when the process and its group are gone."""
        self.dismissed = True
        if not at_once:
            self.send(Quit())
            with contextlib.suppress(asyncio.TimeoutError):
                await asyncio.wait_for(self._over.wait(), _QUIT_GRACE_S)
        self._kill()
        await self._over.wait()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.SubprocessTransport", transport)
        self.pid = self._transport.get_pid()

    def pipe_data_received(self, descriptor: int, data: bytes) -> None:
        if descriptor != _OUTPUT or self.refused is not None:
            return
        try:
            for channel, payload in self._frames.feed(data):
                if channel == STREAM:
                    self._listeners.on_stream(payload)
                else:
                    self._listeners.on_event(decode_event(payload), payload)
        except FrameError as error:
            self.refuse(f"It sent what is not the protocol: {error}.")
        if self._draining is None and not self._listeners.is_flowing():
            self._draining = asyncio.create_task(self._hold_back())

    def pipe_connection_lost(self, descriptor: int, error: Exception | None) -> None:
        if descriptor == _OUTPUT:
            self._is_silent = True
            if self._has_exited:
                self._finish()
            else:
                # Without its output it can be of no more use. Not at once: a core being written is part of its end.
                asyncio.get_running_loop().call_later(_LAST_FRAMES_S, self._kill_if_running)

    def process_exited(self) -> None:
        self._has_exited = True
        # What it left behind in its group would keep the pipe open, and memory too.
        self._kill()
        if self._is_silent:
            self._finish()
        else:
            asyncio.get_running_loop().call_later(_LAST_FRAMES_S, self._finish)

    def _finish(self) -> None:
        if self.end is not None or self._transport is None:
            return
        code = self._transport.get_returncode()
        assert code is not None
        kills = self._cgroup.oom_kills() if self._cgroup else None
        end = engine_exit(code, self._oom_kills, kills, last_words(self.log, self._log_offset))
        self.end = end._replace(at=last_seen(self.log, self.pid))
        self._transport.close()
        self._over.set()
        self._listeners.on_exit(self)

    def _kill_if_running(self) -> None:
        if not self._has_exited:
            self._kill()

    def _kill(self) -> None:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, signal.SIGKILL)

    async def _hold_back(self) -> None:
        pipe = self._transport.get_pipe_transport(_OUTPUT) if self._transport else None
        reading = cast("asyncio.ReadTransport", pipe)
        if pipe is not None and not pipe.is_closing():
            reading.pause_reading()
        await self._listeners.drain()
        self._draining = None
        if pipe is not None and not pipe.is_closing():
            reading.resume_reading()


async def start_engine(command: Sequence[str], log: Path, listeners: Listeners, kv_file: int | None = None) -> Engine:
    """A new engine in a process group of its own. Raises OSError where the program cannot be started.

    ``kv_file``: descriptor of the memory file through which it hands a KV cache on to the next.
    """
    inherited = {} if kv_file is None else {KV_FILE_VARIABLE: str(kv_file)}
    engine = Engine(log, listeners)
    with _log_for(log) as errors:
        await asyncio.get_running_loop().subprocess_exec(
            lambda: engine,
            *command,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=errors,
            env={**os.environ, LOG_VARIABLE: str(log), **inherited},
            start_new_session=True,
            pass_fds=() if kv_file is None else (kv_file,),
        )
    return engine


@contextlib.contextmanager
def _log_for(log: Path) -> Iterator[int]:
    try:
        descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
    except OSError:
        descriptor = os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC)
    try:
        yield descriptor
    finally:
        os.close(descriptor)

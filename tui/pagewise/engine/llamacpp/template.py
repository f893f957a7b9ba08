"""The model's chat template: a program from a stranger, run under a deadline in a process of its own."""

from __future__ import annotations

import os
import resource
import select
import signal
import socket
import struct
import sys
import time
from collections.abc import Iterable
from typing import NamedTuple, NoReturn

import msgspec
import psutil  # type: ignore[import-untyped]  # it ships no types
from llama_cpp.llama_chat_format import Jinja2ChatFormatter

DEADLINE_S = 2.0
_MEMORY = 1 << 30
_LENGTH = struct.Struct(">Q")
_MOST = 256 * 1024 * 1024


class Message(msgspec.Struct, frozen=True):
    """What a template sees of a message."""

    role: str
    content: str


class Rendering(msgspec.Struct, frozen=True):
    """One conversation to render with one template."""

    template: str
    bos: str
    eos: str
    messages: tuple[Message, ...]


class Rendered(NamedTuple):
    """The prompt, or why there is none."""

    text: str | None
    why: str = ""
    timed_out: bool = False


class _Answer(msgspec.Struct, frozen=True):
    text: str | None
    why: str = ""
    timed_out: bool = False


class TemplateProcess:
    """Renders templates in a forked process, which the kernel ends when a template passes its deadline.

    Make it before any other thread exists. The process forks a worker for itself; a worker arms SIGALRM before it
    renders, so that not even a loop inside Jinja outlives the deadline, and is replaced by the next one.
    """

    def __init__(self, not_inherited: Iterable[int] = ()) -> None:
        """``not_inherited``: descriptors that the process must not keep open."""
        self._ours, theirs = socket.socketpair()
        self._pid = os.fork()
        if self._pid == 0:
            self._ours.close()
            for descriptor in not_inherited:
                os.close(descriptor)
            _serve(theirs)
        theirs.close()

    def render(self, rendering: Rendering) -> Rendered:
        """The prompt of ``rendering``, or why there is none; at most a little more than the deadline later."""
        payload = msgspec.msgpack.encode(rendering)
        try:
            self._ours.sendall(_LENGTH.pack(len(payload)) + payload)
            answer = _receive(self._ours, time.monotonic() + DEADLINE_S + 2.0)
        except (OSError, EOFError) as error:
            return Rendered(None, f"the process that renders chat templates has ended ({error})")
        decoded = msgspec.msgpack.decode(answer, type=_Answer)
        return Rendered(decoded.text, decoded.why, decoded.timed_out)

    def close(self) -> None:
        """End the process."""
        self._ours.close()
        os.kill(self._pid, signal.SIGKILL)
        os.waitpid(self._pid, 0)


def _receive(connection: socket.socket, until: float | None = None) -> bytes:
    """One length-prefixed payload. Raises EOFError at the end of the stream, TimeoutError after ``until``."""
    (length,) = _LENGTH.unpack(_exactly(connection, _LENGTH.size, until))
    if length > _MOST:
        raise EOFError("a payload that is too long")
    return _exactly(connection, length, until)


def _exactly(connection: socket.socket, count: int, until: float | None) -> bytes:
    data = bytearray()
    while len(data) < count:
        if until is not None and not select.select([connection], [], [], max(0.0, until - time.monotonic()))[0]:
            raise TimeoutError("no answer in time")
        piece = connection.recv(min(1 << 20, count - len(data)))
        if not piece:
            raise EOFError("the other end has closed")
        data += piece
    return bytes(data)


def _serve(connection: socket.socket) -> NoReturn:
    """The template process: keeps one worker running, and answers for one that the deadline has ended."""
    from pagewise.engine.process import die_with_host

    parent = os.getppid()
    die_with_host(parent)
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    while True:
        worker = os.fork()
        if worker == 0:
            die_with_host(os.getppid())
            _work(connection)
        _, status = os.waitpid(worker, 0)
        if not os.WIFSIGNALED(status):
            os._exit(0)
        number = os.WTERMSIG(status)
        late = number == signal.SIGALRM
        why = f"it was not done after {DEADLINE_S:g} seconds" if late else f"rendering it ended with signal {number}"
        try:
            _send(connection, _Answer(None, why, late))
        except OSError:
            os._exit(0)


def _work(connection: socket.socket) -> NoReturn:
    try:
        _limit_memory()
        made: dict[tuple[str, str, str], Jinja2ChatFormatter] = {}
        while True:
            request = msgspec.msgpack.decode(_receive(connection), type=Rendering)
            signal.setitimer(signal.ITIMER_REAL, DEADLINE_S)
            wanted = (request.template, request.bos, request.eos)
            try:
                if wanted not in made:
                    made = {wanted: Jinja2ChatFormatter(request.template, eos_token=request.eos, bos_token=request.bos)}
                messages = [{"role": message.role, "content": message.content} for message in request.messages]
                answer = _Answer(str(made[wanted](messages=messages).prompt))
            except Exception as error:  # a template may raise whatever it likes
                answer = _Answer(None, f"{type(error).__name__}: {error}"[:300])
            signal.setitimer(signal.ITIMER_REAL, 0)
            _send(connection, answer)
    finally:
        # Never back into the code of the engine that this process was forked from.
        os._exit(0)


def _send(connection: socket.socket, answer: _Answer) -> None:
    payload = msgspec.msgpack.encode(answer)
    connection.sendall(_LENGTH.pack(len(payload)) + payload)


def _limit_memory() -> None:
    """A template that builds an endless text ends with MemoryError, not with the box's memory."""
    now = psutil.Process().memory_info().vms
    if sys.platform.startswith("linux"):
        resource.setrlimit(resource.RLIMIT_AS, (now + _MEMORY, now + _MEMORY))

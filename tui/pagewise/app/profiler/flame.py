"""From folded stacks to a tree of frames, and where each frame lies in a graph so many cells wide."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

_THREAD = re.compile(r"^thread \((\d+)\)(?:: )?(.*)$")
_PLACE = re.compile(r"^(?P<name>.*) \((?P<place>[^()]*)\)$")
_SLEEPERS = (
    ("_read", "engine/channel.py"),
    ("next", "engine/loop.py"),
    ("wait", "threading.py"),
    ("_worker", "thread.py"),
    ("select", "selectors.py"),
    ("run", "queues.py"),
    ("get", "queue.py"),
    ("accept", "socket.py"),
)
"""Where a thread that has nothing to do waits: the innermost Python function, and the end of its file's path."""
_WAITS_FOR_DISK = (("_wait_for", "placement/streamer.py"), ("chosen", "placement/experts.py"))
"""Where the computing thread waits for weights that are streamed: it has something to do."""
_ADDRESS = re.compile(r"^0x[0-9a-f]+$")
_PLUMBING = frozenset(
    {
        *("PyCFuncPtr_call", "_ctypes_callproc", "_call_function_pointer", "ffi_call", "thread_run"),
        *("Thread._bootstrap", "Thread._bootstrap_inner", "Thread.run", "_bootstrap", "_bootstrap_inner"),
        *("__libc_start_main", "_start", "start_thread", "clone3", "clone"),
    }
)
UNNAMED = "(no symbol)"
MAX_DEPTH = 400
_TRUNK = 0.75


@dataclass
class Frame:
    """A frame with all that was called from it. ``samples`` holds those of its callees, ``own`` does not."""

    label: str
    parent: Frame | None = field(default=None, repr=False)
    samples: int = 0
    own: int = 0
    callees: dict[str, Frame] = field(default_factory=dict, repr=False)

    @property
    def depth(self) -> int:
        """0 for the root."""
        return sum(1 for _ in self.path()) - 1

    def path(self) -> Iterator[Frame]:
        """The frame, its caller, and so on to the root."""
        frame: Frame | None = self
        while frame is not None:
            yield frame
            frame = frame.parent

    def walk(self) -> Iterator[Frame]:
        """The frame and all below it, the widest first."""
        waiting = [self]
        while waiting:
            frame = waiting.pop()
            yield frame
            waiting += sorted(frame.callees.values(), key=lambda callee: callee.samples)

    def children(self) -> list[Frame]:
        """Callees, the widest first: the same order at every drawing."""
        return sorted(self.callees.values(), key=lambda callee: (-callee.samples, callee.label))


@dataclass(frozen=True)
class Stack:
    """One line of the folded text."""

    frames: tuple[str, ...]
    count: int

    @property
    def sleeps(self) -> bool:
        """Whether the thread waited where threads wait that have nothing to do."""
        python = [(name.rpartition(".")[2], file) for name, file in map(_python, reversed(self.frames)) if file]
        if not python or not _is_one(python[0], _SLEEPERS):
            return False
        return not any(_is_one(caller, _WAITS_FOR_DISK) for caller in python[1:3])


def _python(label: str) -> tuple[str, str]:
    """The function and its file, which is empty where it is no Python."""
    name, place = named(label)
    file = place.rpartition(":")[0]
    return name, file if file.endswith(".py") else ""


def _is_one(function: tuple[str, str], known: tuple[tuple[str, str], ...]) -> bool:
    return any(function[0] == name and function[1].endswith(end) for name, end in known)


def parse_folded(text: str) -> list[Stack]:
    """The stacks of a folded text; lines that are none are left out."""
    stacks = []
    for line in text.splitlines():
        frames, blank, number = line.rpartition(" ")
        if blank and frames and number.isascii() and number.isdigit() and len(number) < 12:
            stacks.append(Stack(tuple(frames.split(";"))[:MAX_DEPTH], int(number)))
    return stacks


def tree(stacks: list[Stack]) -> Frame:
    """All stacks joined at the root. Frames that differ in their line alone are one: a function, not its lines.

    The interpreter's own way into a program, into a thread and into C is left out; code without symbols is one frame.
    """
    root = Frame("all")
    for stack in stacks:
        frame = root
        frame.samples += stack.count
        for label in stack.frames:
            key = joined(label)
            if is_plumbing(label) or (key == frame.label and key.startswith(UNNAMED)):
                continue
            callee = frame.callees.get(key)
            if callee is None:
                callee = frame.callees[key] = Frame(key, frame)
            callee.samples += stack.count
            frame = callee
        frame.own += stack.count
    return root


def joined(label: str) -> str:
    """A frame's name without the line in its file, or without the address where it has no name."""
    name, place = named(label)
    if _ADDRESS.match(name) or name == "[unknown]":
        return f"{UNNAMED} ({place})" if place else UNNAMED
    file, colon, number = place.rpartition(":")
    return f"{name} ({file})" if colon and number.isdigit() else label


def is_plumbing(label: str) -> bool:
    """Whether a frame is the interpreter's own on the way into a program, a thread or C."""
    name, place = named(label)
    file = place.rpartition(":")[0] or place
    return (
        name in _PLUMBING
        or "libffi" in file
        or (file == "<frozen runpy>")
        or (bool(_ADDRESS.match(name)) and "/libc.so" in file)
    )


def named(label: str) -> tuple[str, str]:
    """The function, and the file or library it is in (empty where the label does not say)."""
    match = _PLACE.match(label)
    return (match["name"], match["place"]) if match else (label, "")


def library_of(label: str) -> str:
    """What a frame belongs to: ``pagewise``, ``python``, ``llama.cpp``, ``ggml``, ``CUDA``, ``system``, or its name."""
    if label == "all" or _THREAD.match(label):
        return "thread"
    _, place = named(label)
    file = place.rpartition(":")[0] or place
    low = file.lower()
    base = low.rpartition("/")[2]
    if low.endswith(".py"):
        package = re.search(r"(?:site-packages/|/tui/)([^/]+?)(?:\.py)?(?:/|$)", low)
        return package[1] if package and package[1] != "llama_cpp" else ("llama.cpp" if package else "python")
    for library, signs in _LIBRARIES:
        if any(sign in base for sign in signs):
            return library
    if not place or base.startswith("["):
        return "system"
    if re.search(r"(?:^|/)(?:modules|objects|python)/|python-\d", low):
        return "python"
    stem = re.match(r"(?:lib)?([\w+]+)", base)
    return stem[1] if stem else "system"


_LIBRARIES = (
    ("CUDA", ("libcuda", "libcudart", "libcublas", "libnv", "ggml-cuda", "libhip", "librocblas", "libamdhip")),
    ("ggml", ("ggml",)),
    ("llama.cpp", ("llama",)),
    ("python", ("libpython", "python3", "_ctypes", "libffi", "ceval")),
    ("system", ("libc.so", "libc-", "ld-linux", "libm.so", "libpthread", "libgomp", "libstdc++", "libgcc", "vdso")),
)


def short(label: str) -> str:
    """What is written into a frame."""
    thread = _THREAD.match(label)
    if thread:
        return thread[2] or f"thread {thread[1]}"
    name, place = named(label)
    return f"[{place.rpartition('/')[2]}]" if name == UNNAMED and place else name


@dataclass(frozen=True)
class Box:
    """Where a frame lies: ``start`` and ``end`` in eighths of a cell, ``row`` 0 is the top."""

    frame: Frame
    row: int
    start: int
    end: int


def layout(top: Frame, width: int) -> list[Box]:
    """Boxes of ``top`` and all below it over ``width`` cells, row by row; what is below an eighth is left out.

    Rounded edges are shared: neighbours neither overlap nor drift apart, and no callee reaches beyond its caller.
    """
    boxes: list[Box] = []
    if top.samples <= 0 or width <= 0:
        return boxes
    scale = 8 * width / top.samples
    waiting: list[tuple[Frame, int, int]] = [(top, 0, 0)]
    while waiting:
        row: list[tuple[Frame, int, int]] = []
        for frame, depth, first in waiting:
            start, end = round(first * scale), round((first + frame.samples) * scale)
            if end <= start:
                continue
            boxes.append(Box(frame, depth, start, end))
            at = first
            for callee in frame.children():
                row.append((callee, depth + 1, at))
                at += callee.samples
        waiting = row
    return boxes


def trunk_end(root: Frame) -> Frame:
    """The innermost frame that nearly all samples go through."""
    frame = root
    while frame.callees and (widest := frame.children()[0]).samples >= _TRUNK * root.samples:
        frame = widest
    return frame


def matching(root: Frame, words: str) -> list[Frame]:
    """Frames whose label holds ``words``, whatever their case; the widest first."""
    wanted = words.strip().lower()
    if not wanted:
        return []
    found = [frame for frame in root.walk() if frame.parent is not None and wanted in frame.label.lower()]
    return sorted(found, key=lambda frame: -frame.samples)


def samples_of(frames: list[Frame]) -> int:
    """Samples of these frames together: those of a frame inside another of them are counted once."""
    inside = {id(frame) for frame in frames}
    return sum(frame.samples for frame in frames if not any(id(above) in inside for above in list(frame.path())[1:]))

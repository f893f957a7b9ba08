"""Every process of the box that holds a GGUF model: by its mappings, its open files and its command line.

One round costs a few milliseconds for a hundred processes; the monitor makes one every few seconds.
"""

# ruff: noqa: PTH115, PTH116, PTH208 - a round follows a thousand links, and pathlib doubles the cost of each

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from pagewise.instruments.procfs import Mapping
from pagewise.monitor.command_line import OWN, CommandLine, parse_command_line
from pagewise.monitor.files import Files, GgufFile, Link
from pagewise.readings import Missing

MOST_OPEN_FILES = 4096
"""Descriptors of one process that are looked at: with more it is a database, and going through them costs too much."""
_GENERATIONS = 8
_LEAST_PRIVATE = 2 << 20
"""No program that has llama.cpp in it makes do with less private memory."""
_PAGE = os.sysconf("SC_PAGE_SIZE")
_ROUNDS_TRUSTED = 6
"""After so many rounds mappings are read again even where the address space has kept its size."""
_KERNEL_THREAD = 0x00200000
_ENDED = (b"Z", b"X")
_MAPPING = re.compile(
    rb"^([0-9a-f]+-[0-9a-f]+) r(?:w|-)-[sp] ([0-9a-f]+) ([0-9a-f]+:[0-9a-f]+) ([1-9][0-9]*) +(/[^\n]+)$", re.MULTILINE
)
"""A readable mapping of a file that is not program text."""
_LIBRARY = re.compile(rb"\.so(?:\.\d+)*$")
_NEVER = (b"/dev/", b"/memfd:", b"/SYSV", b"/[", b"/i915", b"/drm")
_ESCAPED = re.compile(r"\\([0-7]{3})")
_SOCKET = re.compile(r"^socket:\[(\d+)\]$")


class ProcessId(NamedTuple):
    """One process for ever: its number, and the clock tick at which it began, since numbers are used again."""

    pid: int
    started: int


class Holding(NamedTuple):
    """One GGUF file in the hands of one process."""

    file: GgufFile
    found_by: tuple[str, ...]
    mappings: tuple[Mapping, ...]

    @property
    def mapped_bytes(self) -> int:
        """Bytes of the file that have an address in the process."""
        return sum(mapping.end - mapping.start for mapping in self.mappings)


class Found(NamedTuple):
    """One process that holds a model."""

    id: ProcessId
    parent: int
    uid: int
    command: CommandLine
    holdings: tuple[Holding, ...]
    sockets: tuple[int, ...]
    """Inodes of its sockets; empty too where they may not be read."""
    missing: tuple[Missing, ...]


class Round(NamedTuple):
    """All that one round found."""

    found: tuple[Found, ...]
    hidden: int
    """Processes of others that could not be looked into, and whose command line names no model."""


class _Stat(NamedTuple):
    ended: bool
    """Only its exit status is still there, for its parent."""
    parent: int
    flags: int
    started: int
    address_space: int
    """Bytes: it is another number when something was mapped or unmapped, save by an exact exchange."""


class _Candidate(NamedTuple):
    """A file in an address space; a GGUF file or not."""

    key: object
    link: Link
    mappings: tuple[Mapping, ...]


class _Known(NamedTuple):
    """What is kept of a process from one round to the next, so that only what has changed is read."""

    own_root: bool
    address_space: int
    age: int
    mapped: tuple[_Candidate, ...] | None
    """None: they may not be read."""
    argv: bytes
    command: CommandLine


class Finder:
    """Goes through the processes. ``only``: look at this one alone, and report it even if it holds nothing."""

    def __init__(self, only: int | None = None) -> None:
        self._only = only
        self._files = Files()
        self._own_root = _link("/proc/self/ns/mnt")
        self._known: dict[ProcessId, _Known] = {}

    def look(self, on_device: frozenset[int] = frozenset()) -> Round:
        """One round. Processes ``on_device`` compute on a GPU: they are reported even if no file is in their hands."""
        self._files.begin()
        found: list[Found] = []
        hidden = 0
        known: dict[ProcessId, _Known] = {}
        parents: dict[int, int] = {}
        for pid in self._pids():
            try:
                status = _stat(pid)
                parents[pid] = status.parent
                if status.ended or status.flags & _KERNEL_THREAD or pid == os.getpid():
                    continue
                id = ProcessId(pid, status.started)
                known[id] = self._renewed(id, status)
                one = self._process(id, status, known[id])
            except (FileNotFoundError, ProcessLookupError):
                # It ended while it was being looked at.
                continue
            except PermissionError:
                hidden += 1
                continue
            if one.holdings or pid == self._only or pid in on_device:
                found.append(one)
            elif one.missing:
                hidden += 1
        self._files.end()
        self._known = known
        return Round(tuple(_without_launchers(found, parents)), hidden)

    def _pids(self) -> Iterator[int]:
        if self._only is not None:
            return iter((self._only,))
        return (int(name) for name in os.listdir("/proc") if name.isdigit())

    def _renewed(self, id: ProcessId, status: _Stat) -> _Known:
        former = self._known.get(id)
        own_root = former.own_root if former else self._same_root(id.pid)
        age = former.age + 1 if former else 0
        if former and former.address_space == status.address_space and age % _ROUNDS_TRUSTED:
            mapped = former.mapped
        else:
            mapped = _candidates(id.pid, own_root)
        argv = _read(f"/proc/{id.pid}/cmdline")
        command = former.command if former and former.argv == argv else _command_line(id.pid, argv)
        return _Known(own_root, status.address_space, age, mapped, argv, command)

    def _process(self, id: ProcessId, status: _Stat, known: _Known) -> Found:
        missing: list[Missing] = []
        gathered: dict[object, tuple[GgufFile, list[str], list[Mapping]]] = {}

        def take(file: GgufFile, found_by: str, mappings: tuple[Mapping, ...] = ()) -> None:
            entry = gathered.setdefault(file.identity or file.path, (file, [], []))
            if found_by not in entry[1]:
                entry[1].append(found_by)
            entry[2].extend(mappings)

        if known.mapped is None:
            missing.append(Missing("mappings", _right("mappings", id.pid)))
        for candidate in known.mapped or ():
            file = self._files.held(candidate.key, candidate.link)
            if file is not None:
                take(file, "mapping", candidate.mappings)
        sockets: list[int] = []
        try:
            for file in self._opened(id.pid, known.own_root, sockets):
                take(file, "open file")
        except PermissionError:
            missing.append(Missing("open files", _right("open files", id.pid)))
        for file in self._named(id.pid, known.own_root, known.command):
            former = [entry[0] for entry in gathered.values() if entry[0].path == file.path]
            # What is held is the file that had this name when it was loaded, not the one that has it now.
            if all(one.state not in ("deleted", "replaced") for one in former):
                take(file, "command line")
        holdings = tuple(
            Holding(file, tuple(found_by), tuple(mappings)) for file, found_by, mappings in gathered.values()
        )
        if holdings and _only_named(holdings) and _private_bytes(id.pid) < _LEAST_PRIVATE:
            # `flock`, `timeout`, a shell: it passes the argument on.
            holdings = ()
        if known.command.program == OWN and not known.command.is_engine:
            # A host or monitor keeps the files open that it watches: it has no model.
            holdings = tuple(holding for holding in holdings if holding.mappings)
        return Found(id, status.parent, _owner(id.pid), known.command, holdings, tuple(sockets), tuple(missing))

    def _opened(self, pid: int, own_root: bool, sockets: list[int]) -> Iterator[GgufFile]:
        folder = f"/proc/{pid}/fd"
        for entry in os.listdir(folder)[:MOST_OPEN_FILES]:
            direct = f"{folder}/{entry}"
            target = _link(direct)
            socket = _SOCKET.match(target)
            if socket:
                sockets.append(int(socket[1]))
            if not target.startswith("/") or target.startswith(("/dev/", "/proc/", "/sys/", "/memfd:")):
                continue
            try:
                # The link's own mode says how it was opened: what is only written to is not a model in use.
                if not os.lstat(direct).st_mode & 0o400:
                    continue
                status = os.stat(direct)
            except OSError:
                # It was closed meanwhile.
                continue
            file = self._files.held(("open", status.st_dev, status.st_ino, target), Link(target, pid, own_root, direct))
            if file is not None:
                yield file

    def _named(self, pid: int, own_root: bool, command: CommandLine) -> Iterator[GgufFile]:
        for argument in command.models:
            path = argument
            if not path.startswith("/"):
                folder = _link(f"/proc/{pid}/cwd")
                if not folder and not path.endswith(".gguf"):
                    continue
                path = os.path.normpath(f"{folder}/{path}") if folder else path
            file = self._files.named(path, Link(path, pid, own_root, ""))
            if file is not None:
                yield file

    def _same_root(self, pid: int) -> bool:
        # Where that may not be read, the process is most likely one of this machine's own users.
        return _link(f"/proc/{pid}/ns/mnt") in ("", self._own_root) and _link(f"/proc/{pid}/root") in ("", "/")


def socket_inodes(pid: int) -> tuple[int, ...]:
    """Inodes of the sockets that process ``pid`` has open; none where they may not be read."""
    folder = f"/proc/{pid}/fd"
    try:
        entries = os.listdir(folder)
    except OSError:
        return ()
    found = (_SOCKET.match(_link(f"{folder}/{entry}")) for entry in entries[:MOST_OPEN_FILES])
    return tuple(int(socket[1]) for socket in found if socket)


def started(pid: int) -> int | None:
    """The clock tick at which process ``pid`` began; None if there is none, or only its exit status is left."""
    try:
        status = _stat(pid)
    except OSError:
        return None
    return None if status.ended else status.started


def _without_launchers(found: list[Found], parents: dict[int, int]) -> Iterator[Found]:
    """``sudo``, ``timeout``, ``numactl`` and their like have the model on their command line, not in their hands."""
    launching: dict[int, set[object]] = {}
    for one in found:
        held = {holding.file.identity for holding in one.holdings}
        pid = parents.get(one.id.pid, 0)
        for _ in range(_GENERATIONS):
            if pid <= 1:
                break
            launching.setdefault(pid, set()).update(held)
            pid = parents.get(pid, 0)
    for one in found:
        held = {holding.file.identity for holding in one.holdings}
        if not (held and _only_named(one.holdings) and held <= launching.get(one.id.pid, set())):
            yield one


def _only_named(holdings: Iterable[Holding]) -> bool:
    return all(holding.found_by == ("command line",) for holding in holdings)


def _private_bytes(pid: int) -> int:
    """Resident memory that is no file's, and what of it was swapped out."""
    _, resident, shared, *_ = map(int, _read(f"/proc/{pid}/statm").split())
    swapped = re.search(rb"^VmSwap:\s+(\d+) kB", _read(f"/proc/{pid}/status"), re.MULTILINE)
    return (resident - shared) * _PAGE + (1024 * int(swapped[1]) if swapped else 0)


def _read(path: str) -> bytes:
    with open(path, "rb", buffering=0) as file:
        return file.readall() or b""


def _candidates(pid: int, own_root: bool) -> tuple[_Candidate, ...] | None:
    try:
        text = _read(f"/proc/{pid}/maps")
    except PermissionError:
        return None
    files: dict[object, tuple[Link, list[Mapping]]] = {}
    for span, offset, device, inode, raw in _MAPPING.findall(text):
        if raw.startswith(_NEVER) or _LIBRARY.search(raw):
            continue
        start, _, end = span.partition(b"-")
        mapping = Mapping(int(start, 16), int(end, 16), int(offset, 16))
        key = ("mapped", device, inode, raw)
        if key not in files:
            direct = f"/proc/{pid}/map_files/{span.decode()}"
            files[key] = (Link(_unescaped(os.fsdecode(raw)), pid, own_root, direct), [])
        files[key][1].append(mapping)
    return tuple(_Candidate(key, link, tuple(mappings)) for key, (link, mappings) in files.items())


def _stat(pid: int) -> _Stat:
    fields = _read(f"/proc/{pid}/stat").rpartition(b")")[2].split()
    if len(fields) < 21:
        raise ProcessLookupError(pid)
    return _Stat(fields[0] in _ENDED, int(fields[1]), int(fields[6]), int(fields[19]), int(fields[20]))


def _owner(pid: int) -> int:
    return os.stat(f"/proc/{pid}").st_uid


def _command_line(pid: int, raw: bytes) -> CommandLine:
    argv = [os.fsdecode(argument) for argument in raw.removesuffix(b"\0").split(b"\0")] if raw else []
    return parse_command_line(argv, os.fsdecode(_read(f"/proc/{pid}/comm").strip()))


def _link(path: str) -> str:
    try:
        return os.readlink(path)
    except OSError:
        return ""


def _unescaped(name: str) -> str:
    # The kernel writes a line end in a file's name as \012.
    return _ESCAPED.sub(lambda match: chr(int(match[1], 8)), name) if "\\" in name else name


def _right(what: str, pid: int) -> str:
    return (
        f"Its {what} may be read by its owner or by root alone: "
        f"`sudo pagewise monitor --pid {pid}`, or give this program CAP_SYS_PTRACE."
    )

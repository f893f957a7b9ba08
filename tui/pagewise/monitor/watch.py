"""Samples of every model on the box: finds the processes every few seconds, and reads them at each sample."""

from __future__ import annotations

import platform
import socket
import time
from collections.abc import Iterable, Sequence
from pathlib import Path

from pagewise.instruments.devices import DevicesInstrument, Shares
from pagewise.instruments.residency import BUDGET_MS_PER_S, ModelFile, ResidencyInstrument
from pagewise.instruments.system import SystemInstrument
from pagewise.models.gguf import GgufError, printable, read_header
from pagewise.models.layers import layer_ranges
from pagewise.monitor.choice import Choice
from pagewise.monitor.files import GgufFile, Identity
from pagewise.monitor.held import Group, Headers, describe
from pagewise.monitor.http import parse_url
from pagewise.monitor.own_engine import OF_OTHERS, Inside, OwnEngines
from pagewise.monitor.poller import Poller
from pagewise.monitor.processes import Finder, Found, Holding, ProcessId, socket_inodes, started
from pagewise.monitor.sockets import Listener, listeners, of_process
from pagewise.monitor.tracked import Context, Ended, TrackedProcess
from pagewise.readings import (
    MONITOR_SCHEMA,
    Devices,
    HeldModel,
    Missing,
    MonitorSample,
    Residency,
    ServerReadings,
    WatchedModel,
)

SCAN_EVERY_S = 5.0
MOST_IN_FULL = 16
"""Processes that are read in full at once: each keeps about a dozen descriptors open."""
_SCAN_SHARE = 0.01
"""A round may take this share of the time at most: where it is dearer, it is made less often."""
_INITIAL_PID_NAMESPACE = "pid:[4026531836]"
_SERVES = ("llama", "Ollama", "LM Studio", "koboldcpp", "vllm", "sglang")
"""Programs that are known to answer over HTTP; others are only asked at the port that their command line names."""
_ASK = "it listens on port {port}, but is not known to be a server of models: `--url {url}` asks it"


class Watch:
    """``sample`` reads everything that was chosen. For one thread."""

    def __init__(self, choice: Choice, interval_s: float = 1.0, inside: Inside | None = None) -> None:
        """``inside``: of the engine of the host that this process is, if it is one."""
        self._choice = choice
        self._interval_s = interval_s
        self._finder = Finder(choice.pid)
        self._headers = Headers()
        self._poller = Poller()
        self._devices = DevicesInstrument()
        self._shares = Shares({}, frozenset(), told=False)
        self._system = SystemInstrument()
        self._own = OwnEngines(inside)
        self._tracked: dict[ProcessId, TrackedProcess] = {}
        self._urls: dict[ProcessId, str] = {}
        self._no_server: dict[ProcessId, str] = {}
        self._hidden = 0
        self._file: ResidencyInstrument | None = None
        self._scanned_s = float("-inf")
        self._scan_cost_s = 0.0
        self._sampled_s: float | None = None
        self._knows_pids = _link("/proc/self/ns/pid") in ("", _INITIAL_PID_NAMESPACE)
        self._hostname = printable(socket.gethostname())
        self._started = started(choice.pid) if choice.pid is not None else None

    def sample(self) -> MonitorSample:
        """All readings now."""
        cpu = time.thread_time()
        now = time.monotonic()
        ended: list[WatchedModel] = []
        self._shares = self._devices.shares()
        scan = now - self._scanned_s >= max(SCAN_EVERY_S, self._scan_cost_s / _SCAN_SHARE)
        if scan:
            ended += self._scan()
            self._scanned_s = now
            self._scan_cost_s = time.thread_time() - cpu
        self._poll()
        devices = self._devices.sample(None)
        memory = self._system.sample()
        found: list[WatchedModel] = []
        for id, tracked in list(self._tracked.items()):
            url = self._urls.get(id)
            context = Context(
                at_s=now,
                memory=memory,
                vram=lambda pid: self._vram(pid, devices),
                has_devices=bool(devices.devices),
                server=self._poller.latest(url) if url else None,
                server_missing=self._no_server.get(id, "it listens on no port"),
                engine=self._own.read(tracked.found) if tracked.found.command.is_engine else OF_OTHERS,
            )
            try:
                found.append(tracked.sample(context, scan))
            except Ended:
                ended.append(tracked.ended())
                self._forget(id)
        found += self._without_process(found)
        interval = now - self._sampled_s if self._sampled_s is not None else 0.0
        self._sampled_s = now
        return MonitorSample(
            schema=MONITOR_SCHEMA,
            time_s=time.time(),
            interval_s=interval,
            hostname=self._hostname,
            system=f"{platform.system()} {platform.release()}",
            models=tuple(sorted(found, key=_importance)) + tuple(ended),
            devices=devices,
            memory=memory,
            scan_age_s=now - self._scanned_s,
            cost_ms=1000.0 * (time.thread_time() - cpu),
            missing=self._missing(),
        )

    def ask_servers(self, within_s: float) -> None:
        """Ask the servers that are due now, and wait for their answers, but no longer than this."""
        self._poll()
        self._poller.settle(within_s)

    def scan_soon(self) -> None:
        """The next sample goes through all processes again."""
        self._scanned_s = float("-inf")

    def close(self) -> None:
        """Let go of everything."""
        self._poller.close()
        for tracked in self._tracked.values():
            tracked.close()
        self._tracked.clear()
        self._system.close()
        if self._file is not None:
            self._file.close()

    # ---- finding ----------------------------------------------------------------------------------------------------

    def _scan(self) -> list[WatchedModel]:
        round = self._finder.look(self._shares.computing if self._knows_pids else frozenset())
        self._hidden = round.hidden
        table, no_table = _listeners()
        chosen = [one for one in round.found if self._is_chosen(one, table)]
        by_size = sorted(chosen, key=lambda one: (-_bytes(one), one.id))
        budgets = _budgets(by_size[:MOST_IN_FULL])
        ended = []
        for id in self._tracked.keys() - {one.id for one in chosen}:
            if started(id.pid) != id.started:
                ended.append(self._tracked[id].ended())
            self._forget(id)
        for one in chosen:
            if one.id in self._tracked:
                self._tracked[one.id].update(one, one.id in budgets, budgets.get(one.id, 0.0))
            else:
                self._tracked[one.id] = TrackedProcess(one, self._headers, one.id in budgets, budgets.get(one.id, 0.0))
            self._find_server(one, table, no_table)
        return ended

    def _is_chosen(self, one: Found, table: Sequence[Listener]) -> bool:
        if self._choice.pid is not None and one.id.started != self._started:
            return False
        if self._choice.file is not None and not any(self._is_file(holding.file) for holding in one.holdings):
            return False
        return self._choice.url is None or self._choice.pid is not None or self._serves_url(one, table)

    def _is_file(self, file: GgufFile) -> bool:
        assert self._choice.file is not None
        try:
            status = self._choice.file.stat()
        except OSError:
            return file.path == str(self._choice.file)
        return file.identity == (status.st_dev, status.st_ino) or file.path == str(self._choice.file)

    def _serves_url(self, one: Found, table: Sequence[Listener]) -> bool:
        assert self._choice.url is not None
        address = parse_url(self._choice.url)
        if address.host not in {"localhost", self._hostname, *(entry.address for entry in table)}:
            return False
        return any(entry.port == address.port for entry in _listening(one, table))

    def _find_server(self, one: Found, table: Sequence[Listener], no_table: str) -> None:
        self._urls.pop(one.id, None)
        self._no_server.pop(one.id, None)
        if self._choice.url is not None:
            self._urls[one.id] = self._choice.url
            return
        listening = _listening(one, table)
        named = [entry for entry in listening if entry.port == one.command.port]
        known = any(mark in one.command.program for mark in _SERVES)
        if named or (listening and known):
            self._urls[one.id] = (named or listening)[0].url
        elif listening:
            self._no_server[one.id] = _ASK.format(port=listening[0].port, url=listening[0].url)
        elif no_table:
            self._no_server[one.id] = no_table
        elif one.command.port is not None:
            self._no_server[one.id] = (
                f"its command line names port {one.command.port}, but nothing of it listens there: "
                "it is still starting, or in a network of its own (a container)"
            )
        elif one.missing:
            self._no_server[one.id] = "its sockets may be read by its owner or by root alone"

    def _forget(self, id: ProcessId) -> None:
        self._tracked.pop(id).close()
        self._own.forget(id)
        self._urls.pop(id, None)
        self._no_server.pop(id, None)

    # ---- reading ----------------------------------------------------------------------------------------------------

    def _poll(self) -> None:
        wanted = {url: "Ollama" if self._program(id) == "Ollama" else "" for id, url in self._urls.items()}
        if self._choice.url is not None:
            wanted[self._choice.url] = ""
        self._poller.want(wanted.items())

    def _program(self, id: ProcessId) -> str:
        return self._tracked[id].found.command.program

    def _vram(self, pid: int, devices: Devices) -> tuple[int | None, str]:
        if not devices.devices:
            return None, devices.why_none or "There is no device."
        total = self._devices.bytes_of(pid, self._shares)
        if total is None:
            return None, "The driver does not tell what one process has."
        if not total and not self._knows_pids:
            return None, "In this container the driver's process numbers are those of the machine outside."
        return total, ""

    def _without_process(self, found: Sequence[WatchedModel]) -> list[WatchedModel]:
        """The chosen file that no process holds; the chosen server that is not one of the processes here."""
        if found or self._choice.pid is not None:
            return []
        server: ServerReadings | None = None
        if self._choice.url is not None:
            server = self._poller.latest(self._choice.url)
        if self._choice.file is not None:
            return [self._file_alone(self._choice.file, server)]
        if server is None:
            return []
        why = "No process of this box that may be read listens there."
        return [_line(server.kind or "server", server, [Missing("process", why)])]

    def _file_alone(self, path: Path, server: ServerReadings | None) -> WatchedModel:
        missing = [Missing("process", "No process that may be read holds this file.")]
        try:
            status = path.stat()
            file = GgufFile(
                printable(str(path)), path, Identity(status.st_dev, status.st_ino), status.st_size, "present"
            )
            one = Group((Holding(file, ("--file",), ()),), (self._headers.read(file),))
            if self._file is None:
                self._file = ResidencyInstrument(
                    [ModelFile(path, layer_ranges(read_header(path, complete=False)))], None
                )
        except (GgufError, OSError) as error:
            missing.append(Missing("residency", printable(str(error))))
            return _line("no process", server, missing)
        described = describe(one, "unknown", "it may not be read", "No process that may be read holds it.")
        return _line("no process", server, missing, (described,), (self._file.sample(),))

    def _missing(self) -> tuple[Missing, ...]:
        if not self._hidden:
            return ()
        many = "1 process" if self._hidden == 1 else f"{self._hidden} processes"
        why = f"{many} could not be looked into: that takes their owner, root, or CAP_SYS_PTRACE."
        return (Missing("models", why),)


def _line(
    program: str,
    server: ServerReadings | None,
    missing: Sequence[Missing],
    models: tuple[HeldModel, ...] = (),
    residency: tuple[Residency, ...] = (),
) -> WatchedModel:
    """What no process is known of."""
    return WatchedModel(
        pid=None,
        started_ticks=None,
        user="",
        program=program,
        state="none",
        models=models,
        residency=residency,
        server=server,
        missing=tuple(missing),
    )


def _bytes(one: Found) -> int:
    return sum(holding.file.bytes or 0 for holding in one.holdings)


def _budgets(full: Sequence[Found]) -> dict[ProcessId, float]:
    """CPU time for the residency of each process, ms a second: half of it in equal parts, half by size."""
    whole = sum(map(_bytes, full))
    equal = BUDGET_MS_PER_S / max(1, len(full))
    return {one.id: equal if not whole else (equal + BUDGET_MS_PER_S * _bytes(one) / whole) / 2 for one in full}


def _importance(model: WatchedModel) -> tuple[int, int]:
    """The largest first; in the same order from sample to sample."""
    size = max((held.file_bytes or 0 for held in model.models), default=0)
    return (-size, model.pid or 0)


def _listening(one: Found, table: Iterable[Listener]) -> tuple[Listener, ...]:
    """Where a process serves. Ollama's own server is the parent of the process that has the model."""
    table = tuple(table)
    if one.command.program == "Ollama":
        parents = of_process(socket_inodes(one.parent), table)
        if parents:
            return parents
    own = of_process(one.sockets, table)
    if own or one.command.port is None or not one.missing:
        return own
    # Its sockets may not be read; a socket of its user on the very port that its command line names is its own.
    return tuple(entry for entry in table if entry.port == one.command.port and entry.uid == one.uid)


def _listeners() -> tuple[tuple[Listener, ...], str]:
    try:
        return listeners(), ""
    except OSError as error:
        return (), f"the kernel's list of sockets cannot be read: {error.strerror}"


def _link(path: str) -> str:
    try:
        return str(Path(path).readlink())
    except OSError:
        return ""

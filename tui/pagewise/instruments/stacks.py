"""Sampled stacks of one process: py-spy for Python ones, perf for native ones, and what stands in their way.

py-spy walks Python's own threads. Threads that native code made, such as ggml's for computing, are invisible to it:
how many of them ran meanwhile is counted from ``/proc/PID/task``.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import platform
import re
import shlex
import shutil
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

from pagewise.instruments.folded import fold_perf, thread_ids
from pagewise.readings import StackProfile

RATE_HZ = 100
PERF_HZ = 99
"""Not a hundred: in step with the kernel's own clock it would see the same moment again and again."""
LONGEST_S = 120.0
_PATIENCE_S = 60.0
"""For symbols to be read before, and stacks to be written after the recording."""
_NOT_PYTHON = ("Failed to find python version", "not a python process")
_NO_RIGHT = ("Permission Denied", "Operation not permitted", "EPERM", "requires root", "run as root")
_GONE = ("No such process", "No such file or directory", "Failed to open process", "ESRCH", "process running")
_NO_NATIVE = ("native", "unwind", "libunwind")
_FAULTS = re.compile(r"Errors: (\d+)")


class StacksError(Exception):
    """No stacks can be had: what happened, why, and what to do next."""

    def __init__(self, what: str, why: str, next: str) -> None:
        super().__init__(f"{what}: {why} {next}")
        self.what, self.why, self.next = what, why, next


class Ground(NamedTuple):
    """What decides on the right to look into another process."""

    system: str
    """``Linux``, ``Darwin``."""
    yama: int | None
    """``ptrace_scope``; None: this kernel has no Yama."""
    is_root: bool
    same_user: bool
    in_container: bool


class _Ran(NamedTuple):
    code: int
    words: str
    output: str = ""


async def record_stacks(pid: int, seconds: float) -> StackProfile:
    """Stacks of process ``pid`` for so long. Raises StacksError. What it started ends with it, also when cancelled."""
    seconds = min(max(seconds, 0.5), LONGEST_S)
    program = _program(pid)
    with tempfile.TemporaryDirectory(prefix="pagewise-stacks-") as folder:
        return await _record(pid, program, seconds, Path(folder))


async def _record(pid: int, program: str, seconds: float, folder: Path) -> StackProfile:
    py_spy = find_py_spy()
    if py_spy is None:
        raise StacksError(
            "py-spy is not installed",
            "pagewise records stacks with it, and it is neither beside this Python nor on the PATH.",
            f"Install it: {shlex.quote(sys.executable)} -m pip install py-spy",
        )
    output = folder / "stacks.folded"
    notes: list[str] = []
    native = platform.system() != "Darwin"
    before, started = thread_ticks(pid), time.monotonic()
    ran = await _run(py_spy_command(py_spy, pid, seconds, output, native), seconds)
    if ran.code and native and any(word in ran.words for word in _NO_NATIVE) and not _says(ran, _NO_RIGHT):
        native = False
        notes.append("Native frames cannot be had here: Python's own are shown.")
        before, started = thread_ticks(pid), time.monotonic()
        ran = await _run(py_spy_command(py_spy, pid, seconds, output, native), seconds)
    elapsed = time.monotonic() - started
    after = thread_ticks(pid)
    if not after:
        elapsed = min(elapsed, seconds)
        notes.append("The process ended while it was recorded.")
    folded = output.read_text(encoding="utf-8", errors="replace") if output.exists() else ""
    if not folded:
        if _says(ran, _NOT_PYTHON):
            return await _perf(pid, program, seconds, folder)
        raise explain(ran.words, ground(pid), py_spy_command(py_spy, pid, seconds, Path(f"{program}.folded"), native))
    faults = _FAULTS.search(ran.words)
    if faults and int(faults[1]):
        notes.append(f"{faults[1]} samples could not be read.")
    unseen, cores = unseen_threads(before, after, thread_ids(folded), elapsed)
    return StackProfile(
        pid=pid,
        program=program,
        tool="py-spy",
        rate_hz=RATE_HZ,
        seconds=min(seconds, elapsed),
        native=native,
        folded=folded,
        unseen_threads=unseen,
        unseen_cores=cores,
        notes=tuple(notes),
    )


async def _perf(pid: int, program: str, seconds: float, folder: Path) -> StackProfile:
    """A native process: perf sees all of its threads."""
    wanted = (
        f"sudo perf record -F {PERF_HZ} -g -p {pid} -o {program}.perf -- sleep {seconds:g} && "
        f"sudo perf script -i {program}.perf"
    )
    perf = shutil.which("perf")
    if perf is None:
        system = platform.system()
        raise StacksError(
            f"{program} is a native program, and perf is not installed",
            "py-spy reads Python processes only; stacks of native ones are taken by the kernel's perf.",
            f"Install perf (package linux-perf or linux-tools), then F8 again; or by hand: {wanted}"
            if system == "Linux"
            else f"On {system} use its own profiler: sample {pid} {seconds:g}",
        )
    data = folder / "perf.data"
    record = [perf, "record", "-F", str(PERF_HZ), "-g", "-p", str(pid), "-o", str(data)]
    ran = await _run([*record, "--", "sleep", f"{seconds:g}"], seconds)
    if not ran.code:
        ran = await _run([perf, "script", "-i", str(data), "-F", "comm,tid,ip,sym,dso"], seconds)
    folded = fold_perf(ran.output)
    if not folded:
        what = f"{program} cannot be recorded"
        paranoid = _number("/proc/sys/kernel/perf_event_paranoid")
        if not ran.code:
            raise StacksError(what, "None of its threads ran meanwhile.", "Record while it answers something.")
        refused = any(word in ran.words.lower() for word in ("access", "permission", "permitted"))
        why = f"perf says: {_first(ran.words) or 'nothing'}."
        if refused and paranoid is not None:
            why = f"The kernel does not allow it (kernel.perf_event_paranoid is {paranoid})."
        raise StacksError(what, why, f"In another terminal: {wanted}")
    return StackProfile(
        pid=pid,
        program=program,
        tool="perf",
        rate_hz=PERF_HZ,
        seconds=seconds,
        native=True,
        folded=folded,
        unseen_threads=0,
        unseen_cores=0.0,
        notes=(
            "Threads are counted while they run; stacks are cut short where code was built without frame pointers.",
        ),
    )


def find_py_spy() -> str | None:
    """The program: beside this Python, or on the PATH."""
    return shutil.which("py-spy", path=str(Path(sys.executable).parent)) or shutil.which("py-spy")


def py_spy_command(py_spy: str, pid: int, seconds: float, output: Path, native: bool) -> list[str]:
    """``--idle`` because a thread that waits for a page from disk counts as idle, and would be left out."""
    return [
        *(py_spy, "record", "--pid", str(pid), "--duration", str(max(1, round(seconds)))),
        *("--rate", str(RATE_HZ), "--format", "raw", "--output", str(output)),
        *("--idle", "--threads", "--full-filenames"),
        *(["--native"] if native else []),
    ]


def explain(words: str, ground: Ground, command: list[str]) -> StacksError:
    """Why py-spy did not get in, from what it said and who we are, with the command that would."""
    sudo = f"sudo {shlex.join(command)}"
    what = "The stacks of this process cannot be read"
    if not any(sign in words for sign in _NO_RIGHT):
        if any(sign in words for sign in _GONE):
            return StacksError(what, "It has ended.", "Choose another one, or begin again once it runs.")
        return StacksError(what, f"py-spy says: {_first(words) or 'nothing'}.", f"In another terminal: {sudo}")
    if ground.system == "Darwin":
        return StacksError(what, "macOS lets only root look into another process.", f"In another terminal: {sudo}")
    if ground.yama == 3:
        why = "This kernel forbids it to everybody until the next start (kernel.yama.ptrace_scope is 3)."
        return StacksError(what, why, "Set kernel.yama.ptrace_scope to 1 in /etc/sysctl.d and start the machine again.")
    if ground.in_container and ground.is_root:
        why = "This container may not look into processes."
        return StacksError(what, why, "Start it with --cap-add SYS_PTRACE, or record on the machine itself.")
    if not ground.same_user:
        return StacksError(what, "It belongs to another user.", f"In another terminal: {sudo}")
    if ground.yama == 2:
        return StacksError(what, "Only root may look (kernel.yama.ptrace_scope is 2).", f"In another terminal: {sudo}")
    if ground.yama == 1:
        why = "A process may only look into those that it started itself (kernel.yama.ptrace_scope is 1)."
        return StacksError(
            what,
            why,
            f"In another terminal: {sudo}\nFor all, until the next start: sudo sysctl kernel.yama.ptrace_scope=0",
        )
    contained = " Inside a container, start it with --cap-add SYS_PTRACE." if ground.in_container else ""
    return StacksError(what, "The system does not allow it.", f"In another terminal: {sudo}{contained}")


def ground(pid: int) -> Ground:
    """Who we are to process ``pid``."""
    try:
        owner = Path(f"/proc/{pid}").stat().st_uid
    except OSError:
        owner = os.geteuid()
    return Ground(
        system=platform.system(),
        yama=_number("/proc/sys/kernel/yama/ptrace_scope"),
        is_root=os.geteuid() == 0,
        same_user=owner == os.geteuid(),
        in_container=Path("/.dockerenv").exists() or Path("/run/.containerenv").exists(),
    )


def thread_ticks(pid: int) -> dict[int, int]:
    """CPU time of each thread in clock ticks, by its id; empty where there is no such process, or no ``/proc``."""
    found: dict[int, int] = {}
    with contextlib.suppress(OSError):
        for task in Path(f"/proc/{pid}/task").iterdir():
            with contextlib.suppress(OSError, ValueError, IndexError):
                fields = (task / "stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
                found[int(task.name)] = int(fields[11]) + int(fields[12])
    return found


def unseen_threads(
    before: dict[int, int], after: dict[int, int], seen: frozenset[int], seconds: float
) -> tuple[int | None, float | None]:
    """How many threads ran that are not among those ``seen``, and how many cores they kept busy."""
    if not after or seconds <= 0:
        return None, None
    hidden = [after[thread] - before.get(thread, 0) for thread in after if thread not in seen]
    ran = [ticks for ticks in hidden if ticks > 0]
    return len(ran), sum(ran) / os.sysconf("SC_CLK_TCK") / seconds


async def _run(command: list[str], seconds: float) -> _Ran:
    """Run a tool to its end. It is killed when it takes far longer than it was told, or nobody waits any more."""
    pipe = asyncio.subprocess.PIPE
    try:
        process = await asyncio.create_subprocess_exec(
            *command, stdin=asyncio.subprocess.DEVNULL, stdout=pipe, stderr=pipe
        )
    except OSError as error:
        return _Ran(127, f"{command[0]} cannot be started: {error.strerror or error}")
    try:
        output, errors = await asyncio.wait_for(process.communicate(), seconds + _PATIENCE_S)
    except asyncio.TimeoutError:
        return _Ran(124, f"{Path(command[0]).name} did not end in time")
    finally:
        await _end(process)
    return _Ran(process.returncode or 0, errors.decode("utf-8", "replace"), output.decode("utf-8", "replace"))


async def _end(process: asyncio.subprocess.Process) -> None:
    if process.returncode is None:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()


def _program(pid: int) -> str:
    try:
        return re.sub(r"[^\w.+-]", "_", Path(f"/proc/{pid}/comm").read_text(encoding="utf-8", errors="replace").strip())
    except OSError:
        if platform.system() == "Linux":
            raise StacksError(
                "The stacks of this process cannot be read", f"There is no process {pid}.", "Choose another one."
            ) from None
        return "process"


def _says(ran: _Ran, signs: tuple[str, ...]) -> bool:
    return any(sign in ran.words for sign in signs)


def _first(words: str) -> str:
    """The first line that tells a reason."""
    lines = [line.strip().removeprefix("Error: ") for line in words.splitlines()]
    return next((line.rstrip(".") for line in lines if line and not line.startswith("py-spy>")), "")


def _number(path: str) -> int | None:
    try:
        return int(Path(path).read_text(encoding="ascii"))
    except (OSError, ValueError):
        return None

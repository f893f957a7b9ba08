"""Whose memory of an NVIDIA device it is: total, used, and what each process has, from NVML.

NVML's pids are those of the machine: inside a container ours is not among them, and our share is then the growth of the
used memory since before our backend was up, marked as an estimate.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from typing import Any, NamedTuple

from pagewise.instruments.nvml import Questions

_COMPUTE_LISTS = (
    ("nvmlDeviceGetComputeRunningProcesses_v3", "nvmlDeviceGetComputeRunningProcesses_v2"),
    ("nvmlDeviceGetMPSComputeRunningProcesses_v3", "nvmlDeviceGetMPSComputeRunningProcesses_v2"),
)
_GRAPHICS_LISTS = (("nvmlDeviceGetGraphicsRunningProcesses_v3", "nvmlDeviceGetGraphicsRunningProcesses_v2"),)
"""Each list by its names, the newest first: version 2 is for drivers before 510."""


class DeviceProcess(NamedTuple):
    """A process that has memory on a device; ``bytes`` None where the driver does not tell how much."""

    pid: int
    bytes: int | None
    computes: bool
    """False: it only draws on a screen."""


class VramQuestions:
    """Memory of one device. ``processes`` may be asked of another handle than the memory: a part of a divided device
    (MIG) has memory of its own, but some drivers list processes for the whole alone; ``instance`` picks its own then.
    """

    def __init__(self, nvml: Any, questions: Questions, whole: Questions | None = None, instance: int | None = None):
        self._nvml = nvml
        self._questions = questions
        self._whole = whole
        self._instance = instance
        self._baseline: int | None = None

    def mark_baseline(self) -> None:
        """Remember what is used now: estimates of our share count from here."""
        memory = self.memory()
        self._baseline = memory[1] if memory else None

    def memory(self) -> tuple[int, int] | None:
        """Bytes in all, and those in use."""
        return self._questions.ask("memory", self._memory)

    def ours(self, pid: int | None, on_device: bool, used: int | None) -> tuple[int | None, bool]:
        """Bytes that ``pid`` has, and whether that is an estimate. ``on_device``: it is known to have weights there."""
        if pid is None:
            return (None, False) if self._questions.lost else (0, False)
        listed = self.processes()
        own = [process.bytes for process in listed or () if process.pid == pid]
        if own and own[0] is not None:
            return own[0], False
        if not own and listed is not None and not on_device:
            return 0, False
        if used is None or self._baseline is None:
            self._questions.pass_over(
                "ours", "the driver does not tell our share, and what was used before us is not known"
            )
            return None, False
        return max(0, used - self._baseline), True

    def processes(self) -> tuple[DeviceProcess, ...] | None:
        """Every process that has memory there; None where the driver lists none of them at all."""
        found: dict[int, DeviceProcess] = {}
        answered = False
        for lists, computes in ((_COMPUTE_LISTS, True), (_GRAPHICS_LISTS, False)):
            for names in lists:
                listed = self._list(names)
                answered = answered or listed is not None
                for one in listed or ():
                    former = found.get(one.pid)
                    sizes = [size for size in (former and former.bytes, one.usedGpuMemory) if size is not None]
                    # Each list tells the whole of a process, so that one in two lists is not counted twice.
                    found[one.pid] = DeviceProcess(
                        one.pid, max(sizes) if sizes else None, computes or bool(former and former.computes)
                    )
        return tuple(found.values()) if answered else None

    def _list(self, names: tuple[str, ...]) -> list[Any] | None:
        for name in names:
            call = getattr(self._nvml, name, None)
            if call is None:
                continue
            listed = self._questions.ask(name, partial(_listed, call))
            if listed is not None:
                return listed
            if self._whole is not None:
                listed = self._whole.ask(name, partial(_listed, call))
                if listed is not None:
                    return [one for one in listed if getattr(one, "gpuInstanceId", None) == self._instance]
        return None

    def _memory(self, handle: Any) -> tuple[int, int]:
        # Used is what nobody else can have: version 1 counts the driver's reserve as used, version 2 apart.
        memory = self._nvml.nvmlDeviceGetMemoryInfo(handle)
        return memory.total, memory.total - memory.free


def _listed(call: Callable[[Any], Iterable[Any]], handle: Any) -> list[Any]:
    return list(call(handle))

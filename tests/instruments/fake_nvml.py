"""NVML as a script: answers with recorded values, or with the error code that a test puts in the place of an answer."""

from __future__ import annotations

from typing import Any, NamedTuple

GIB = 1 << 30


class Utilization(NamedTuple):
    gpu: int
    memory: int


class Memory(NamedTuple):
    total: int
    used: int
    free: int


class Process(NamedTuple):
    pid: int
    usedGpuMemory: int | None


class FakeNvml:
    """One call counted in ``calls`` by its name; ``errors`` maps a name to the code that it fails with."""

    __file__ = "/site-packages/pynvml.py"
    NVML_TEMPERATURE_GPU = 0
    NVML_CLOCK_MEM = 2

    class NVMLError(Exception):
        def __init__(self, value: int) -> None:
            super().__init__(f"NVML error {value}")
            self.value = value

    def __init__(self, count: int = 1) -> None:
        self.count = count
        self.errors: dict[str, int] = {}
        self.calls: dict[str, int] = {}
        self.used = 3 * GIB
        self.processes: list[Process] = []

    def _say(self, name: str, value: Any) -> Any:
        self.calls[name] = self.calls.get(name, 0) + 1
        if name in self.errors:
            raise self.NVMLError(self.errors[name])
        return value

    def nvmlInit(self) -> None:
        self._say("nvmlInit", None)

    def nvmlDeviceGetCount(self) -> int:
        return self._say("nvmlDeviceGetCount", self.count)

    def nvmlDeviceGetHandleByIndex(self, index: int) -> str:
        return self._say("nvmlDeviceGetHandleByIndex", f"handle {index}")

    def nvmlDeviceGetName(self, handle: str) -> str:
        return self._say("nvmlDeviceGetName", "NVIDIA GeForce RTX 4060\x1b[2J")

    def nvmlDeviceGetMemoryInfo(self, handle: str) -> Memory:
        return self._say("nvmlDeviceGetMemoryInfo", Memory(8 * GIB, self.used - GIB // 4, 8 * GIB - self.used))

    def nvmlDeviceGetUtilizationRates(self, handle: str) -> Utilization:
        return self._say("nvmlDeviceGetUtilizationRates", Utilization(87, 64))

    def nvmlDeviceGetPowerUsage(self, handle: str) -> int:
        return self._say("nvmlDeviceGetPowerUsage", 98_500)

    def nvmlDeviceGetTemperature(self, handle: str, sensor: int) -> int:
        return self._say("nvmlDeviceGetTemperature", 61)

    def nvmlDeviceGetMemoryBusWidth(self, handle: str) -> int:
        return self._say("nvmlDeviceGetMemoryBusWidth", 384)

    def nvmlDeviceGetMaxClockInfo(self, handle: str, clock: int) -> int:
        return self._say("nvmlDeviceGetMaxClockInfo", 10_501)

    def nvmlDeviceGetComputeRunningProcesses_v3(self, handle: str) -> list[Process]:
        return self._say("nvmlDeviceGetComputeRunningProcesses_v3", list(self.processes))

    def nvmlDeviceGetComputeRunningProcesses_v2(self, handle: str) -> list[Process]:
        return self._say("nvmlDeviceGetComputeRunningProcesses_v2", list(self.processes))

    def nvmlDeviceGetGraphicsRunningProcesses_v3(self, handle: str) -> list[Process]:
        return self._say("nvmlDeviceGetGraphicsRunningProcesses_v3", [])

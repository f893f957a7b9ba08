"""NVML as a script: answers with recorded values, or with the error code that a test puts in the place of an answer."""

from __future__ import annotations

import ctypes
from types import SimpleNamespace
from typing import Any, NamedTuple

import pynvml

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
    gpuInstanceId: int | None = None


class FakeNvml:
    """One call counted in ``calls`` by its name; ``errors`` maps a name to the code that it fails with."""

    __file__ = "/site-packages/pynvml.py"
    NVML_TEMPERATURE_GPU = 0
    NVML_ERROR_FUNCTION_NOT_FOUND = 13
    NVML_GPM_METRICS_GET_VERSION = pynvml.NVML_GPM_METRICS_GET_VERSION
    NVML_GPM_METRIC_DRAM_BW_UTIL = pynvml.NVML_GPM_METRIC_DRAM_BW_UTIL
    c_nvmlGpmMetricsGet_t = pynvml.c_nvmlGpmMetricsGet_t

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
        self.graphics: list[Process] = []
        self.reasons = 0
        self.millijoules = 5_000_000
        self.dram_pct = 63.0
        self.dram_code = 0
        """The return code inside the answer of the performance monitor."""
        self.has_gpm = True
        self.parts: dict[int, int] = {}
        """Of a divided device: the GPU instance of each part."""
        self.traffic_kb = {1: 1_230_000, 0: 81_000}
        self.generation = 4
        self._samples: list[ctypes.Array[ctypes.c_char]] = []

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

    def nvmlDeviceGetPciInfo(self, handle: str) -> Any:
        return self._say("nvmlDeviceGetPciInfo", SimpleNamespace(busId=b"00000000:C1:00.0"))

    def nvmlDeviceGetMemoryInfo(self, handle: str) -> Memory:
        return self._say("nvmlDeviceGetMemoryInfo", Memory(8 * GIB, self.used - GIB // 4, 8 * GIB - self.used))

    def nvmlDeviceGetUtilizationRates(self, handle: str) -> Utilization:
        return self._say("nvmlDeviceGetUtilizationRates", Utilization(87, 64))

    def nvmlDeviceGetPowerUsage(self, handle: str) -> int:
        return self._say("nvmlDeviceGetPowerUsage", 98_500)

    def nvmlDeviceGetEnforcedPowerLimit(self, handle: str) -> int:
        return self._say("nvmlDeviceGetEnforcedPowerLimit", 115_000)

    def nvmlDeviceGetTotalEnergyConsumption(self, handle: str) -> int:
        return self._say("nvmlDeviceGetTotalEnergyConsumption", self.millijoules)

    def nvmlDeviceGetTemperature(self, handle: str, sensor: int) -> int:
        return self._say("nvmlDeviceGetTemperature", 61)

    def nvmlDeviceGetMemoryBusWidth(self, handle: str) -> int:
        return self._say("nvmlDeviceGetMemoryBusWidth", 384)

    def nvmlDeviceGetClockInfo(self, handle: str, clock: int) -> int:
        return self._say(f"nvmlDeviceGetClockInfo {clock}", {1: 1410, 2: 9501}[clock])

    def nvmlDeviceGetMaxClockInfo(self, handle: str, clock: int) -> int:
        return self._say(f"nvmlDeviceGetMaxClockInfo {clock}", {1: 2460, 2: 10_501}[clock])

    def nvmlDeviceGetCurrentClocksEventReasons(self, handle: str) -> int:
        return self._say("nvmlDeviceGetCurrentClocksEventReasons", self.reasons)

    def nvmlDeviceGetCurrentClocksThrottleReasons(self, handle: str) -> int:
        return self._say("nvmlDeviceGetCurrentClocksThrottleReasons", self.reasons)

    def nvmlDeviceGetCurrPcieLinkGeneration(self, handle: str) -> int:
        return self._say("nvmlDeviceGetCurrPcieLinkGeneration", self.generation)

    def nvmlDeviceGetCurrPcieLinkWidth(self, handle: str) -> int:
        return self._say("nvmlDeviceGetCurrPcieLinkWidth", 16)

    def nvmlDeviceGetPcieThroughput(self, handle: str, direction: int) -> int:
        return self._say("nvmlDeviceGetPcieThroughput", self.traffic_kb[direction])

    def nvmlGpmQueryDeviceSupport(self, handle: str) -> Any:
        return self._say("nvmlGpmQueryDeviceSupport", SimpleNamespace(isSupportedDevice=int(self.has_gpm)))

    def nvmlGpmSampleAlloc(self) -> Any:
        self._samples.append(ctypes.create_string_buffer(8))
        return self._say("nvmlGpmSampleAlloc", ctypes.cast(self._samples[-1], pynvml.c_nvmlGpmSample_t))

    def nvmlGpmSampleGet(self, handle: str, sample: Any) -> None:
        self._say("nvmlGpmSampleGet", None)
        ctypes.cast(sample, ctypes.POINTER(ctypes.c_uint64))[0] = self.calls["nvmlGpmSampleGet"]

    def nvmlGpmMetricsGet(self, asked: Any) -> None:
        """The answer holds only where the first sample is the older one, as the driver has it."""
        self._say("nvmlGpmMetricsGet", None)
        first, second = (
            ctypes.cast(sample, ctypes.POINTER(ctypes.c_uint64))[0] for sample in (asked.sample1, asked.sample2)
        )
        assert asked.version == self.NVML_GPM_METRICS_GET_VERSION and asked.numMetrics == 1
        assert asked.metrics[0].metricId == self.NVML_GPM_METRIC_DRAM_BW_UTIL
        asked.metrics[0].nvmlReturn = self.dram_code
        asked.metrics[0].value = self.dram_pct if second == first + 1 else -1.0

    def nvmlDeviceGetComputeRunningProcesses_v3(self, handle: str) -> list[Process]:
        return self._say("nvmlDeviceGetComputeRunningProcesses_v3", list(self.processes))

    def nvmlDeviceGetComputeRunningProcesses_v2(self, handle: str) -> list[Process]:
        return self._say("nvmlDeviceGetComputeRunningProcesses_v2", list(self.processes))

    def nvmlDeviceGetGraphicsRunningProcesses_v3(self, handle: str) -> list[Process]:
        return self._say("nvmlDeviceGetGraphicsRunningProcesses_v3", list(self.graphics))

    def nvmlDeviceGetMigMode(self, handle: str) -> list[int]:
        if not self.parts:
            raise self.NVMLError(3)
        return self._say("nvmlDeviceGetMigMode", [1, 1])

    def nvmlDeviceGetMaxMigDeviceCount(self, handle: str) -> int:
        return self._say("nvmlDeviceGetMaxMigDeviceCount", 7)

    def nvmlDeviceGetMigDeviceHandleByIndex(self, handle: str, part: int) -> str:
        if part not in self.parts:
            raise self.NVMLError(6)
        return self._say("nvmlDeviceGetMigDeviceHandleByIndex", f"{handle} part {part}")

    def nvmlDeviceGetGpuInstanceId(self, handle: str) -> int:
        return self._say("nvmlDeviceGetGpuInstanceId", self.parts[int(handle[-1])])

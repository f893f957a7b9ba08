"""How busy the memory of an NVIDIA device really is, by its performance monitor (GPM, from Hopper on)."""

from __future__ import annotations

import math
import time
from typing import Any

from pagewise.instruments.nvml import NotHere, NotYet

SHORTEST_S = 0.1
"""Two samples must be so far apart for the driver to make something of them."""


class DramMeter:
    """Share of the peak bandwidth of the memory that was in use from one ``read`` to the next."""

    def __init__(self, nvml: Any) -> None:
        self._nvml = nvml
        self._supported = False
        self._older: Any = None
        self._newer: Any = None
        self._taken_s: float | None = None
        self._last: float | None = None

    def read(self, handle: Any) -> float:
        """The share, 0 to 1. Raises NotHere, NotYet, or NVML's error."""
        nvml = self._nvml
        if not self._supported:
            if not nvml.nvmlGpmQueryDeviceSupport(handle).isSupportedDevice:
                raise NotHere("its performance monitor (GPM) is read from Hopper on; this device is older, or lacks it")
            self._supported = True
        if self._older is None:
            self._older, self._newer = nvml.nvmlGpmSampleAlloc(), nvml.nvmlGpmSampleAlloc()
        now = time.monotonic()
        if self._taken_s is None:
            nvml.nvmlGpmSampleGet(handle, self._older)
            self._taken_s = now
            raise NotYet("it takes two samples, and this is the first")
        if now - self._taken_s < SHORTEST_S:
            if self._last is None:
                raise NotYet("it takes two samples, and the first was taken just now")
            return self._last
        nvml.nvmlGpmSampleGet(handle, self._newer)
        asked = nvml.c_nvmlGpmMetricsGet_t()
        asked.version = nvml.NVML_GPM_METRICS_GET_VERSION
        asked.numMetrics = 1
        asked.sample1, asked.sample2 = self._older, self._newer
        asked.metrics[0].metricId = nvml.NVML_GPM_METRIC_DRAM_BW_UTIL
        nvml.nvmlGpmMetricsGet(asked)
        self._older, self._newer, self._taken_s = self._newer, self._older, now
        answer = asked.metrics[0]
        if answer.nvmlReturn != 0:
            self._last = None
            raise nvml.NVMLError(answer.nvmlReturn)
        if not math.isfinite(answer.value):
            self._last = None
            raise NotYet("the driver made nothing of these two samples")
        self._last = answer.value / 100.0
        return self._last

"""Memory and load of NVIDIA devices, from NVML. The only file that imports ``pynvml`` (the package nvidia-ml-py).

A metric that a device does not have is switched off alone and says so; it never takes the others along. NVML's pids are
those of the machine: inside a container ours is not among them, and our share is then the growth of the used memory
since before our backend was up, marked as an estimate.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from pagewise.readings import DeviceMemory, Devices, Missing

Value = TypeVar("Value")

_UNINITIALIZED = 1
_GPU_IS_LOST = 15
_NEVER_HERE = {
    3: "this device does not have it",
    4: "the driver gives it to root alone",
    13: "this driver is too old to know it",
    25: "this driver speaks another version of it",
    26: "this driver no longer has it",
}
"""Codes after which a metric is not asked for again."""
_NOT_NOW = {
    2: "the driver refuses the question",
    6: "the driver has no sample of it now",
    10: "the driver did not answer in time",
    14: "the device's own description of itself is damaged",
    16: "the device needs a reset",
    19: "the device is in use by something that keeps it to itself",
    21: "the driver has no data of it now",
    27: "the device is not ready",
}
_NO_NVML = {
    9: "The NVIDIA driver is not loaded. `sudo modprobe nvidia` loads it; `dmesg` says why where it does not.",
    12: "There is no NVML (library not found): this machine has no NVIDIA driver.",
    18: "The NVIDIA driver and its library have different versions, as after an update: restart the machine.",
    999: "The NVIDIA driver answers with an unknown error: `nvidia-smi` may say more; a restart often helps.",
}
_LOST = "The device has stopped answering (it fell off the bus): `dmesg` says why; the machine must be restarted."
_SHADOWED = (
    "An old package named pynvml hides NVIDIA's own bindings: "
    "`pip uninstall pynvml`, then `pip install --force-reinstall nvidia-ml-py`."
)
_PROCESS_LISTS = (
    "nvmlDeviceGetComputeRunningProcesses_v3",
    "nvmlDeviceGetComputeRunningProcesses_v2",
    "nvmlDeviceGetGraphicsRunningProcesses_v3",
)
"""Version 2 is for drivers before 510; where version 3 is there, it lists the same once more."""
_METRICS = {
    "memory": ("total_bytes", "used_bytes"),
    "utilization": ("utilization_pct", "memory_busy_pct"),
    "power": ("power_w",),
    "temperature": ("temperature_c",),
}


class NoNvml(Exception):
    """NVML cannot be used; the message is a plain sentence for a person."""


def open_nvml() -> Any:
    """The initialized module. Raises NoNvml."""
    try:
        nvml = importlib.import_module("pynvml")
    except ImportError as error:
        raise NoNvml("The package nvidia-ml-py is not installed: `pip install nvidia-ml-py`.") from error
    if is_shadowed(nvml):
        raise NoNvml(_SHADOWED)
    initialize(nvml)
    return nvml


def is_shadowed(nvml: Any) -> bool:
    """Whether this is the package named pynvml of old, with bindings of its own: the official module is one file."""
    file = getattr(nvml, "__file__", None)
    return file is not None and Path(file).name == "__init__.py"


def initialize(nvml: Any) -> None:
    """Connect to the driver. Raises NoNvml."""
    try:
        nvml.nvmlInit()
    except nvml.NVMLError as error:
        why = _NO_NVML.get(error.value, f"NVML does not start: {error}.")
        raise NoNvml(why) from error


class VramInstrument:
    """Readings of all NVIDIA devices. ``nvml`` is the module, or something that answers like it; None finds it."""

    def __init__(self, nvml: Any = None) -> None:
        self._why_none: str | None = None
        self._devices: list[_Device] = []
        try:
            self._nvml = nvml if nvml is not None else open_nvml()
            self._devices = self._found()
        except NoNvml as error:
            self._nvml = None
            self._why_none = str(error)
        else:
            self._why_none = None if self._devices else "NVML works, but there is no NVIDIA device."

    def mark_baseline(self) -> None:
        """Remember what is used now, before an engine's backend is up: estimates of our share count from here."""
        for device in self._devices:
            device.mark_baseline()

    def peak_bytes_per_s(self, index: int) -> float | None:
        """Memory bandwidth of a device by its bus width and highest memory clock, two transfers a clock."""
        return self._devices[index].peak_bytes_per_s() if index < len(self._devices) else None

    def sample(self, pid: int | None, on_device: bool = False) -> Devices:
        """All devices now. ``on_device``: engine ``pid`` is known to have weights there, listed by NVML or not."""
        return Devices(tuple(device.sample(pid, on_device) for device in self._devices), self._why_none)

    def _found(self) -> list[_Device]:
        nvml = self._nvml
        try:
            count = nvml.nvmlDeviceGetCount()
        except nvml.NVMLError as error:
            raise NoNvml(f"NVML does not list devices: {error}.") from error
        return [_Device(nvml, index) for index in range(count)]


class _Device:
    """One device, and which of its metrics are switched off."""

    def __init__(self, nvml: Any, index: int) -> None:
        self._nvml = nvml
        self._index = index
        self._off: dict[str, str] = {}
        self._now: dict[str, str] = {}
        self._lost: str | None = None
        self._baseline: int | None = None
        self._handle: Any = None
        name = self._ask("name", lambda: nvml.nvmlDeviceGetName(self._found_handle()))
        text = name.decode("utf-8", errors="replace") if isinstance(name, bytes) else name
        self._name = "".join(letter for letter in text or "NVIDIA device" if letter.isprintable())

    def mark_baseline(self) -> None:
        memory = self._ask("memory", self._memory)
        self._baseline = memory[1] if memory else None

    def sample(self, pid: int | None, on_device: bool) -> DeviceMemory:
        nvml = self._nvml
        self._now = {}
        memory = self._ask("memory", self._memory)
        utilization = self._ask("utilization", lambda: nvml.nvmlDeviceGetUtilizationRates(self._found_handle()))
        power = self._ask("power", lambda: nvml.nvmlDeviceGetPowerUsage(self._found_handle()))
        temperature = self._ask(
            "temperature", lambda: nvml.nvmlDeviceGetTemperature(self._found_handle(), nvml.NVML_TEMPERATURE_GPU)
        )
        used = memory[1] if memory else None
        ours, is_estimate = self._ours(pid, on_device, used)
        return DeviceMemory(
            name=self._name,
            index=self._index,
            kind="gpu",
            total_bytes=memory[0] if memory else None,
            used_bytes=used,
            ours_bytes=ours,
            ours_is_estimate=is_estimate,
            utilization_pct=float(utilization.gpu) if utilization else None,
            memory_busy_pct=float(utilization.memory) if utilization else None,
            power_w=power / 1000.0 if power is not None else None,
            temperature_c=float(temperature) if temperature is not None else None,
            source="NVML",
            missing=self._missing(ours),
        )

    def peak_bytes_per_s(self) -> float | None:
        nvml = self._nvml
        width = self._ask("bus width", lambda: nvml.nvmlDeviceGetMemoryBusWidth(self._found_handle()))
        clock = self._ask(
            "memory clock", lambda: nvml.nvmlDeviceGetMaxClockInfo(self._found_handle(), nvml.NVML_CLOCK_MEM)
        )
        return width / 8 * clock * 1e6 * 2 if width and clock else None

    def _found_handle(self) -> Any:
        if self._handle is None:
            self._handle = self._nvml.nvmlDeviceGetHandleByIndex(self._index)
        return self._handle

    def _memory(self) -> tuple[int, int]:
        # Used is what nobody else can have: version 1 counts the driver's reserve as used, version 2 apart.
        memory = self._nvml.nvmlDeviceGetMemoryInfo(self._found_handle())
        return memory.total, memory.total - memory.free

    def _ours(self, pid: int | None, on_device: bool, used: int | None) -> tuple[int | None, bool]:
        if pid is None:
            return (None, False) if self._lost else (0, False)
        lists = [self._ask(name, partial(self._processes, name)) for name in _PROCESS_LISTS]
        known = [processes for processes in lists if processes is not None]
        own = [process.usedGpuMemory for processes in known for process in processes if process.pid == pid]
        if own and None not in own:
            return max(own), False
        if not own and known and not on_device:
            return 0, False
        if used is None or self._baseline is None:
            self._now["ours_bytes"] = "the driver does not tell our share, and what was used before us is not known"
            return None, False
        return max(0, used - self._baseline), True

    def _processes(self, name: str) -> Sequence[Any]:
        return list(getattr(self._nvml, name)(self._found_handle()))

    def _ask(self, metric: str, question: Callable[[], Value]) -> Value | None:
        if self._lost or metric in self._off:
            return None
        nvml = self._nvml
        try:
            return question()
        except nvml.NVMLError as error:
            code = error.value
            if code == _GPU_IS_LOST:
                self._lost = _LOST
            elif code == _UNINITIALIZED:
                self._now[metric] = "the driver was taken away and is being asked for again"
                self._reconnect()
            elif code in _NEVER_HERE:
                self._off[metric] = _NEVER_HERE[code]
            else:
                self._now[metric] = _NOT_NOW.get(code, f"the driver answers: {error}")
            return None

    def _reconnect(self) -> None:
        self._handle = None
        try:
            self._nvml.nvmlInit()
        except self._nvml.NVMLError as error:
            self._lost = _NO_NVML.get(error.value, f"NVML no longer starts: {error}.")

    def _missing(self, ours: int | None) -> tuple[Missing, ...]:
        reasons = []
        for metric, fields in _METRICS.items():
            why = self._lost or self._off.get(metric) or self._now.get(metric)
            reasons += [Missing(field, why) for field in fields if why]
        if ours is None:
            reasons.append(Missing("ours_bytes", self._lost or self._now.get("ours_bytes", "the driver does not tell")))
        return tuple(reasons)

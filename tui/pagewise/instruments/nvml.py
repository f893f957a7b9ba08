"""NVML, the library of NVIDIA's driver: opened here, and asked so that one refusal never takes the others along.

The only file that imports ``pynvml`` (the package nvidia-ml-py).
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

Value = TypeVar("Value")

_UNINITIALIZED = 1
_GPU_IS_LOST = 15
_NEVER_HERE = {
    3: "this device does not have it",
    4: "the driver gives it to root alone: `sudo` shows it",
    13: "this driver is too old to know it: a newer one may",
    25: "this driver speaks another version of it: a newer one, or a newer nvidia-ml-py, may do",
    26: "this driver no longer has it",
}
"""Codes after which a metric is not asked for again."""
_NOT_NOW = {
    2: "the driver refuses the question",
    6: "the driver has no sample of it now",
    8: "the device gets too little power: is its cable plugged in?",
    10: "the driver did not answer in time",
    11: "the kernel sees a fault of the device's interrupt: `dmesg` says more",
    14: "the device's own description of itself is damaged: `nvidia-smi -q` says which part",
    16: "the device needs a reset: `sudo nvidia-smi --gpu-reset`, with nothing running on it",
    17: "the operating system refuses the driver's question: `dmesg` may say why",
    19: "the device is in use by something that keeps it to itself",
    20: "the driver is short of memory",
    21: "the driver has no data of it now",
    23: "the driver is short of resources",
    27: "the device is not ready",
    28: "the device is not there now",
    29: "the device is in a state that does not allow the question",
}
_NO_NVML = {
    4: "This user may not use the NVIDIA driver: membership in the group of /dev/nvidiactl, or root, may.",
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


class NoNvml(Exception):
    """NVML cannot be used; the message is a plain sentence for a person."""


class NotHere(Exception):
    """A question found that its metric will never have a value here; the message says why."""


class NotYet(Exception):
    """A question found that its metric has no value now; the message says why."""


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


class Questions:
    """What is asked of one device, by metric: which are switched off, which have no value now, and why. For one thread.

    ``handle`` finds the device; it is asked for again after the driver went away.
    """

    def __init__(self, nvml: Any, handle: Callable[[], Any]) -> None:
        self.lost: str | None = None
        """Why the device answers nothing any more."""
        self._nvml = nvml
        self._find = handle
        self._handle: Any = None
        self._off: dict[str, str] = {}
        self._now: dict[str, str] = {}

    def begin(self) -> None:
        """A new sample: what had no value in the former one may have one now."""
        self._now = {}

    def why(self, metric: str) -> str | None:
        """Why there is no value; None where there is one, or nobody asked."""
        return self.lost or self._off.get(metric) or self._now.get(metric)

    def switch_off(self, metric: str, why: str) -> None:
        """Never ask for it."""
        self._off[metric] = why

    def pass_over(self, metric: str, why: str) -> None:
        """It has no value in this sample."""
        self._now[metric] = why

    def ask(self, metric: str, question: Callable[[Any], Value]) -> Value | None:
        """The answer to ``question(handle)``, or None, and then ``why`` says the reason."""
        if self.lost or metric in self._off:
            return None
        try:
            return question(self._found())
        except NotHere as error:
            self._off[metric] = str(error)
        except NotYet as error:
            self._now[metric] = str(error)
        except self._nvml.NVMLError as error:
            self._refused(metric, error)
        return None

    def _found(self) -> Any:
        if self._handle is None:
            self._handle = self._find()
        return self._handle

    def _refused(self, metric: str, error: Any) -> None:
        code = error.value
        if code == _GPU_IS_LOST:
            self.lost = _LOST
        elif code == _UNINITIALIZED:
            self._now[metric] = "the driver was taken away and is being asked for again"
            self._reconnect()
        elif code in _NEVER_HERE:
            self._off[metric] = _NEVER_HERE[code]
        else:
            self._now[metric] = _NOT_NOW.get(code, f"the driver answers: {error}")

    def _reconnect(self) -> None:
        self._handle = None
        try:
            self._nvml.nvmlInit()
        except self._nvml.NVMLError as error:
            self.lost = _NO_NVML.get(error.value, f"NVML no longer starts: {error}.")

"""Memory and work of NVIDIA devices, from NVML.

A metric that a device does not have is switched off alone and says so. Of a device that is divided (MIG) each part is
one of its own: it has memory of its own, the clocks and the temperature of the whole, and no more.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from pagewise.instruments import clocks
from pagewise.instruments.dram import DramMeter
from pagewise.instruments.nvml import NoNvml, Questions, open_nvml
from pagewise.instruments.pcie import PcieMeter, Traffic, link_peak
from pagewise.instruments.vram import DeviceProcess, VramQuestions
from pagewise.readings import DeviceMemory, Devices, Missing

_METRICS = {
    "memory": ("total_bytes", "used_bytes"),
    "utilization": ("utilization_pct", "memory_busy_pct"),
    "power": ("power_w",),
    "power limit": ("power_limit_w",),
    "energy": ("energy_j",),
    "temperature": ("temperature_c",),
    "SM clock": ("sm_clock_mhz",),
    "highest SM clock": ("sm_clock_max_mhz",),
    "memory clock": ("memory_clock_mhz",),
    "clock reasons": ("held_back",),
    "DRAM": ("dram_bytes_s",),
    "DRAM peak": ("dram_peak_bytes_s",),
    "link": ("pcie_peak_bytes_s",),
    "traffic": ("pcie_rx_bytes_s", "pcie_tx_bytes_s"),
}
_OF_THE_WHOLE = "this is one part of a divided GPU (MIG): the driver tells it of the whole alone"
_NOT_OF_A_PART = {
    "power": _OF_THE_WHOLE,
    "power limit": _OF_THE_WHOLE,
    "energy": _OF_THE_WHOLE,
    "link": _OF_THE_WHOLE,
    "traffic": _OF_THE_WHOLE,
    # Asking the performance monitor on a divided device makes some drivers refuse its memory from then on.
    "DRAM": "this is one part of a divided GPU (MIG): asking for it disturbs other readings there",
    "DRAM peak": _OF_THE_WHOLE,
}
_ENABLED = 1
_MEMORY_NOT_TOLD = "the driver does not tell"


class Place(NamedTuple):
    """Where a device is found: the card, and on a divided one (MIG) which part."""

    card: int
    part: int | None = None


class NvidiaInstrument:
    """Readings of all NVIDIA devices. ``nvml`` is the module, or something that answers like it; None finds it."""

    def __init__(self, nvml: Any = None) -> None:
        self._why_none: str | None = None
        self._devices: list[_Device] = []
        self._pcie: PcieMeter | None = None
        try:
            nvml = nvml if nvml is not None else open_nvml()
            self._devices = [_Device(nvml, index, place) for index, place in enumerate(_places(nvml))]
        except NoNvml as error:
            self._why_none = str(error)
            return
        if not self._devices:
            self._why_none = "NVML works, but there is no NVIDIA device."
            return
        self._pcie = PcieMeter(nvml, [Questions(nvml, _finder(nvml, device.place)) for device in self._devices])

    def mark_baseline(self) -> None:
        """Remember what is used now, before an engine's backend is up: estimates of our share count from here."""
        for device in self._devices:
            device.vram.mark_baseline()

    def used_bytes(self) -> int | None:
        """What all devices together hold; None without devices, or where none tells."""
        memories = [device.vram.memory() for device in self._devices]
        used = [memory[1] for memory in memories if memory is not None]
        return sum(used) if used else None

    def energy_j(self, index: int) -> float | None:
        """The energy counter of one device now, in joules; None where it has none."""
        return self._devices[index].energy_j() if index < len(self._devices) else None

    def processes(self) -> tuple[tuple[DeviceProcess, ...] | None, ...]:
        """For each device the processes that have memory there; None where its driver lists none at all."""
        return tuple(device.vram.processes() for device in self._devices)

    def sample(self, pid: int | None, on_device: bool = False) -> Devices:
        """All devices now. ``on_device``: engine ``pid`` is known to have weights there, listed by NVML or not."""
        if self._pcie is not None and any(device.place.part is None for device in self._devices):
            self._pcie.want()
        return Devices(
            tuple(
                device.sample(pid, on_device, self._pcie.latest(index) if self._pcie else None)
                for index, device in enumerate(self._devices)
            ),
            self._why_none,
        )


class _Device:
    """One device, or one part of a divided one."""

    def __init__(self, nvml: Any, index: int, place: Place) -> None:
        self.place = place
        self._nvml = nvml
        self._index = index
        self._questions = Questions(nvml, _finder(nvml, place))
        self._whole: Questions | None = None
        instance = None
        if place.part is not None:
            self._whole = Questions(nvml, _finder(nvml, Place(place.card)))
            instance = self._questions.ask("GPU instance", nvml.nvmlDeviceGetGpuInstanceId)
            for metric, why in _NOT_OF_A_PART.items():
                self._questions.switch_off(metric, why)
        self.vram = VramQuestions(nvml, self._questions, self._whole, instance)
        self._dram = DramMeter(nvml)
        self._dram_peak: float | None = None
        self._highest_sm_clock: float | None = None
        name = self._questions.ask("name", nvml.nvmlDeviceGetName)
        self._name = _printable(name or "NVIDIA device")
        address = None if self._whole else self._questions.ask("address", nvml.nvmlDeviceGetPciInfo)
        self._pci = _address(address.busId) if address is not None else ""

    def energy_j(self) -> float | None:
        nvml = self._nvml
        energy = self._questions.ask("energy", nvml.nvmlDeviceGetTotalEnergyConsumption)
        return energy / 1000.0 if energy is not None else None

    def sample(self, pid: int | None, on_device: bool, traffic: Traffic | None) -> DeviceMemory:
        nvml, ask = self._nvml, self._questions.ask
        # A part has the clocks and the heat of the whole, which alone is asked for them.
        of_the_whole = self._whole or self._questions
        for questions in {id(one): one for one in (self._questions, of_the_whole)}.values():
            questions.begin()
        memory = self.vram.memory()
        used = memory[1] if memory else None
        ours, is_estimate = self.vram.ours(pid, on_device, used)
        utilization = ask("utilization", nvml.nvmlDeviceGetUtilizationRates)
        power = ask("power", nvml.nvmlDeviceGetPowerUsage)
        limit = ask("power limit", nvml.nvmlDeviceGetEnforcedPowerLimit)
        temperature = of_the_whole.ask(
            "temperature", lambda handle: nvml.nvmlDeviceGetTemperature(handle, nvml.NVML_TEMPERATURE_GPU)
        )
        sm_clock = of_the_whole.ask("SM clock", lambda handle: clocks.sm_clock(nvml, handle))
        memory_clock = of_the_whole.ask("memory clock", lambda handle: clocks.memory_clock(nvml, handle))
        held_back = of_the_whole.ask("clock reasons", lambda handle: clocks.held_back(nvml, handle))
        if self._highest_sm_clock is None:
            self._highest_sm_clock = of_the_whole.ask(
                "highest SM clock", lambda handle: clocks.highest_sm_clock(nvml, handle)
            )
        if self._dram_peak is None:
            self._dram_peak = ask("DRAM peak", lambda handle: clocks.memory_peak(nvml, handle))
        energy = self.energy_j()
        link = ask("link", lambda handle: link_peak(nvml, handle))
        # Last: it is the one question that may disturb others.
        busy = ask("DRAM", self._dram.read)
        if busy is not None and self._dram_peak is None:
            self._questions.pass_over("DRAM", "its share is known, but not the peak that it is a share of")
        if traffic is not None and traffic.why and not self._questions.why("traffic"):
            self._questions.pass_over("traffic", traffic.why)
        known = traffic if traffic is not None and not self._questions.why("traffic") else None
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
            missing=self._missing(ours, of_the_whole),
            power_limit_w=limit / 1000.0 if limit is not None else None,
            energy_j=energy,
            sm_clock_mhz=sm_clock,
            sm_clock_max_mhz=self._highest_sm_clock,
            memory_clock_mhz=memory_clock,
            held_back=held_back,
            dram_bytes_s=busy * self._dram_peak if busy is not None and self._dram_peak is not None else None,
            dram_peak_bytes_s=self._dram_peak,
            pcie_rx_bytes_s=known.received if known else None,
            pcie_tx_bytes_s=known.sent if known else None,
            pcie_peak_bytes_s=link,
            pci=self._pci,
        )

    def _missing(self, ours: int | None, of_the_whole: Questions) -> tuple[Missing, ...]:
        reasons = []
        for metric, fields in _METRICS.items():
            why = self._questions.why(metric) or of_the_whole.why(metric)
            reasons += [Missing(field, why) for field in fields if why]
        if ours is None:
            reasons.append(Missing("ours_bytes", self._questions.why("ours") or _MEMORY_NOT_TOLD))
        return tuple(reasons)


def _places(nvml: Any) -> list[Place]:
    """Every card, and of a divided one its parts. Raises NoNvml."""
    try:
        count = nvml.nvmlDeviceGetCount()
    except nvml.NVMLError as error:
        raise NoNvml(f"NVML does not list devices: {error}.") from error
    places: list[Place] = []
    for card in range(count):
        parts = _parts(nvml, card)
        places += [Place(card, part) for part in parts] or [Place(card)]
    return places


def _parts(nvml: Any, card: int) -> list[int]:
    found = []
    try:
        handle = nvml.nvmlDeviceGetHandleByIndex(card)
        if nvml.nvmlDeviceGetMigMode(handle)[0] != _ENABLED:
            return []
        highest = nvml.nvmlDeviceGetMaxMigDeviceCount(handle)
    except nvml.NVMLError:
        # It cannot be divided, or does not answer, which its own questions will then tell.
        return []
    for part in range(highest):
        try:
            nvml.nvmlDeviceGetMigDeviceHandleByIndex(handle, part)
        except nvml.NVMLError:
            # There is no part of this number, or it belongs to somebody else's container.
            continue
        found.append(part)
    return found


def _finder(nvml: Any, place: Place) -> Callable[[], Any]:
    def find() -> Any:
        card = nvml.nvmlDeviceGetHandleByIndex(place.card)
        return card if place.part is None else nvml.nvmlDeviceGetMigDeviceHandleByIndex(card, place.part)

    return find


def _printable(name: Any) -> str:
    text = name.decode("utf-8", errors="replace") if isinstance(name, bytes) else str(name)
    return "".join(letter for letter in text if letter.isprintable())


def _address(bus_id: Any) -> str:
    """``00000000:C1:00.0`` as ggml and the kernel write it."""
    domain, _, rest = _printable(bus_id).lower().partition(":")
    return f"{domain[-4:]}:{rest}" if rest else ""

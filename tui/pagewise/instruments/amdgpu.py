"""Memory and load of AMD devices, from what the amdgpu driver shows in ``/sys`` and ``/proc``: no package needed."""

from __future__ import annotations

from pathlib import Path

import msgspec

from pagewise.readings import DeviceMemory, Missing

_VENDOR = "0x1002"
_VRAM_KEYS = ("drm-resident-vram", "drm-memory-vram", "drm-total-vram")
"""In fdinfo, the name of today first; older kernels have the second."""
_UNITS = {"": 1, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30}


class AmdInstrument:
    """Readings of all AMD devices. ``sys`` and ``proc`` are the roots of those trees."""

    def __init__(self, sys: Path = Path("/sys"), proc: Path = Path("/proc")) -> None:
        self._proc = proc
        self._cards = [
            card / "device"
            for card in sorted((sys / "class" / "drm").glob("card[0-9]*"))
            if _text(card / "device" / "vendor") == _VENDOR and _number(card / "device" / "mem_info_vram_total")
        ]

    def sample(self, pid: int | None) -> tuple[DeviceMemory, ...]:
        """All devices now; empty without any."""
        return tuple(self._device(index, card, pid) for index, card in enumerate(self._cards))

    def used_bytes(self) -> int | None:
        """What all devices together hold; None without devices, or where none tells."""
        used = [_number(card / "mem_info_vram_used") for card in self._cards]
        known = [value for value in used if value is not None]
        return sum(known) if known else None

    def bytes_of(self, pid: int) -> int | None:
        """What one process has on all devices; None where it may not be looked into."""
        shares = [self._ours(card.resolve().name, pid) for card in self._cards]
        known = [share for share in shares if share is not None]
        return sum(known) if len(known) == len(shares) else None

    def _device(self, index: int, card: Path, pid: int | None) -> DeviceMemory:
        hwmon = next(iter(sorted((card / "hwmon").glob("hwmon*"))), card)
        power = _number(hwmon / "power1_average") or _number(hwmon / "power1_input")
        temperature = _number(hwmon / "temp1_input")
        limit = _number(hwmon / "power1_cap")
        clock, memory_clock = _number(hwmon / "freq1_input"), _number(hwmon / "freq2_input")
        device = DeviceMemory(
            name=_text(card / "product_name") or "AMD device",
            index=index,
            kind="gpu",
            total_bytes=_number(card / "mem_info_vram_total"),
            used_bytes=_number(card / "mem_info_vram_used"),
            ours_bytes=0 if pid is None else self._ours(card.resolve().name, pid),
            ours_is_estimate=False,
            utilization_pct=_number(card / "gpu_busy_percent"),
            memory_busy_pct=_number(card / "mem_busy_percent"),
            power_w=None if power is None else power / 1e6,
            temperature_c=None if temperature is None else temperature / 1e3,
            source="sysfs",
            power_limit_w=None if limit is None else limit / 1e6,
            sm_clock_mhz=None if clock is None else clock / 1e6,
            memory_clock_mhz=None if memory_clock is None else memory_clock / 1e6,
            pci=card.resolve().name,
        )
        return _with_reasons(device)

    def _ours(self, address: str, pid: int) -> int | None:
        # One client may hold several descriptors, each telling of all of its memory.
        clients: dict[str, int] = {}
        try:
            entries = sorted((self._proc / str(pid) / "fdinfo").iterdir())
        except OSError:
            return None
        for entry in entries:
            facts = parse_fdinfo(_text(entry) or "")
            if facts.get("drm-pdev") == address and "drm-client-id" in facts:
                clients[facts["drm-client-id"]] = vram_bytes(facts)
        return sum(clients.values())


def parse_fdinfo(text: str) -> dict[str, str]:
    """The ``key: value`` lines of ``/proc/PID/fdinfo/FD``."""
    facts = {}
    for line in text.splitlines():
        key, found, value = line.partition(":")
        if found:
            facts[key.strip()] = value.strip()
    return facts


def vram_bytes(facts: dict[str, str]) -> int:
    """Bytes of VRAM that a DRM client holds; 0 where its descriptor tells of none."""
    for key in _VRAM_KEYS:
        number, _, unit = facts.get(key, "").partition(" ")
        if number.isdigit() and unit in _UNITS:
            return int(number) * _UNITS[unit]
    return 0


def _with_reasons(device: DeviceMemory) -> DeviceMemory:
    missing = tuple(
        Missing(name, "the amdgpu driver does not show it for this device")
        for name in device.__struct_fields__
        if getattr(device, name) is None
    )
    return msgspec.structs.replace(device, missing=missing)


def _text(path: Path) -> str | None:
    try:
        text = path.read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return None
    return "".join(letter for letter in text if letter.isprintable() or letter in "\n\t")


def _number(path: Path) -> int | None:
    text = _text(path)
    return int(text) if text is not None and text.isdigit() else None

"""Figures with their units, in few and steady characters.

Bytes that lie somewhere are in binary units (KiB, MiB, GiB), as llama.cpp and nvidia-smi print them; bytes a second
are in decimal ones (MB/s, GB/s), as disks and memory are sold.
"""

from __future__ import annotations

NOT_KNOWN = "n/a"
_GIB = 1024**3
_MIB = 1024**2


def count(value: int | None) -> str:
    """A whole number with a space between thousands."""
    return NOT_KNOWN if value is None else f"{value:,}".replace(",", " ")


def significant(value: float) -> str:
    """Three digits that matter: 0.42, 4.27, 42.7, 427."""
    if value < 0.0005:
        return "0"
    if value < 9.995:
        return f"{value:.2f}"
    return f"{value:.1f}" if value < 99.95 else f"{value:.0f}"


def size(value: int | None) -> str:
    """Bytes, such as ``4.4 GiB`` or ``310 MiB``."""
    if value is None:
        return NOT_KNOWN
    if value >= 100 * _GIB:
        return f"{value / _GIB:.0f} GiB"
    if value >= 0.95 * _GIB:
        return f"{value / _GIB:.1f} GiB"
    if value >= 100 * _MIB:
        return f"{value / _MIB:.0f} MiB"
    if value >= 0.95 * _MIB:
        return f"{value / _MIB:.1f} MiB"
    return f"{value / 1024:.0f} KiB" if value >= 1024 else f"{value} B"


def of_size(part: int | None, whole: int | None) -> str:
    """Two sizes in the unit of the second, such as ``6.1 / 8.0 GiB``."""
    if part is None or whole is None:
        return f"{size(part)} / {size(whole)}"
    unit, name, digits = (_GIB, "GiB", 1) if whole >= 0.95 * _GIB else (_MIB, "MiB", 0 if whole >= 100 * _MIB else 1)
    return f"{part / unit:.{digits}f} / {whole / unit:.{digits}f} {name}"


def gib(value: int) -> str:
    """The bare number of GiB, for a legend whose unit stands elsewhere."""
    return f"{value / _GIB:.0f}" if value >= 100 * _GIB else f"{value / _GIB:.1f}"


def rate(value: float | None) -> str:
    """Bytes a second, such as ``38 MB/s``."""
    if value is None:
        return NOT_KNOWN
    if value >= 0.9995e12:
        return f"{value / 1e12:.1f} TB/s"
    if value >= 0.9995e9:
        return f"{value / 1e9:.1f} GB/s" if value < 99.95e9 else f"{value / 1e9:.0f} GB/s"
    if value >= 10e6 or value < 1e3:
        return f"{value / 1e6:.0f} MB/s"
    return f"{value / 1e6:.1f} MB/s" if value >= 0.05e6 else f"{value / 1e3:.0f} kB/s"


def duration(ms: float | None) -> str:
    """Milliseconds, or seconds from ten of them on."""
    if ms is None:
        return NOT_KNOWN
    return f"{significant(ms)} ms" if ms < 9_995 else f"{ms / 1000:.1f} s"


def per_second(value: float | None) -> str:
    """Tokens a second."""
    return NOT_KNOWN if value is None else f"{significant(value)} tok/s"


def percent(value: float | None) -> str:
    """A share given in per cent."""
    if value is None:
        return NOT_KNOWN
    return f"{value:.0f} %" if value >= 9.95 or value == 0 else f"{value:.1f} %"


def share(part: float | None, whole: float | None) -> float | None:
    """``part`` of ``whole`` in per cent; None where it cannot be said."""
    if part is None or not whole:
        return None
    return 100.0 * part / whole


def ago(seconds: float) -> str:
    """An age in one word and a number."""
    for limit, unit, name in ((60, 1, "s"), (3600, 60, "min"), (86_400, 3600, "h")):
        if seconds < limit:
            return f"{max(seconds, 0) / unit:.0f} {name} ago"
    days = seconds / 86_400
    return "yesterday" if days < 2 else f"{days:.0f} days ago"

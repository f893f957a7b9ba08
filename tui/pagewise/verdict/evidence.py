"""What is known of a turn when it is judged."""

from __future__ import annotations

from typing import Literal

from msgspec import Struct

from pagewise.readings import Streaming


class Tier(Struct, frozen=True):
    """One kind of memory, and what a token of the turn did in the layers that live there."""

    kind: Literal["RAM", "VRAM"]
    where: str
    """For a person: ``all layers``, ``layers 0–10``."""
    ms: float
    """Time of one token spent in these layers."""
    bytes: float
    """Weights and KV cache read for one token, in bytes."""
    peak_bytes_per_s: float | None
    """What this memory can do at best; None where it is not known, and ``why_no_peak`` says why."""
    why_no_peak: str = ""
    kv_bytes: float = 0.0
    """The part of ``bytes`` that is KV cache."""
    n_layers: int = 0
    resident_bytes: int = 0
    """Weights that live there, whether one token reads them or not."""

    @property
    def bytes_per_s(self) -> float:
        """Bandwidth used while these layers ran."""
        return self.bytes / (self.ms / 1000.0) if self.ms > 0 else 0.0

    @property
    def use(self) -> float | None:
        """Bandwidth used as a share of the peak."""
        return self.bytes_per_s / self.peak_bytes_per_s if self.peak_bytes_per_s else None


class Evidence(Struct, frozen=True):
    """Figures of one turn, taken between its first and its last token. None: not known."""

    n_output: int
    tpot_ms: float | None
    loop_cost_ms: float | None
    """Time of one token outside llama.cpp."""
    tiers: tuple[Tier, ...]
    """Empty where the time cannot be told apart by tiers."""
    why_no_tiers: str
    page_in_bytes: float | None
    """Read from disk by the engine for one token."""
    io_stalled: float | None
    """Share of the time in which a task waited for I/O, or for pages that reclaim had taken, whichever is more."""
    io_scope: str
    """``cgroup`` or ``box``: whose tasks."""
    threads: int
    physical_cores: int
    logical_cores: int
    engine_cores: float | None
    """Cores kept busy by the engine."""
    other_cores: float | None
    """Cores kept busy by everything else."""
    gpu_busy_pct: float | None
    file_bytes: int
    ram_available_bytes: int | None
    n_params: int = 0
    streaming: Streaming | None = None
    """What of the file is kept and what is streamed; None: the engine has not said."""
    kernel_cores: float | None = None
    """The part of ``engine_cores`` that was spent in the kernel, such as bringing pages in."""
    dram_bytes_s: float | None = None
    """Moved by the memory of the devices that hold the model, by their own monitor (GPM), over the whole turn."""
    pcie_bytes_s: float | None = None
    """In the busier direction of the busiest link to a device that holds the model."""
    pcie_peak_bytes_s: float | None = None
    """What that link carries in one direction."""
    vram_free_bytes: int | None = None
    vram_peak_bytes_s: float | None = None
    quant: str = ""
    disk_peak_bytes_s: float | None = None
    """What `pagewise doctor` measured of the disk that the model file lies on."""
    demand_bytes: float | None = None
    """Read by the computing threads in a probed token, over those of the turn."""
    read_ahead_bytes: float | None = None
    """Read ahead of them."""

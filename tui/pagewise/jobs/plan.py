"""The plan: the memory that a profile will take on each device, found before anything is loaded."""

from __future__ import annotations

from msgspec import Struct

from pagewise.jobs.base import JobAnswer, JobRequest
from pagewise.settings import Profile

RAM = "RAM"
TARGET_SHARE = 0.03
TARGET_BYTES = 200 * 1024 * 1024
"""A prediction is good if it is right to within the larger of the two."""


class DevicePlan(Struct, frozen=True):
    """Bytes on one device, or in RAM (``device`` is ``RAM``). A part that cannot be known is None."""

    device: str
    """``RAM``, or ggml's name of the device."""
    description: str
    weights_bytes: int
    """In RAM: copied or locked ones alone; what is mapped can be evicted and is counted in ``mapped_bytes``."""
    kv_bytes: int
    compute_bytes: int
    driver_bytes: int | None
    """What the driver takes beside them, as learned on this machine; None until it has been seen once."""
    total_bytes: int | None
    free_bytes: int | None
    """Free now, beside what all other processes hold, with what the model in force will give back."""
    freed_bytes: int = 0
    """Of ``free_bytes``: what the model in force will give back."""

    @property
    def needed_bytes(self) -> int:
        """Sum of the parts that are known."""
        return self.weights_bytes + self.kv_bytes + self.compute_bytes + (self.driver_bytes or 0)


class Compared(Struct, frozen=True):
    """Weights, KV cache and compute buffers of one device at one load, mapped weights too: predicted, and as it came.

    For RAM ``device`` is ``RAM``.
    """

    device: str
    predicted_bytes: int
    actual_bytes: int
    n_ctx: int
    offloaded_layers: int

    @property
    def missed_bytes(self) -> int:
        """What it took beyond the prediction; negative where it took less."""
        return self.actual_bytes - self.predicted_bytes

    @property
    def within_target(self) -> bool:
        """Whether the prediction was right to within the larger of 3 % and 200 MiB."""
        return abs(self.missed_bytes) <= max(TARGET_BYTES, TARGET_SHARE * self.actual_bytes)


class WouldFit(Struct, frozen=True):
    """One change with which a profile fits, alone or with what ``text`` says."""

    key: str
    """Of the profile; ``model`` where it is another file that is needed."""
    value: str
    """As ``--set key=value`` takes it; empty for ``model``."""
    text: str


class MemoryPlan(Struct, frozen=True):
    """What a profile will take. ``estimate``: by formula, because llama.cpp would not build it without memory."""

    profile: Profile
    devices: tuple[DevicePlan, ...]
    """RAM first, then each accelerator."""
    mapped_bytes: int
    """Weights that stay in the file and are read through the page cache."""
    copied_bytes: int
    """Weights copied into private memory: repacked, locked, or loaded without mapping."""
    streamed_bytes: int
    """Of the mapped ones: read again for every token, because they do not fit."""
    n_ctx: int
    offloaded_layers: int
    n_layer: int
    fits: bool
    estimate: bool
    margin_bytes: int
    """What is to stay free on each device, from what earlier predictions missed by."""
    notes: tuple[str, ...] = ()
    """What the person should know: what does not fit and what would, an override that matches nothing."""
    took_ms: float = 0.0
    placed: Profile | None = None
    """With ``n_gpu_layers = "fit"``: the profile that is loaded for it, with layers, overrides and split in figures."""
    would_fit: tuple[WouldFit, ...] = ()
    """Where it does not fit: what would, the smallest change first."""
    last: tuple[Compared, ...] = ()
    """How the last load of this model on this machine compared with its plan, one entry a device."""


class MakePlan(JobRequest, frozen=True, tag=True):
    """Plan the memory of ``profile``; answered by Planned. A later one replaces those that wait."""

    profile: Profile


class Planned(JobAnswer, frozen=True, tag=True):
    """The plan that MakePlan ``id`` asked for."""

    plan: MemoryPlan

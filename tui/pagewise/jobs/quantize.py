"""Making another quant level of a model, or saying what it would weigh and cost.

What a dial of levels needs: FindModels (the catalog) tells which levels are on the disk; Quantize with ``dry_run``
what a missing one would weigh, in a second or so; Quantize without it makes the file, which the catalog then finds.
"""

from __future__ import annotations

from msgspec import Struct

from pagewise.jobs.base import JobAnswer, JobRequest


class LevelBytes(Struct, frozen=True):
    """All tensors of one type in the result."""

    type: str
    tensors: int
    bytes: int


class RoundingError(Struct, frozen=True):
    """RMS error of the weights relative to their RMS, over all weights, for weights that are normally distributed."""

    source: float
    """What the source has already."""
    result: float
    """What the result will have: both errors, which add up in squares."""
    direct: float
    """What the same level made from 16-bit weights would have."""


class Quantize(JobRequest, frozen=True, tag=True):
    """Make ``source`` at ``level``; answered by Quantized. Cancelled or failed, it leaves nothing behind.

    It is done in an engine process of its own; JobProgress counts bytes of the result, with the tensor as detail.
    """

    source: str
    """A GGUF file; of a split one any part."""
    level: str
    """As llama.cpp names it, in any case: ``Q4_K_M``, or its short name ``q4_k``."""
    target: str = ""
    """The file to write, which must not be there yet. Empty: beside the source under its name with the new level, or
    in pagewise's own folder of models where the source lies in another program's store or a read-only folder."""
    imatrix: str = ""
    """An importance matrix (GGUF, or the older .dat) that tells which weights matter."""
    dry_run: bool = False
    """Write nothing: say what the result would be."""
    threads: int = 0
    """0: one for each physical core."""
    allow_requantize: bool = False
    """Go on where the source is so coarse already that its error is passed on; without it the job fails and says so."""
    pure: bool = False
    """All matrices of the one type that names the level, without llama.cpp's mix."""


class Quantized(JobAnswer, frozen=True, tag=True):
    """What Quantize ``id`` has made, or (``dry_run``) would make."""

    path: str
    source: str
    source_level: str
    level: str
    source_bytes: int
    bytes: int
    """Of the whole file. A dry run predicts it exactly."""
    bits_per_weight: float
    types: tuple[LevelBytes, ...]
    """The largest first."""
    error: RoundingError
    free_bytes: int | None
    """Free on the target's disk, before the file is written; None where the system does not say."""
    needs_imatrix: bool = False
    """The level cannot be made without an importance matrix."""
    needs_permission: bool = False
    """The source is coarse already: it is made only with ``allow_requantize``."""
    notes: tuple[str, ...] = ()
    """What the person should know, such as what it costs to begin from a coarse level."""
    dry_run: bool = False
    seconds: float = 0.0

"""The yardstick: prefill and decode rates, TTFT and TPOT of profiles, measured apart from any conversation."""

from __future__ import annotations

from msgspec import Struct

from pagewise.jobs.base import JobAnswer, JobRequest
from pagewise.jobs.measure import Measured, Test
from pagewise.readings import BufferBytes
from pagewise.settings import Profile


class BenchTest(Struct, frozen=True):
    """What is measured in one go; see Measure for the kinds."""

    test: Test
    n_prompt: int = 0
    n_output: int = 0
    depth: int = 0


class Bench(JobRequest, frozen=True, tag=True):
    """Measure each test on each profile, after a warm-up; answered by Benched."""

    profiles: tuple[Profile, ...]
    tests: tuple[BenchTest, ...]
    repetitions: int = 5
    cold: bool = False
    """Each profile is also loaded once with its file dropped from the page cache, up to its first token."""


class BenchModel(Struct, frozen=True):
    """What one profile was measured on."""

    profile: Profile
    path: str
    name: str
    architecture: str
    quant: str
    n_params: int
    file_bytes: int
    weight_bytes: int
    """All tensors of the file, without header and vocabulary."""
    n_ctx: int
    n_batch: int
    n_ubatch: int
    threads: int
    threads_batch: int
    flash_attention: bool
    repacked: bool
    offloaded_layers: int
    buffers: tuple[BufferBytes, ...]
    load_ms: float
    cold_first_token_ms: float | None = None
    """From the begin of a load without a page of the file in RAM to the first token of a reply."""


class BenchRow(Struct, frozen=True):
    """One test on one profile: ``model`` is its place in ``Benched.models``."""

    model: int
    test: BenchTest
    samples: tuple[Measured, ...]
    drift: float
    """How far the machine's speed had gone from where it began when this was measured: 0.05 is 5 %."""
    other_load: float | None
    """Cores that other programs kept busy meanwhile; None where it cannot be read."""
    discarded: int = 0
    """Samples thrown away because the machine had drifted by more than 10 %."""
    began_at: float = 0.0
    """Of the samples that were kept, in seconds since 1970."""


class Benched(JobAnswer, frozen=True, tag=True):
    """All that Bench ``id`` measured, in the order that was asked for. A profile that failed has not all its rows."""

    models: tuple[BenchModel, ...]
    rows: tuple[BenchRow, ...]
    llama_cpp: str
    cpu: str
    devices: tuple[str, ...]
    notes: tuple[str, ...] = ()
    """What makes figures less sure, in sentences for the person."""
    in_turns: bool = False
    """Whether each repetition went round the profiles: then samples of the same place make pairs."""

"""The tuner: what it aims at, its trials as they come, and what it found."""

from __future__ import annotations

from typing import Literal

from msgspec import Struct

from pagewise.failure import Failure
from pagewise.jobs.base import JobAnswer, JobNews, JobRequest, JobWish
from pagewise.settings import Profile

Goal = Literal["chat", "long-prompts", "batch"]
Outcome = Literal["start", "better", "same", "worse", "dropped", "failed", "ruled out"]
"""``dropped``: so much worse at first sight that it was not measured to the end. ``ruled out``: it cannot fit."""

TUNED = frozenset(
    {
        "n_gpu_layers", "split_mode", "main_gpu", "tensor_split", "tensor_overrides", "load_mode", "repack", "n_batch",
        "n_ubatch", "threads", "threads_batch", "cache_type_k", "cache_type_v", "flash_attention", "placement",
    }
)  # fmt: skip
"""Keys of a profile that a tune may change."""


class Aim(Struct, frozen=True):
    """What is to become better, and what must stay."""

    goal: Goal = "chat"
    n_prompt: int = 256
    """Tokens of a new message."""
    n_output: int = 64
    depth: int = 1024
    """Tokens that are in the KV cache before it."""
    ttft_bound_ms: float | None = None
    """Of a chat: a time to the first token above it counts against a candidate. None: a tenth above the start's."""
    leave_free_bytes: int = 0
    """On each device and in RAM."""
    kv_types: bool = False
    """Whether smaller types of the KV cache may be tried; they cost quality, which is not measured here."""


class Trial(Struct, frozen=True):
    """One configuration that was measured beside the best one known then."""

    number: int
    """0 is the start."""
    profile: Profile
    changes: tuple[str, ...]
    """Against the best one known then, such as ``threads: 16 → 8``."""
    why: str
    """Why it was tried, in a sentence."""
    outcome: Outcome
    ttft_ms: float | None = None
    tpot_ms: float | None = None
    prefill_rate: float | None = None
    """Tokens a second."""
    cost: float | None = None
    """What the aim makes of it, in ms; smaller is better."""
    gain: float | None = None
    """How many times better than the best one known then; with the ends of its 95 % interval."""
    low: float | None = None
    high: float | None = None
    pairs: int = 0
    """How often the two were measured beside each other."""
    memory_bytes: int | None = None
    """Weights, KV cache and buffers on all devices and in RAM."""
    device_bytes: int | None = None
    """Of these, on accelerators."""
    seconds: float = 0.0
    failure: Failure | None = None


class Tune(JobRequest, frozen=True, tag=True):
    """Look for a better configuration than ``profile``; each trial is told by TrialEnded, the end by Tuned."""

    profile: Profile
    aim: Aim = Aim()
    fixed: tuple[str, ...] = ()
    """Keys of the profile that stay as they are."""
    most_trials: int = 15
    most_seconds: float | None = None
    in_place: bool = False
    """In the engine of the conversation, with changes that load nothing; the conversation stays."""
    fresh: bool = False
    """Do not begin from what earlier tunes of this model on this machine have found."""


class TakeBest(JobWish, frozen=True, tag=True):
    """End tune ``id`` now with the best so far."""


class FixKey(JobWish, frozen=True, tag=True):
    """Tune ``id`` is to leave this key as it is in the best one known now."""

    key: str


class TrialEnded(JobNews, frozen=True, tag=True):
    """One more trial of tune ``id``."""

    trial: Trial
    best: int
    """The number of the best trial so far."""
    trials_left: int
    seconds_left: float | None


class Tuned(JobAnswer, frozen=True, tag=True):
    """The end of tune ``id``: the best one, measured again beside the start."""

    start: Trial
    best: Trial
    trials: tuple[Trial, ...]
    gain: float
    """How many times better than the start in the last comparison, with its 95 % interval."""
    low: float
    high: float
    pairs: int
    reasons: tuple[str, ...]
    """What made the difference, one sentence a change: ``threads 16 → 8: 1.31×, RAM bandwidth was saturated``."""
    notes: tuple[str, ...] = ()
    seconds: float = 0.0

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
        "fit_margin", "model", "quant",
    }
)  # fmt: skip
"""Keys of a profile that a tune may change."""
MAX_KL = 0.01
"""Nats. Of a cache in q8_0 most models stay far below it; what is above it can be seen in answers."""

MEASURE = "measure"
"""The phase of a tune's JobProgress while it measures; ``done`` counts the measurements of the trial in hand."""


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
    """Whether smaller types of the KV cache may be tried; without ``max_kl`` the limit is ``MAX_KL``."""
    leave_free_on: tuple[tuple[str, int], ...] = ()
    """The same for one device by ggml's name in any case, or for ``RAM``; it counts there instead."""
    max_kl: float | None = None
    """The highest mean KL divergence that smaller KV types and other quants may come to, in nats; what is above it is
    ruled out. It is measured on ``text``. With it smaller KV types are tried without being asked for."""
    text: str = ""
    """A file on the box that divergence is measured on; empty: the text that ships with pagewise."""
    depth_from: str = ""
    """Where the depth comes from, for the person; empty: it was given."""

    @property
    def tries_kv_types(self) -> bool:
        """Whether smaller types of the KV cache may be tried."""
        return self.kv_types or self.max_kl is not None

    @property
    def kv_limit(self) -> float:
        """The highest divergence that KV types may come to, in nats."""
        return MAX_KL if self.max_kl is None else self.max_kl

    def leave_free(self, device: str) -> int:
        """Bytes to leave free there."""
        wanted = {name.casefold(): size for name, size in self.leave_free_on}
        return wanted.get(device.casefold(), self.leave_free_bytes)


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
    kl: float | None = None
    """Mean KL divergence of its KV types and its quant from the best there is, in nats; None: it costs no quality, or
    that was not measured."""
    memory_bytes: int | None = None
    """Weights, KV cache and buffers on all devices and in RAM."""
    device_bytes: int | None = None
    """Of these, on accelerators."""
    seconds: float = 0.0
    failure: Failure | None = None


class QuantWish(Struct, frozen=True):
    """One file that may be taken instead: a quant level of the same model, or a file of its own."""

    quant: str | None = None
    model: str = ""
    """Empty: a file of ``quant`` is looked for, beside the profile's own and in the catalog."""


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
    quants: tuple[QuantWish, ...] = ()
    """Other files of the same model that may be taken."""


class TakeBest(JobWish, frozen=True, tag=True):
    """End tune ``id`` now with the best so far."""


class FixKey(JobWish, frozen=True, tag=True):
    """Tune ``id`` is to leave this key as it is in the best one known now."""

    key: str


class TuneResumed(JobNews, frozen=True, tag=True):
    """Tune ``id`` goes on from trials of earlier ones, of this model on this machine."""

    trials: int
    lost: int
    """Of these, configurations that are not tried again."""
    best: tuple[str, ...] = ()
    """What the best of them changed against the start, which is tried first; empty: nothing."""


class TrialBegun(JobNews, frozen=True, tag=True):
    """Tune ``id`` is at this now; ``changes`` and ``why`` as in Trial."""

    number: int
    changes: tuple[str, ...]
    why: str


class LastComparison(JobNews, frozen=True, tag=True):
    """Tune ``id`` measures its best beside the start once more: this is pair ``pair``, of so many as it looks now."""

    pair: int
    pairs: int


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
    noise: float | None = None
    """How much two measurements of the same differed, as a share (standard deviation)."""
    aim: Aim = Aim()
    begun_elsewhere: bool = False
    """Whether the start is not the profile that was asked for, because that could not be begun with; see ``notes``."""

    @property
    def is_new(self) -> bool:
        """Whether ``best`` is another profile than the one that was asked for."""
        return self.best.number > 0 or self.begun_elsewhere

"""Models side by side: what each costs and how good it is, so that a quant level can be decided on."""

from __future__ import annotations

from msgspec import Struct

from pagewise.failure import Failure
from pagewise.jobs.base import JobAnswer, JobRequest
from pagewise.settings import Profile

PROMPT = "Explain in three sentences why a quantized language model is faster, and what it loses."


class Divergence(Struct, frozen=True):
    """How far a model's predictions are from the reference's on the same text; errors are standard errors."""

    kl: float
    """Mean Kullback-Leibler divergence of the next token's distribution, in nats."""
    kl_error: float
    kl_99: float
    """Exceeded by one token in a hundred."""
    kl_max: float
    same_top: float
    """Share of tokens whose most probable successor is the same, 0 to 1."""
    same_top_error: float
    ppl_ratio: float
    """Perplexity ÷ the reference's."""
    ppl_ratio_error: float
    """Much smaller than those of the two perplexities: both models stumble at the same words."""


class Quality(Struct, frozen=True):
    """What llama-perplexity measures, by its method, on one text."""

    n_ctx: int
    chunks: int
    tokens: int
    """Of the whole text."""
    scored: int
    """Tokens that count: the second half of each chunk but its last."""
    perplexity: float
    error: float
    """Standard error of the perplexity; 0 where there were too few tokens to say."""
    seconds: float
    divergence: Divergence | None = None
    why_no_divergence: str = ""


class MeasureQuality(JobRequest, frozen=True, tag=True):
    """To an engine with a model, which lets go of it afterwards. Answered by QualityMeasured, or by JobFailed."""

    text: str
    n_ctx: int
    chunks: int
    """0: all of the text."""
    logits: str = ""
    """A file for the reference's predictions; empty: nothing is compared."""
    is_reference: bool = False
    """Write the file instead of comparing with it."""


class QualityMeasured(JobAnswer, frozen=True, tag=True):
    """What MeasureQuality ``id`` found."""

    quality: Quality


class DeviceBytes(Struct, frozen=True):
    """What llama.cpp holds on one device: weights, KV cache and compute buffers."""

    device: str
    """``RAM``, or ggml's name of the device."""
    bytes: int
    mapped_bytes: int = 0
    """Of them: weights in the mapped file, which the system can evict."""


class ComparedModel(Struct, frozen=True):
    """One model of a comparison. What could not be found out is None; ``failure`` says why nothing could."""

    label: str
    profile: Profile
    failure: Failure | None = None
    path: str = ""
    level: str = ""
    n_params: int | None = None
    file_bytes: int | None = None
    bits_per_weight: float | None = None
    load_ms: float | None = None
    cached: float | None = None
    """Share of the file that was in memory before the load, 0 to 1."""
    ttft_ms: float | None = None
    prefill_rate: float | None = None
    decode_rate: float | None = None
    memory: tuple[DeviceBytes, ...] = ()
    quality: Quality | None = None
    why_no_quality: str = ""
    answer: str = ""
    n_answer: int = 0
    """Tokens of the answer."""
    same_answer: int | None = None
    """How many of them are the reference's first ones; None for the reference, and where tokens mean something else."""


class CompareModels(JobRequest, frozen=True, tag=True):
    """Load one after the other in an engine of its own, and measure; answered by ModelsCompared.

    The first is the reference of the others.
    """

    profiles: tuple[Profile, ...]
    labels: tuple[str, ...]
    """How each is called in progress and answer."""
    text: str = ""
    """A file on the box, for perplexity and divergence; empty: neither."""
    prompt: str = PROMPT
    n_ctx: int = 512
    """Tokens of a chunk of the text."""
    chunks: int = 0
    """0: all of the text."""
    max_tokens: int = 120
    """Of an answer."""


class ModelsCompared(JobAnswer, frozen=True, tag=True):
    """What CompareModels ``id`` found."""

    models: tuple[ComparedModel, ...]
    prompt: str
    text: str

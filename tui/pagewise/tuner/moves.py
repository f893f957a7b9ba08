"""What may be tried from where one stands: the rules as one table, each with its reason and what it may bring."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from pagewise.jobs.tune import Aim
from pagewise.tuner.facts import Facts
from pagewise.tuner.move import Move
from pagewise.tuner.places import PLACE_RULES, SATURATED
from pagewise.tuner.standing import Standing
from pagewise.verdict.smaller_quant import that_fits

_KV_MATTERS = 0.05
_COUNTS = 0.3
"""Share of the aim from which on prefill is worth a trial of what helps it alone."""
_GB = 1e9
_UBATCHES = (64, 128, 256, 512, 1024, 2048, 4096)
_BATCHES = (256, 512, 1024, 2048, 4096, 8192)
_KV_TYPES = (("q8_0", "q8_0", 0.47), ("q8_0", "q4_0", 0.6), ("q4_0", "q4_0", 0.72))
"""Types of keys and values, and the share of the cache's bytes that they save."""


Rule = Callable[[Standing, Facts, Aim], Iterator[Move]]


def moves(standing: Standing, facts: Facts, aim: Aim) -> list[Move]:
    """All that the rules propose, what may bring most first."""
    found = [move for rule in _RULES for move in rule(standing, facts, aim) if move.alters(standing.profile)]
    return sorted(found, key=lambda move: (-move.expected, not move.cheap))


def remarks(standing: Standing, facts: Facts, aim: Aim) -> list[str]:
    """What would help and cannot be tried, for the person."""
    if not facts.streamed_bytes or facts.candidates:
        return []
    read = f"The start is bound by disk: {facts.streamed_bytes / _GB:.1f} GB are read from it for each token."
    quant = that_fits(facts.n_params, facts.model_bytes, facts.available_bytes) if facts.n_params else None
    if quant is None:
        return [f"{read} A shorter context or more memory would leave less to read."]
    would = f"{quant.name} would fit ({quant.bytes / _GB:.1f} GB of {facts.available_bytes / _GB:.1f} GB)"
    return [f"{read} {would}: `--quants {quant.name}` lets the tuner take it."]


def _threads(standing: Standing, facts: Facts, aim: Aim) -> Iterator[Move]:
    now, share = standing.threads, facts.ram_share(standing.tpot_ms, standing.threads, standing.host_bytes)
    saturated = share is not None and share >= SATURATED
    matters = 1.0 if aim.goal != "long-prompts" else 0.1
    for count in _thread_counts(facts):
        if count > facts.physical_cores > now:
            continue
        if count > facts.physical_cores:
            why, gain = "two threads on one core seldom help, but on some machines they do", 1.05
        elif count > now and saturated:
            why, gain = f"RAM bandwidth is at {share:.0%} of its peak: more threads may bring little", 1.02
        elif count > now:
            why, gain = f"{now} of {facts.physical_cores} cores compute", min(count / now, 2.0)
        elif saturated:
            why, gain = f"RAM bandwidth is saturated ({share:.0%} of its peak): fewer threads wait less", 1.10
        elif now > facts.physical_cores:
            why, gain = f"{now} threads share {facts.physical_cores} cores", 1.15
        else:
            why, gain = "fewer threads wait less for each other", 1.04 if count * 2 >= now else 1.01
        if count != now:
            yield Move((("threads", count),), why, 1 + (gain - 1) * matters, cheap=True)


def _threads_for_prefill(standing: Standing, facts: Facts, aim: Aim) -> Iterator[Move]:
    now, matters = standing.threads_batch, _prefill_matters(standing, aim)
    for count in _thread_counts(facts):
        if count > facts.physical_cores:
            gain, why = 1.10, "arithmetic may use both threads of a core"
        elif count > now:
            gain, why = min(count / now, 2.0), "prefill is arithmetic: it takes every core"
        else:
            gain, why = 1.02, "fewer threads wait less for each other"
        if count != now:
            yield Move((("threads_batch", count),), why, 1 + (gain - 1) * matters, cheap=True)


def _micro_batch(standing: Standing, facts: Facts, aim: Aim) -> Iterator[Move]:
    matters, now = _prefill_matters(standing, aim), standing.n_ubatch
    for size in _beside(now, _UBATCHES):
        if size >= 2 * aim.n_prompt:
            continue
        larger = size > now
        why = "larger micro-batches read the weights less often" if larger else "smaller ones stay in the caches"
        gain = 1.15 if larger and (facts.devices or facts.streamed_bytes) else 1.06
        changes: tuple[tuple[str, int], ...] = (("n_ubatch", size),)
        if size > standing.profile.n_batch:
            changes = (("n_batch", size), *changes)
        yield Move(changes, why, 1 + (gain - 1) * matters, cheap=True)


def _batch(standing: Standing, facts: Facts, aim: Aim) -> Iterator[Move]:
    """Of a prompt that does not fit into one; several devices compute the micro-batches of a batch in turn."""
    matters, now = _prefill_matters(standing, aim), standing.profile.n_batch
    if matters < _COUNTS or aim.n_prompt < now:
        return
    for size in _beside(now, _BATCHES):
        if size < standing.n_ubatch or (size > now and aim.n_prompt <= now):
            continue
        larger = size > now
        why = "larger batches: fewer pauses between them" if larger else "smaller batches: their buffers stay in caches"
        gain = (1.08 if len(facts.devices) > 1 else 1.03) if larger else 1.01
        yield Move((("n_batch", size),), why, 1 + (gain - 1) * matters, cheap=True)


def _flash_attention(standing: Standing, facts: Facts, aim: Aim) -> Iterator[Move]:
    share = _kv_share(facts)
    needs_it = standing.profile.cache_type_v not in ("f32", "f16", "bf16")
    value = "off" if standing.flash_attention else "on"
    if not (value == "off" and needs_it):
        why = f"the KV cache is {share:.0%} of what a token reads, and attention would be done another way"
        yield Move((("flash_attention", value),), why, 1.02 + share / 2, cheap=True)


def _cache_types(standing: Standing, facts: Facts, aim: Aim) -> Iterator[Move]:
    share = _kv_share(facts)
    if not aim.tries_kv_types or share < _KV_MATTERS:
        return
    for keys, values, smaller in _KV_TYPES:
        changes: tuple[tuple[str, str], ...] = (("cache_type_k", keys), ("cache_type_v", values))
        if standing.profile.flash_attention == "off":
            changes = (*changes, ("flash_attention", "on"))
        yield Move(changes, f"the KV cache is {share:.0%} of what a token reads", 1 / (1 - share * smaller), cheap=True)


_RULES: tuple[Rule, ...] = (
    *PLACE_RULES,
    _threads,
    _threads_for_prefill,
    _micro_batch,
    _batch,
    _flash_attention,
    _cache_types,
)


def _thread_counts(facts: Facts) -> list[int]:
    counts = {facts.physical_cores, facts.logical_cores}
    half = facts.physical_cores
    while half > 1:
        half //= 2
        counts.add(half)
    if facts.physical_cores > 3:
        counts.add(facts.physical_cores * 3 // 4)
    return sorted(counts)


def _beside(now: int, sizes: tuple[int, ...]) -> list[int]:
    """The nearest ones below and above, whether or not it is one of them."""
    below, above = [size for size in sizes if size < now], [size for size in sizes if size > now]
    return [*below[-1:], *above[:1]]


def _kv_share(facts: Facts) -> float:
    total = facts.bytes_per_token + facts.kv_bytes_at_depth
    return facts.kv_bytes_at_depth / total if total else 0.0


def _prefill_matters(standing: Standing, aim: Aim) -> float:
    """How much of the aim is prefill: of a chat little, because the first token only has to come in time."""
    ttft, tpot = standing.ttft_ms or 0.0, standing.tpot_ms or 0.0
    if aim.goal == "long-prompts":
        return 1.0
    if aim.goal == "chat":
        return 1.0 if standing.ttft_bound_ms is not None and ttft > standing.ttft_bound_ms else 0.1
    whole = ttft + tpot * aim.n_output
    return ttft / whole if whole else 0.5

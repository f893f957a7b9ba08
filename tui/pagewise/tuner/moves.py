"""What may be tried from where one stands: the rules as one table, each with its reason and what it may bring."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

import msgspec

from pagewise.jobs.tune import Aim
from pagewise.settings import Profile
from pagewise.tuner.facts import Facts
from pagewise.tuner.move import Move

_SATURATED = 0.60
"""Below this share of the RAM's peak nothing is called limited by it."""
_KV_MATTERS = 0.05
_UBATCHES = (64, 128, 256, 512, 1024, 2048, 4096)
_MARGIN = 1024**3
_EXPERTS_TO_RAM = r"\.ffn_(up|down|gate)_exps\.=CPU"


class Standing(NamedTuple):
    """Where the search stands: the best profile so far and what was measured of it."""

    profile: Profile
    threads: int
    """Really in use for decode."""
    threads_batch: int
    n_ubatch: int
    flash_attention: bool
    tpot_ms: float | None
    ttft_ms: float | None
    ttft_bound_ms: float | None

    @property
    def in_force(self) -> Profile:
        """The profile with what it leaves open said as it is."""
        return msgspec.structs.replace(
            self.profile,
            threads=self.threads,
            threads_batch=self.threads_batch,
            n_ubatch=self.n_ubatch,
            flash_attention="on" if self.flash_attention else "off",
        )


Rule = Callable[[Standing, Facts, Aim], Iterator[Move]]


def moves(standing: Standing, facts: Facts, aim: Aim) -> list[Move]:
    """All that the rules propose, what may bring most first."""
    found = [move for rule in _RULES for move in rule(standing, facts, aim) if move.alters(standing.profile)]
    return sorted(found, key=lambda move: (-move.expected, not move.cheap))


def _threads(standing: Standing, facts: Facts, aim: Aim) -> Iterator[Move]:
    now, share = standing.threads, facts.ram_share(standing.tpot_ms, standing.threads)
    saturated = share is not None and share >= _SATURATED
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
    for size in _UBATCHES:
        if size not in (now // 2, now * 2) or size >= 2 * aim.n_prompt:
            continue
        larger = size > now
        why = "larger micro-batches read the weights less often" if larger else "smaller ones stay in the caches"
        gain = 1.15 if larger and (facts.devices or facts.streamed_bytes) else 1.06
        changes: tuple[tuple[str, int], ...] = (("n_ubatch", size),)
        if size > standing.profile.n_batch:
            changes = (("n_batch", size), *changes)
        yield Move(changes, why, 1 + (gain - 1) * matters, cheap=True)


def _flash_attention(standing: Standing, facts: Facts, aim: Aim) -> Iterator[Move]:
    share = _kv_share(facts)
    needs_it = standing.profile.cache_type_v not in ("f32", "f16", "bf16")
    value = "off" if standing.flash_attention else "on"
    if not (value == "off" and needs_it):
        why = f"the KV cache is {share:.0%} of what a token reads, and attention would be done another way"
        yield Move((("flash_attention", value),), why, 1.02 + share / 2, cheap=True)


def _cache_types(standing: Standing, facts: Facts, aim: Aim) -> Iterator[Move]:
    share = _kv_share(facts)
    if not aim.kv_types or share < _KV_MATTERS:
        return
    for kind, smaller in (("q8_0", 0.47), ("q4_0", 0.72)):
        changes: tuple[tuple[str, str], ...] = (("cache_type_k", kind), ("cache_type_v", kind))
        if standing.profile.flash_attention == "off":
            changes = (*changes, ("flash_attention", "on"))
        yield Move(changes, f"the KV cache is {share:.0%} of what a token reads", 1 / (1 - share * smaller), cheap=True)


def _repacking(standing: Standing, facts: Facts, aim: Aim) -> Iterator[Move]:
    """Only of weights that can be repacked, where file and copy fit into memory beside each other."""
    fits = facts.model_bytes + facts.repackable_bytes + _MARGIN <= facts.available_bytes
    if facts.streamed_bytes or not facts.repackable_bytes or not fits:
        return
    on = standing.profile.repack == "on"
    why = "the file's own layout may be read faster" if on else "the processor may read another layout faster"
    yield Move((("repack", "off" if on else "on"),), why, 1.05, cheap=False)


def _load_mode(standing: Standing, facts: Facts, aim: Aim) -> Iterator[Move]:
    if facts.streamed_bytes or facts.model_bytes + _MARGIN > facts.available_bytes:
        return
    if standing.profile.load_mode in ("auto", "mmap"):
        why = "copied weights lie in huge pages where the kernel gives them"
        yield Move((("load_mode", "none"),), why, 1.015, cheap=False)


def _layers_on_devices(standing: Standing, facts: Facts, aim: Aim) -> Iterator[Move]:
    if not facts.devices:
        return
    layers = standing.profile.n_gpu_layers
    if layers != "fit":
        yield Move((("n_gpu_layers", "fit"),), "as many layers on the device as its memory holds", 2.0, cheap=False)
    if facts.is_mixture and not any("exps" in rule for rule in standing.profile.tensor_overrides):
        overrides = (*standing.profile.tensor_overrides, _EXPERTS_TO_RAM)
        why = "experts are read seldom: attention and what is shared go to the device for all layers instead"
        yield Move((("n_gpu_layers", "all"), ("tensor_overrides", overrides)), why, 1.8, cheap=False)
    if isinstance(layers, int):
        step = max(1, facts.n_layer // 8)
        for count, gain in ((layers + step, 1.1), (layers - step, 1.01)):
            if 0 <= count <= facts.n_layer + 1:
                why = "more layers on the device" if count > layers else "fewer layers leave the device room"
                yield Move((("n_gpu_layers", count),), why, gain, cheap=False)


def _split(standing: Standing, facts: Facts, aim: Aim) -> Iterator[Move]:
    """Over several devices: all on the fastest one where it holds the model, or by their bandwidth."""
    if len(facts.devices) < 2:
        return
    speeds = [device.bytes_per_s or 0.0 for device in facts.devices]
    fastest = max(range(len(speeds)), key=lambda index: speeds[index])
    room = facts.devices[fastest].free_bytes or 0
    if room > facts.model_bytes + _MARGIN and standing.profile.split_mode != "none":
        yield Move(
            (("split_mode", "none"), ("main_gpu", fastest)),
            "one device holds it all: nothing moves between two",
            1.2,
            cheap=False,
        )
    if all(speeds):
        shares = tuple(round(speed / sum(speeds), 2) for speed in speeds)
        why = "each device gets layers by its bandwidth, so that none waits long for the other"
        yield Move((("split_mode", "layer"), ("tensor_split", shares)), why, 1.1, cheap=False)
    if standing.profile.split_mode == "layer":
        yield Move((("split_mode", "row"),), "the devices compute each layer together", 1.02, cheap=False)


_RULES: tuple[Rule, ...] = (
    _layers_on_devices,
    _split,
    _threads,
    _threads_for_prefill,
    _micro_batch,
    _flash_attention,
    _cache_types,
    _repacking,
    _load_mode,
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

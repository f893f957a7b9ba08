"""The rules that name what bounds a token, in the order in which they are asked; the first that holds is the verdict.

A bandwidth is named only when at least ENOUGH of its measured peak is in use. Where no rule holds the answer is
``unclear``, with the figures of all that were asked.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from pagewise.readings import Streaming, Verdict
from pagewise.verdict.evidence import Evidence, Tier
from pagewise.verdict.gain import said, smaller_quant, with_fewer_bytes, with_layers_on_device, without
from pagewise.verdict.smaller_quant import rate_with, that_fits

ENOUGH = 0.60
"""Share of a measured peak from which on a bandwidth is a limit."""
FEW_TOKENS = 8
BUSY = 0.85
"""Share of its threads' time that an engine computes when nothing holds it up."""
CROWDED = 0.90
"""Share of all cores in use from which on programs take time from each other."""
GPU_IDLE_PCT = 70.0
GPU_BUSY_PCT = 90.0
NOTHING = 0.01
"""Page-in of a token below this share of the bytes that it reads does not matter."""


class Answer(NamedTuple):
    """Whether a rule holds, and the figures that say so, as one sentence. ``advice`` and ``gain`` where it holds."""

    holds: bool
    why: str
    advice: str = ""
    gain: str = ""
    """What following the advice is predicted to bring, as one sentence."""


class Rule(NamedTuple):
    """A word, and the question whether it is the one."""

    bound_by: str
    asks: Callable[[Evidence], Answer | None]
    """None: the rule has nothing to go by, or does not apply."""


def judge(evidence: Evidence) -> Verdict:
    """What bounds a token of this turn, why, and the one change that would help most."""
    reasoning: list[str] = []
    for rule in RULES:
        answer = rule.asks(evidence)
        if answer is None:
            continue
        reasoning.append(answer.why)
        if answer.holds:
            advice = f"{answer.advice} {answer.gain}".rstrip()
            return Verdict(rule.bound_by, answer.why, advice, tuple(reasoning))
    missing = _missing(evidence)
    reasoning += missing
    return Verdict(
        "unclear",
        missing[0] if missing else "No limit stands out: several things share the time of a token.",
        "Ask for a longer reply, with nothing else running, to see more."
        if missing
        else "Try one change at a time (threads, quant, layers on the GPU) and compare the time of a token.",
        tuple(reasoning),
    )


def _too_short(evidence: Evidence) -> Answer | None:
    if evidence.tpot_ms is not None and evidence.n_output >= FEW_TOKENS:
        return None
    return Answer(
        True,
        f"The reply had {evidence.n_output} tokens: too few to tell.",
        f"A reply of {FEW_TOKENS} tokens or more can be judged.",
    )


def _disk(evidence: Evidence) -> Answer | None:
    tpot = evidence.tpot_ms
    if tpot is None or evidence.page_in_bytes is None:
        return None
    if evidence.page_in_bytes < NOTHING * sum(tier.bytes for tier in evidence.tiers):
        return Answer(False, "Next to nothing was read from disk for a token.")
    read = f"{_bytes(evidence.page_in_bytes)} a token came from disk{_by_whom(evidence)}"
    if evidence.io_stalled is None or evidence.kernel_cores is None or evidence.engine_cores is None:
        return Answer(False, f"{read}; how long that took is not known.")
    waiting = _waiting(evidence, evidence.io_stalled)
    handling = evidence.kernel_cores / evidence.threads
    computing = (evidence.engine_cores - evidence.kernel_cores) / evidence.threads
    page_in = min(1.0, waiting + handling)
    own = evidence.io_scope == "cgroup" or _own_waiting(evidence) is not None
    whose = "" if own else " (on the whole box)"
    why = (
        f"{read}: of its {_ms(tpot)} it waited {_ms(waiting * tpot)} for the disk{whose}, "
        f"and the kernel took {_ms(handling * tpot)} to bring the pages in.{_of_disk(evidence, page_in)}"
    )
    gain = said(without(evidence, page_in), at_most=True)
    return Answer(page_in >= max(computing, 1.0 - page_in - computing), why, _more_memory(evidence), gain)


def _of_disk(evidence: Evidence, page_in: float) -> str:
    """What the disk gave while it was asked, beside the best it can do; nothing where that was not measured."""
    peak = evidence.disk_peak_bytes_s
    if not peak or not evidence.page_in_bytes or not evidence.tpot_ms or page_in <= 0:
        return ""
    speed = evidence.page_in_bytes / (page_in * evidence.tpot_ms / 1000.0)
    return f" That is {_speed(speed)}, {100 * speed / peak:.0f} % of the disk's measured peak."


def _by_whom(evidence: Evidence) -> str:
    """Who read it in the tokens that were probed; nothing where none was, or nobody read ahead."""
    demand, ahead = evidence.demand_bytes, evidence.read_ahead_bytes
    if demand is None or not ahead:
        return ""
    return f" (of a probed one {_bytes(ahead)} ahead of the layer that needs them, {_bytes(demand)} on demand)"


def _waiting(evidence: Evidence, stalled: float) -> float:
    """Share of a token: where the engine streams, the readers wait for a living and only its own waiting counts."""
    own = _own_waiting(evidence)
    return stalled if own is None else own


def _own_waiting(evidence: Evidence) -> float | None:
    """The share that the engine itself says it waited; None where it does not stream."""
    streaming = evidence.streaming
    if streaming is None or not streaming.streamed_bytes or streaming.waited_ms is None or not streaming.token_ms:
        return None
    return min(1.0, streaming.waited_ms / streaming.token_ms)


def _host(evidence: Evidence) -> Answer | None:
    tpot, cost = evidence.tpot_ms, evidence.loop_cost_ms
    if tpot is None or cost is None:
        return None
    largest = max((tier.ms for tier in evidence.tiers), default=tpot - cost)
    return Answer(
        cost > largest,
        f"Sampling and text take {_ms(cost)} of {_ms(tpot)} a token.",
        "Use fewer samplers (top-k, penalties), or a larger model: this one is faster than the program around it.",
        said(without(evidence, cost / tpot), at_most=True),
    )


def _other_tenant(evidence: Evidence) -> Answer | None:
    ours, others = evidence.engine_cores, evidence.other_cores
    if ours is None or others is None or _kind(evidence) == "VRAM":
        return None
    full = ours + others >= CROWDED * evidence.logical_cores
    robbed = ours < BUSY * evidence.threads and others >= (1 - BUSY) * evidence.threads
    return Answer(
        full and robbed,
        f"The engine got {ours:.1f} cores for its {evidence.threads} threads; "
        f"other programs used {others:.1f} of {evidence.logical_cores}.",
        "Somebody else uses this machine: end other programs, or choose fewer threads.",
        said(without(evidence, 1.0 - ours / evidence.threads), at_most=True),
    )


def _pcie(evidence: Evidence) -> Answer | None:
    traffic, peak = evidence.pcie_bytes_s, evidence.pcie_peak_bytes_s
    if traffic is None or not peak:
        return None
    use = traffic / peak
    return Answer(
        use >= ENOUGH,
        f"{_speed(traffic)} crossed the link to the GPU while tokens came: {100 * use:.0f} % of what it carries.",
        "Keep what a token needs on one side of it: all layers and the KV cache on the GPU (a smaller quant or n_ctx, "
        "where they do not fit), or fewer layers there.",
        said(without(evidence, min(use, 1.0)), at_most=True),
    )


def _ram_bandwidth(evidence: Evidence) -> Answer | None:
    tier = _largest(evidence)
    if tier is None or tier.kind != "RAM" or tier.use is None or not evidence.tpot_ms:
        return None
    moved = with_layers_on_device(evidence, tier)
    if moved is not None:
        more = "1 more layer" if moved.layers == 1 else f"{moved.layers} more layers"
        advice, gain = f"Put {more} on the GPU: it has room for them.", said(moved.times)
    else:
        advice, gain = _smaller_quant(evidence, tier)
        gpu = any(one.kind == "VRAM" for one in evidence.tiers) or evidence.gpu_busy_pct is not None
        if gpu and evidence.vram_free_bytes is None:
            advice = f"Put more layers on the GPU, if it has room. Or: {advice[0].lower()}{advice[1:]}"
    return Answer(tier.use >= ENOUGH, _reads(evidence, tier), advice, gain)


def _vram_bandwidth(evidence: Evidence) -> Answer | None:
    tier = _largest(evidence)
    if tier is None or tier.kind != "VRAM" or not evidence.tpot_ms:
        return None
    use = _use(evidence, tier)
    if use is None:
        return None
    advice, gain = _smaller_quant(evidence, tier)
    why = _reads(evidence, tier)
    if evidence.dram_bytes_s is not None:
        why = (
            f"While {tier.where} ran, {_ms(tier.ms)} of {_ms(evidence.tpot_ms)} a token, the GPU's own monitor counted "
            f"{_share(evidence, tier)} of the peak of its memory."
        )
    return Answer(use >= ENOUGH, why, advice, gain)


def _compute(evidence: Evidence) -> Answer | None:
    tier = _largest(evidence)
    use = _use(evidence, tier) if tier is not None else None
    if tier is None or use is None or use >= ENOUGH:
        return None
    share = _share(evidence, tier)
    if tier.kind == "VRAM":
        if evidence.gpu_busy_pct is None:
            return None
        return Answer(
            evidence.gpu_busy_pct >= GPU_BUSY_PCT,
            f"The GPU was busy {evidence.gpu_busy_pct:.0f} % of the time, at {share} of its memory's bandwidth.",
            "Choose a quant that is cheaper to unpack (Q4_0, Q8_0), or turn flash attention on.",
        )
    if evidence.engine_cores is None:
        return None
    threads, cores = evidence.threads, evidence.physical_cores
    return Answer(
        evidence.engine_cores >= BUSY * threads,
        f"{threads} threads kept {evidence.engine_cores:.1f} cores busy, at {share} of the RAM's bandwidth.",
        f"Set threads = {cores}: this machine has {cores} physical cores."
        if threads != cores
        else "Every physical core is in use: a quant that is cheaper to unpack (Q4_0, Q8_0) is faster.",
        said(cores / threads, at_most=True),
    )


def _launch(evidence: Evidence) -> Answer | None:
    tier = _largest(evidence)
    if tier is None or tier.kind != "VRAM" or evidence.gpu_busy_pct is None:
        return None
    return Answer(
        evidence.gpu_busy_pct < GPU_IDLE_PCT,
        f"The GPU was busy {evidence.gpu_busy_pct:.0f} % of the time: it waited for work to be handed to it.",
        "A larger model or quant costs little here; turn the layer probe off (probe_every = 0) for full speed.",
        said(without(evidence, 1.0 - evidence.gpu_busy_pct / 100.0), at_most=True),
    )


RULES: tuple[Rule, ...] = (
    Rule("unclear", _too_short),
    Rule("disk", _disk),
    Rule("host", _host),
    Rule("other tenant", _other_tenant),
    Rule("PCIe", _pcie),
    Rule("RAM bandwidth", _ram_bandwidth),
    Rule("VRAM bandwidth", _vram_bandwidth),
    Rule("compute / threads", _compute),
    Rule("sync / launch", _launch),
)


def _reads(evidence: Evidence, tier: Tier) -> str:
    return (
        f"{tier.where.capitalize()} take {_ms(tier.ms)} of {_ms(evidence.tpot_ms or 0.0)} a token "
        f"and read {_bytes(tier.bytes)}: {_share(evidence, tier)} of the peak of {tier.kind}."
    )


def _smaller_quant(evidence: Evidence, tier: Tier) -> tuple[str, str]:
    smaller = smaller_quant(evidence.quant)
    named = f" ({smaller.quant})" if smaller else ""
    gain = said(with_fewer_bytes(evidence, tier, smaller.share)) if smaller else ""
    return f"Choose a smaller quant{named}: fewer bytes are read from {tier.kind} for a token.", gain


def _missing(evidence: Evidence) -> list[str]:
    missing = []
    if not evidence.tiers:
        missing.append(evidence.why_no_tiers or "Where the time of a token goes is not known.")
    tier = _largest(evidence)
    if tier is not None and tier.use is None:
        missing.append(
            f"{tier.where.capitalize()} read {tier.bytes_per_s / 1e9:.1f} GB/s from {tier.kind}, "
            f"but its peak is not known: {tier.why_no_peak}."
        )
    if evidence.engine_cores is None:
        missing.append("The reply was over too soon to see how busy the processor was.")
    return missing


def _largest(evidence: Evidence) -> Tier | None:
    return max(evidence.tiers, key=lambda tier: tier.ms, default=None)


def _kind(evidence: Evidence) -> str:
    tier = _largest(evidence)
    return tier.kind if tier else ""


def _more_memory(evidence: Evidence) -> str:
    streaming = evidence.streaming
    if streaming is not None and streaming.streamed_bytes:
        return _fitting(evidence, streaming)
    available = evidence.ram_available_bytes
    if available is not None and evidence.file_bytes > available:
        return (
            f"Choose a smaller quant: the file has {_bytes(evidence.file_bytes)}, and {_bytes(available)} of RAM "
            "are available to it."
        )
    return "Close other programs, or wait: pages that were read once stay in RAM while there is room for them."


def _bytes_per_s(evidence: Evidence, tier: Tier) -> float:
    """By the devices' own monitor where there is one, else what the layers have to read by the time they took."""
    if tier.kind == "RAM" or evidence.dram_bytes_s is None or not evidence.tpot_ms or tier.ms <= 0:
        return tier.bytes_per_s
    # The monitor saw the whole token, of which these layers took a part.
    return evidence.dram_bytes_s * evidence.tpot_ms / tier.ms


def _use(evidence: Evidence, tier: Tier) -> float | None:
    return _bytes_per_s(evidence, tier) / tier.peak_bytes_per_s if tier.peak_bytes_per_s else None


def _fitting(evidence: Evidence, streaming: Streaming) -> str:
    """What would do away with reading: a smaller quant, or more memory, with the rate that is to be expected."""
    now = 1000.0 / evidence.tpot_ms if evidence.tpot_ms else None
    missing = max(0, streaming.needed_bytes - streaming.room_bytes)
    more = f"{_bytes(missing)} more of memory would hold all of it"
    if streaming.token_ms is None or streaming.waited_ms is None or now is None:
        return f"Choose a smaller quant: {more}."
    compute_ms = max(0.01, streaming.token_ms - streaming.waited_ms)
    quant = that_fits(evidence.n_params, evidence.file_bytes, streaming.room_bytes)
    if quant is None:
        return f"No common quant of this model fits. {more[0].upper()}{more[1:]}: {_rate(1000.0 / compute_ms)}."
    there = _rate(rate_with(quant, evidence.file_bytes, compute_ms))
    return f"{quant.name} would fit: about {there} instead of {now:.2g}. {more[0].upper()}{more[1:]}."


def _rate(value: float) -> str:
    return f"{value:.0f} tok/s" if value >= 10 else f"{value:.1f} tok/s"


def _share(evidence: Evidence, tier: Tier) -> str:
    use = _use(evidence, tier)
    shown = "an unknown share" if use is None else f"{100 * use:.0f} %"
    return f"{_speed(_bytes_per_s(evidence, tier))}, {shown}"


def _speed(bytes_per_s: float) -> str:
    return f"{bytes_per_s / 1e9:.1f} GB/s"


def _ms(value: float) -> str:
    return f"{value:.1f} ms" if value < 100 else f"{value:,.0f} ms"


def _bytes(value: float) -> str:
    for unit, size in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if value >= size:
            return f"{value / size:.1f} {unit}"
    return f"{value:.0f} bytes"

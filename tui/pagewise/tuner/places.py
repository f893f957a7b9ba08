"""What may be tried of where weights are: which file, on which device, repacked, copied, kept or streamed."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from pagewise.jobs.tune import Aim
from pagewise.settings import Keep
from pagewise.tuner.facts import Facts
from pagewise.tuner.move import Move
from pagewise.tuner.standing import Standing

_MARGIN = 1024**3
_MIB = 1024**2
_EXPERTS_TO_RAM = r"\.ffn_(up|down|gate)_exps\.=CPU"
_KEPT_LESS = 0.9
SATURATED = 0.60
"""Below this share of its peak neither the RAM nor a link is called a limit; the verdict draws the same line."""
_GB = 1e9


def _quants(standing: Standing, facts: Facts, aim: Aim) -> Iterator[Move]:
    """Each file that the person allows: what a token reads follows its size."""
    source = (standing.profile.model, standing.profile.quant)
    now = next((each for each in facts.candidates if each.source == source), None)
    if now is None:
        return
    for other in facts.candidates:
        if other is now:
            continue
        share = other.bytes / max(1, now.bytes)
        gain = max(1 / share, 1.0)
        if share < 1 and facts.streamed_bytes:
            left = max(0, facts.streamed_bytes - (now.bytes - other.bytes))
            why = (
                f"{other.level} instead of {now.level}: bound by disk, and of {facts.streamed_bytes / _GB:.1f} GB that "
                f"are read from it for a token {left / _GB:.1f} would be left"
            )
            # What is no longer read from disk counts for more than what is no longer read from RAM.
            gain *= 1 + (facts.streamed_bytes - left) / facts.streamed_bytes
        elif share < 1:
            why = f"{other.level} instead of {now.level}: a token reads {1 - share:.0%} fewer bytes of weights"
        else:
            why = f"{other.level} instead of {now.level}: larger, but its format may be computed faster"
        yield Move((("model", other.model), ("quant", other.quant)), why, gain, cheap=False)


def _repacking(standing: Standing, facts: Facts, aim: Aim) -> Iterator[Move]:
    """Only of weights that can be repacked, where file and copy fit into memory beside each other."""
    fits = facts.model_bytes + facts.repackable_bytes + _MARGIN <= facts.available_bytes
    if facts.streamed_bytes or not facts.repackable_bytes or not fits:
        return
    on = standing.profile.repack == "on"
    why = "the file's own layout may be read faster" if on else "the processor may read another layout faster"
    yield Move((("repack", "off" if on else "on"),), why, 1.05, cheap=False)


def _load_mode(standing: Standing, facts: Facts, aim: Aim) -> Iterator[Move]:
    mapped = standing.profile.load_mode in ("auto", "mmap")
    if not mapped and standing.profile.load_mode != "mlock":
        yield Move((("load_mode", "auto"),), "weights in the page cache need no copy of their own", 1.003, cheap=False)
    if facts.streamed_bytes or facts.model_bytes + _MARGIN > facts.available_bytes:
        return
    if mapped:
        why = "copied weights lie in huge pages where the kernel gives them"
        yield Move((("load_mode", "none"),), why, 1.015, cheap=False)


def _kept_bytes(standing: Standing, facts: Facts, aim: Aim) -> Iterator[Move]:
    """Of a model that is streamed: how much of it stays. More than the memory holds cannot stay."""
    if not facts.streamed_bytes:
        return
    if standing.profile.placement != "auto" and not aim.leave_free("RAM"):
        why = "as much is kept as the memory holds, and the rest is read ahead"
        yield Move((("placement", "auto"),), why, 1.3, cheap=False)
    kept = int(_KEPT_LESS * max(0, facts.model_bytes - facts.streamed_bytes)) // _MIB
    if kept and standing.profile.placement != "off":
        why = "bound by disk: with less kept there is more room to read ahead"
        yield Move((("placement", Keep(f"{kept}MiB")),), why, 1.04, cheap=False)


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
    placed = layers if isinstance(layers, int) else standing.offloaded_layers
    if placed is None:
        return
    share = facts.ram_share(standing.tpot_ms, standing.threads, standing.host_bytes)
    saturated = share is not None and share >= SATURATED
    step = max(1, facts.n_layer // 8)
    for count in sorted({min(placed + step, facts.n_layer + 1), max(0, placed - step)} - {placed}, reverse=True):
        if count < placed:
            why, gain = "fewer layers leave the device room", 1.01
        elif saturated:
            why, gain = f"RAM bandwidth is saturated ({share:.0%} of its peak): more layers on the device", 1.2
        else:
            why, gain = "more layers on the device", 1.1
        yield Move((("n_gpu_layers", count),), why, gain, cheap=False)


def _feed_forward_to_ram(standing: Standing, facts: Facts, aim: Aim) -> Iterator[Move]:
    """Of a dense model that the devices do not hold: attention and KV cache of all layers there, and in RAM only as
    many layers' feed-forward parts as are too many.
    """
    room = sum(device.free_bytes or 0 for device in facts.devices)
    missing = facts.model_bytes + facts.kv_bytes_at_depth + _MARGIN - room
    if not facts.devices or facts.is_mixture or not facts.feed_forward_bytes or missing <= 0:
        return
    if any("ffn" in rule for rule in standing.profile.tensor_overrides):
        return
    layers = -(-missing * facts.n_layer // facts.feed_forward_bytes)
    if layers > facts.n_layer:
        return
    overrides = (*standing.profile.tensor_overrides, _feed_forward(layers))
    why = f"attention and KV cache of all layers on the device, the feed-forward parts of {layers} in RAM"
    yield Move((("n_gpu_layers", "all"), ("tensor_overrides", overrides)), why, 1.25, cheap=False)


def _other_tensors(standing: Standing, facts: Facts, aim: Aim) -> Iterator[Move]:
    """Where the link to a device is the limit: parts of layers in RAM instead of whole layers, or fewer of these."""
    share = standing.link_share
    if not facts.devices or share is None or share < SATURATED:
        return
    bound = f"bound by PCIe ({share:.0%} of what it carries)"
    parts = _experts if facts.is_mixture else _feed_forward
    name = "experts" if facts.is_mixture else "feed-forward parts"
    given = standing.profile.tensor_overrides
    ours = {parts(count): count for count in range(1, facts.n_layer + 1)}
    if facts.is_mixture:
        ours[_EXPERTS_TO_RAM] = facts.n_layer
    if rule := next((rule for rule in given if rule in ours), None):
        fewer = ours[rule] - max(1, facts.n_layer // 8)
        changed = tuple(parts(fewer) if each == rule else each for each in given)
        overrides = changed if fewer > 0 else tuple(each for each in given if each != rule)
        why = f"{bound}: {name} of {max(0, fewer)} layers in RAM instead of {ours[rule]}"
        yield Move((("tensor_overrides", overrides),), why, 1.3, cheap=False)
        return
    if any("ffn" in rule or "exps" in rule for rule in given) or standing.offloaded_layers is None:
        return
    in_ram = facts.n_layer + 1 - standing.offloaded_layers
    if 0 < in_ram <= facts.n_layer and (facts.is_mixture or facts.feed_forward_bytes):
        if facts.feed_forward_bytes and not facts.is_mixture:
            in_ram = -(-in_ram * facts.model_bytes // facts.feed_forward_bytes)
        count = min(in_ram, facts.n_layer)
        why = f"{bound}: {name} of {count} layers stay in RAM instead of whole layers"
        changes = (("n_gpu_layers", "all"), ("tensor_overrides", (*given, parts(count))))
        yield Move(changes, why, 1.4, cheap=False)


def _feed_forward(layers: int) -> str:
    """Override that leaves the dense feed-forward parts of the first ``layers`` in RAM."""
    return rf"blk\.(?:{'|'.join(map(str, range(layers)))})\.ffn_(?:up|down|gate)\.weight=CPU"


def _experts(layers: int) -> str:
    """The same for experts."""
    return rf"blk\.(?:{'|'.join(map(str, range(layers)))})\.ffn_(?:up|down|gate)_exps\.=CPU"


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


PLACE_RULES: tuple[Callable[[Standing, Facts, Aim], Iterator[Move]], ...] = (
    _quants,
    _layers_on_devices,
    _feed_forward_to_ram,
    _other_tensors,
    _split,
    _kept_bytes,
    _repacking,
    _load_mode,
)

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
        if share < 1:
            why = f"{other.level} instead of {now.level}: a token reads {1 - share:.0%} fewer bytes of weights"
        else:
            why = f"{other.level} instead of {now.level}: larger, but its format may be computed faster"
        yield Move((("model", other.model), ("quant", other.quant)), why, max(1 / share, 1.0), cheap=False)


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
    if isinstance(layers, int):
        step = max(1, facts.n_layer // 8)
        for count, gain in ((layers + step, 1.1), (layers - step, 1.01)):
            if 0 <= count <= facts.n_layer + 1:
                why = "more layers on the device" if count > layers else "fewer layers leave the device room"
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
    pattern = rf"blk\.(?:{'|'.join(map(str, range(layers)))})\.ffn_(?:up|down|gate)\.weight=CPU"
    overrides = (*standing.profile.tensor_overrides, pattern)
    why = f"attention and KV cache of all layers on the device, the feed-forward parts of {layers} in RAM"
    yield Move((("n_gpu_layers", "all"), ("tensor_overrides", overrides)), why, 1.25, cheap=False)


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
    _split,
    _kept_bytes,
    _repacking,
    _load_mode,
)

"""Plans: what a profile will take on each device, whether it fits, and what would."""

from __future__ import annotations

import os
import sys
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple, TypeVar

import msgspec

from pagewise.engine.failures import Cancelled, Failed
from pagewise.engine.fit import Fitted, fit
from pagewise.engine.llamacpp import library
from pagewise.engine.llamacpp.adapters import check_adapters
from pagewise.engine.llamacpp.buffers import context_buffers
from pagewise.engine.llamacpp.device_checks import device_notes
from pagewise.engine.llamacpp.device_memory import device_memory
from pagewise.engine.llamacpp.model import ModelFile, open_model_file, parse_overrides
from pagewise.engine.llamacpp.overrides import compiled, override_notes
from pagewise.engine.llamacpp.plan import CPU, Parts, Sizes, maps, measure
from pagewise.engine.llamacpp.upstream_fit import fixes_nothing, upstream_fit
from pagewise.engine.memory import available_bytes, total_bytes
from pagewise.engine.model_source import own_file
from pagewise.engine.remedies import remedies
from pagewise.engine.running import Running
from pagewise.guide.cache import provide
from pagewise.guide.files import GuideError
from pagewise.jobs.plan import RAM, Compared, DevicePlan, MemoryPlan, WouldFit
from pagewise.models.gguf import printable
from pagewise.models.layers import layer_of
from pagewise.models.offload import LayerBytes, layer_bytes
from pagewise.placement.available import room_for_file
from pagewise.placement.plan import layout, make_plan
from pagewise.profiles.cost import LIVE
from pagewise.profiles.learned import Learned, model_key, read_learned
from pagewise.readings import BufferBytes
from pagewise.settings import Keep, Profile, memory_bytes

Value = TypeVar("Value")
_KEPT = 64
_MEMORY_KEYS = tuple(
    key for key in Profile.__struct_fields__ if key not in LIVE and key not in ("fit_margin", "placement")
)


class _Device(NamedTuple):
    """A device as it is now. ``free`` counts what the model in force will give back, and the driver's share with it."""

    name: str
    description: str
    total: int | None
    free: int | None
    freed: int
    driver: int | None


class Planner:
    """Measures profiles without memory, each but once. ``interrupted`` says that what is in hand is to end."""

    def __init__(self, interrupted: Callable[[], bool]) -> None:
        self._interrupted = interrupted
        self._known: OrderedDict[tuple[object, ...], Sizes] = OrderedDict()
        self._fitted: OrderedDict[tuple[object, ...], Fitted] = OrderedDict()

    def sizes(self, file: ModelFile, profile: Profile) -> Sizes:
        """What ``profile``, its layers in figures, takes. Raises Failed, and Cancelled where it was interrupted."""
        key = _key(file, profile)
        known = self._known.get(key)
        if known is None:
            if self._interrupted():
                raise Cancelled
            known = _remember(self._known, key, measure(file, profile))
        self._known.move_to_end(key)
        return known

    def predicted(self, file: ModelFile, profile: Profile) -> Sizes | None:
        """The same for a load, which goes on without a prediction where there is none. Raises Cancelled."""
        try:
            return self.sizes(file, profile)
        except Failed:
            return None

    def place(self, file: ModelFile, profile: Profile, held: Mapping[str, int]) -> Fitted:
        """``profile`` with its layers in figures. ``held``: bytes that the model in force will give back, by device.

        Raises Failed and Cancelled.
        """
        if profile.n_gpu_layers != "fit":
            return Fitted(profile, True, "")
        learned = read_learned()
        margin = max(memory_bytes(profile.fit_margin), learned.margin(_model_key(file)))
        devices = _accelerators(held, learned)
        rooms = {
            device.name: max(0, device.free - (device.driver or 0) - margin)
            for device in devices
            if device.free is not None
        }

        def taken(tried: Profile) -> dict[str, int]:
            return {name: parts.total for name, parts in self.sizes(file, tried).devices.items()}

        key = (*_key(file, profile), profile.fit_margin)
        former = self._fitted.get(key)
        if former is not None and former.fits and _leaves(taken(former.profile), rooms):
            # The same answer as in the plan that was just shown, although a little more may be free by now.
            return former
        found = self._upstream(file, profile, held, rooms, margin, taken) if rooms else None
        if found is None:
            found = fit(profile, self._layers(file, profile), rooms, taken)
        return _remember(self._fitted, key, found)

    def check_devices(self, file: ModelFile, sizes: Sizes, held: Mapping[str, int]) -> None:
        """Refuse, while the former model is still there, what a device surely cannot hold. Raises Failed."""
        if "GGML_CUDA_ENABLE_UNIFIED_MEMORY" in os.environ:
            return
        for device in _accelerators(held, Learned()):
            needed = sizes.devices.get(device.name, Parts(0, 0, 0)).total
            # Elsewhere what is said to be free is a budget, and more can be had.
            if device.free is None or needed <= device.free or not device.name.startswith(("CUDA", "ROCm")):
                continue
            back = ", with what the present model gives back" if device.freed else ""
            raise Failed(
                f"{printable(file.path.name)} does not fit on {device.name}",
                f"It needs {needed / 1024**3:.1f} GiB there; {device.free / 1024**3:.1f} GiB are free{back}.",
                'Set n_gpu_layers = "fit", which places what fits; `pagewise plan` shows what else would.',
            )

    def _upstream(
        self,
        file: ModelFile,
        profile: Profile,
        held: Mapping[str, int],
        rooms: Mapping[str, int],
        margin: int,
        taken: Callable[[Profile], dict[str, int]],
    ) -> Fitted | None:
        # It counts what is free now: of no use beside a model that will go.
        if any(held.get(name) for name in rooms) or not fixes_nothing(profile):
            return None
        chosen = upstream_fit(file, profile, dict.fromkeys(rooms, margin), file.number("context_length", 0))
        if chosen is None or not _leaves(taken(chosen), rooms):
            return None
        sizes = self.sizes(file, chosen)
        in_ram = ", some tensors in RAM by overrides" if chosen.tensor_overrides else ""
        return Fitted(
            chosen, True, f"n_gpu_layers = fit: {sizes.offloaded_layers} of {sizes.n_layer + 1} layers on GPUs{in_ram}."
        )

    def _layers(self, file: ModelFile, profile: Profile) -> tuple[LayerBytes, ...]:
        """Layers as they would weigh on a device, with their share of the KV cache."""
        fixed = [pattern for pattern, _ in compiled(profile.tensor_overrides)]
        tensors = [
            tensor
            for header in file.headers
            for tensor in header.tensors
            if not any(pattern.search(tensor.name) for pattern in fixed)
        ]
        sizes = self.sizes(file, msgspec.structs.replace(profile, n_gpu_layers=0))
        share = sum(parts.kv for parts in sizes.devices.values()) // max(1, sizes.n_layer)
        layers = layer_bytes(tensors, sizes.n_layer)
        return tuple(
            layer._replace(bytes=layer.bytes + (share if layer.number < sizes.n_layer else 0)) for layer in layers
        )

    def plan(self, profile: Profile, running: Running | None) -> MemoryPlan:
        """The plan of ``profile``; ``running`` is what will go when it comes. Raises Failed and Cancelled."""
        began = time.perf_counter()
        file, notes = _source(profile)
        parse_overrides(profile.tensor_overrides)
        is_stand_in = bool(notes)
        notes += [*override_notes(file, profile.tensor_overrides), *device_notes(profile)]
        check_adapters(profile.lora, file)
        held = held_bytes(running)
        learned = read_learned()
        margin = learned.margin(_model_key(file))
        placed = self.place(file, profile, held)
        sizes = self.sizes(file, placed.profile)
        ram = _ram(held)
        devices = (ram, *_accelerators(held, learned))
        streamed = _streamed_bytes(file, placed.profile, sizes, held.get(CPU, 0))
        plans = tuple(_device_plan(device, sizes) for device in devices)
        short = {plan.device: missing for plan in plans if (missing := _missing(plan, margin)) > 0}
        notes += [placed.note] if placed.note else []
        notes += _memory_notes(plans, short, sizes, streamed, ram)
        would_fit: tuple[WouldFit, ...] = ()
        if short or not placed.fits:

            def fits(tried: Profile) -> bool:
                at = self.place(file, tried, held)
                taken = self.sizes(file, at.profile)
                return at.fits and all(_missing(_device_plan(device, taken), margin) <= 0 for device in devices)

            would_fit = remedies(file, profile, sizes, short, fits, lambda tried: self.place(file, tried, held))
        return MemoryPlan(
            profile=profile,
            devices=plans,
            mapped_bytes=sizes.mapped_bytes,
            copied_bytes=sizes.copied_bytes,
            streamed_bytes=streamed,
            n_ctx=sizes.n_ctx,
            offloaded_layers=sizes.offloaded_layers,
            n_layer=sizes.n_layer,
            fits=not short and placed.fits,
            estimate=sizes.estimate or is_stand_in,
            margin_bytes=margin,
            notes=tuple(notes),
            took_ms=(time.perf_counter() - began) * 1000,
            placed=placed.profile if profile.n_gpu_layers == "fit" else None,
            would_fit=would_fit,
            last=learned.last(_model_key(file)),
        )


def compared(sizes: Sizes, buffers: Sequence[BufferBytes], offloaded_layers: int) -> tuple[Compared, ...]:
    """The prediction beside what llama.cpp then took: weights, KV cache and compute buffers of each device."""
    actual: dict[str, int] = dict.fromkeys(sizes.devices, 0)
    for buffer in buffers:
        if buffer.kind != "output":
            actual[buffer.device] = actual.get(buffer.device, 0) + buffer.bytes
    return tuple(
        Compared(
            RAM if name == CPU else name,
            sizes.devices.get(name, Parts(0, 0, 0)).total,
            taken,
            sizes.n_ctx,
            offloaded_layers,
        )
        for name, taken in actual.items()
    )


def target_note(entry: Compared) -> str:
    """What the person should know where a prediction was wrong; nothing where it was within its target."""
    if entry.within_target:
        return ""
    return (
        f"The plan was wrong for {entry.device}: predicted {entry.predicted_bytes / 1024**2:,.0f} MiB, taken "
        f"{entry.actual_bytes / 1024**2:,.0f} MiB. The next one leaves as much more free."
    )


def held_bytes(running: Running | None) -> dict[str, int]:
    """What goes with the model in force, by ggml's device; in RAM what is mapped does not count: it can go anyway."""
    if running is None:
        return {}
    held: dict[str, int] = {CPU: sum(layer.copied_bytes for layer in running.placement.layers)}
    weights = [buffer for buffer in running.placement.buffers if buffer.device != CPU]
    for buffer in (*weights, *context_buffers(running.context)):
        held[buffer.device] = held.get(buffer.device, 0) + buffer.bytes
    return held


def _key(file: ModelFile, profile: Profile) -> tuple[object, ...]:
    return (file.identity, *(getattr(profile, key) for key in _MEMORY_KEYS))


def _remember(known: OrderedDict[tuple[object, ...], Value], key: tuple[object, ...], value: Value) -> Value:
    known[key] = value
    if len(known) > _KEPT:
        known.popitem(last=False)
    return value


def _model_key(file: ModelFile) -> str:
    return model_key(str(file.path), file.bytes)


def _source(profile: Profile) -> tuple[ModelFile, list[str]]:
    """The file, and what is to be known of it where it stands in for one that is not made yet. Raises Failed."""
    if profile.model != "guide":
        return own_file(profile), []

    def refuse(source: Path, target: Path, quant: str) -> None:
        raise Failed("It has not been made yet", "A plan makes no files.", "Load the profile.")

    try:
        path, note = provide(profile.quant, refuse)
    except GuideError as error:
        raise Failed(error.failure.what, error.failure.why, error.failure.next) from error
    if not note:
        return open_model_file(path), []
    return open_model_file(path), [
        f"The guide at {profile.quant} is made on first use: the figures are those of the file that ships, and larger."
    ]


def _ram(held: Mapping[str, int]) -> _Device:
    freed = held.get(CPU, 0)
    return _Device(RAM, "memory of this machine", total_bytes(), available_bytes() + freed, freed, 0)


def _accelerators(held: Mapping[str, int], learned: Learned) -> tuple[_Device, ...]:
    found = []
    said = {device.name: device for device in device_memory(())}
    for name, description, _ in library.accelerators():
        memory = said.get(name)
        freed, driver = held.get(name, 0), learned.driver(name)
        total = memory.total_bytes if memory is not None and memory.total_bytes else None
        # The engine that asks holds its driver's share already, and will go on holding it.
        free = memory.free_bytes + freed + (driver or 0) if memory is not None and total else None
        found.append(_Device(name, description, total, free, freed, driver))
    return tuple(found)


def _device_plan(device: _Device, sizes: Sizes) -> DevicePlan:
    parts = sizes.devices.get(CPU if device.name == RAM else device.name, Parts(0, 0, 0))
    return DevicePlan(
        device=device.name,
        description=device.description,
        weights_bytes=sizes.copied_bytes if device.name == RAM else parts.weights,
        kv_bytes=parts.kv,
        compute_bytes=parts.compute,
        driver_bytes=device.driver,
        total_bytes=device.total,
        free_bytes=device.free,
        freed_bytes=device.freed,
    )


def _missing(plan: DevicePlan, margin: int) -> int:
    """Bytes by which a device is too small; negative where it is not, 0 where it takes nothing or does not say."""
    if plan.free_bytes is None or not plan.needed_bytes - (plan.driver_bytes or 0):
        return 0
    return plan.needed_bytes + margin - plan.free_bytes


def _leaves(taken: Mapping[str, int], rooms: Mapping[str, int]) -> bool:
    return all(taken.get(name, 0) <= room for name, room in rooms.items())


def _streamed_bytes(file: ModelFile, profile: Profile, sizes: Sizes, freed: int) -> int:
    """Mapped bytes that will be read again for every token, as the placement will decide."""
    if profile.placement == "off" or not sys.platform.startswith("linux") or not maps(profile):
        return 0
    room = room_for_file()
    if room is None:
        return 0
    mapped = frozenset(
        layer.name for layer in sizes.layers if layer.mapped_bytes and not layer.device_bytes + layer.copied_bytes
    )
    tensors = [tensor.name for header in file.headers for tensor in header.tensors]
    found = layout(file.headers, frozenset(name for name in tensors if layer_of(name) in mapped))
    room += freed - sizes.ram.kv - sizes.ram.compute
    if isinstance(profile.placement, Keep):
        room = min(room, profile.placement.bytes)
    if found.experts is not None:
        # Which of them are streamed, the router decides; of those only the chosen ones are read.
        return min(max(0, found.bytes - max(0, room)), sizes.mapped_bytes)
    # Blocks are whole granules of the file, and may reach beyond its tensors.
    return min(make_plan(found.blocks, max(0, room)).streamed_bytes, sizes.mapped_bytes) if found.blocks else 0


def _memory_notes(
    plans: Sequence[DevicePlan], short: Mapping[str, int], sizes: Sizes, streamed: int, ram: _Device
) -> list[str]:
    notes = [
        f"{plan.device} is too small by {short[plan.device] / 1024**2:,.0f} MiB."
        for plan in plans
        if plan.device in short
    ]
    notes += [f"{plan.device} does not say how much of it is free." for plan in plans if plan.free_bytes is None]
    room = (ram.free or 0) - sizes.ram.kv - sizes.ram.compute - sizes.copied_bytes
    if streamed:
        notes.append("The weights do not all stay in memory: what is streamed is read from disk again for every token.")
    elif sizes.mapped_bytes > room > 0:
        notes.append("The mapped weights are larger than what is free: the kernel will read parts again and again.")
    if sizes.estimate:
        notes.append("An estimate: this build of llama.cpp gives no account, so weights and KV cache are by formula.")
    return notes

"""Putting a profile in force."""

from __future__ import annotations

import time
from pathlib import Path
from typing import NamedTuple

import msgspec

from pagewise.engine.carried import CarriedCache
from pagewise.engine.channel import Events, Interrupt
from pagewise.engine.dead_pages import drop_copied
from pagewise.engine.disk_rate import DiskRate
from pagewise.engine.failures import Cancelled, Failed
from pagewise.engine.foreseen import foresee
from pagewise.engine.llamacpp.adapters import Adapters, check_adapters
from pagewise.engine.llamacpp.buffers import context_buffers, kv_bytes_per_token
from pagewise.engine.llamacpp.context import Context
from pagewise.engine.llamacpp.device_checks import device_notes
from pagewise.engine.llamacpp.device_memory import device_memory
from pagewise.engine.llamacpp.homes import homes
from pagewise.engine.llamacpp.log import log
from pagewise.engine.llamacpp.model import ModelFile, load_model, lock_note, open_model_file, parse_overrides
from pagewise.engine.llamacpp.overrides import override_notes
from pagewise.engine.llamacpp.placement import bytes_per_token, offloaded, placement, repacked
from pagewise.engine.llamacpp.plan import Sizes, check_context, check_weights
from pagewise.engine.llamacpp.quantize import quantize
from pagewise.engine.llamacpp.template import TemplateProcess
from pagewise.engine.memory import available_bytes
from pagewise.engine.model_source import own_file
from pagewise.engine.planning import Planner, compared, held_bytes, target_note
from pagewise.engine.prompt import Prompts
from pagewise.engine.running import Carried, Running
from pagewise.engine.streaming import Streaming
from pagewise.guide.cache import provide
from pagewise.guide.files import GuideError
from pagewise.jobs.plan import MemoryPlan
from pagewise.messages import ChangeClass, Failure, Loaded, LoadFailed, LoadProgress, ModelInfo, Streamed, Unloaded
from pagewise.models.gguf import printable
from pagewise.models.quant import FILE_TYPES
from pagewise.settings import Profile
from pagewise.trace import trace

_PROGRESS_S = 0.05
_GUESSED = 1024
_CANCELLED = Failure("The load was stopped", "It was cancelled on request.", "Choose a profile to load a model.")


class Source(NamedTuple):
    """The file a profile names, and what the person should know of how it was found."""

    file: ModelFile
    note: str


class Checked(NamedTuple):
    """A profile that looks as if it could be loaded: its layers in figures, what it will take, and remarks."""

    profile: Profile
    sizes: Sizes | None
    notes: tuple[str, ...]


class Loader:
    """Loads and switches profiles; ``running`` is what is in force, or None."""

    def __init__(self, events: Events, interrupt: Interrupt, templates: TemplateProcess, carried: CarriedCache) -> None:
        self._events = events
        self._carried = carried
        self._interrupt = interrupt
        self._templates = templates
        self.running: Running | None = None
        self.released: Profile | None = None
        """The profile that a Release has let go of."""
        self._progress_s = 0.0
        self._planner = Planner(lambda: interrupt.raised)
        self._placed: Profile | None = None
        """The profile in force with its layers in figures."""
        self._sizes: Sizes | None = None
        """What was predicted of it."""

    def plan(self, profile: Profile) -> MemoryPlan:
        """What ``profile`` would take. Raises Failed and Cancelled."""
        return self._planner.plan(profile, self.running)

    def load(self, id: int, profile: Profile, change: ChangeClass, *, must_carry: bool = False) -> Failure | None:
        """Put ``profile`` in force and send Loaded or LoadFailed. The failure, if there is one.

        ``must_carry``: not for the price of the KV cache, if only the context changes.
        """
        began = time.perf_counter()
        try:
            info, really, kv = self._change(id, profile, change, must_carry)
        except Failed as error:
            self._events.send(LoadFailed(id, error.failure, restored=self._in_force))
            return error.failure
        except Cancelled:
            self._events.send(LoadFailed(id, _CANCELLED, cancelled=True, restored=self._in_force))
            return _CANCELLED
        self.released = None
        total_ms = (time.perf_counter() - began) * 1000
        devices = device_memory(info.buffers)
        self._events.send(Loaded(id, profile, info, really, total_ms, kv.tokens, kv.note, devices=devices))
        self._tell_streaming()
        return None

    def unload(self, id: int, profile: Profile) -> None:
        """Make room for ``profile``, if it looks as if it could be loaded, and send Unloaded or LoadFailed."""
        try:
            self._check(self._source(id, profile).file, profile)
            if self._interrupt.raised:
                raise Cancelled
        except Failed as error:
            self._events.send(LoadFailed(id, error.failure, restored=self._in_force))
            return
        except Cancelled:
            self._events.send(LoadFailed(id, _CANCELLED, cancelled=True, restored=self._in_force))
            return
        tokens = 0
        if self.running is not None:
            self.running.put_aside(self._carried)
            stored = self._carried.stored()
            tokens = len(stored.ids) if stored is not None else 0
            self._free()
        self._events.send(Unloaded(id, tokens))

    def _tell_streaming(self) -> None:
        streaming = self.running.streaming if self.running is not None else None
        if streaming is not None and streaming.active and (news := streaming.news()) is not None:
            self._events.send(Streamed(news))

    def release(self) -> None:
        """Let go of the model and its memory."""
        if self.running is not None:
            self.released = self.running.profile
            self._free()

    def _free(self) -> None:
        if self.running is not None:
            self.running.free()
            self.running = None

    @property
    def _in_force(self) -> str | None:
        return self.running.profile.name if self.running is not None else None

    def _change(
        self, id: int, profile: Profile, change: ChangeClass, must_carry: bool
    ) -> tuple[ModelInfo, ChangeClass, Carried]:
        running = self.running
        if running is None or change in ("model", "process"):
            really: ChangeClass = "process" if change == "process" else "model"
            info, kv = self._load(id, profile, keep_cache=really == "model")
            return info, really, kv
        if change != "context":
            running.set_live(profile)
            return _beside_plan(_describe(running, 0.0), self._sizes), change, Carried(0, "")
        began = time.perf_counter()
        held = sum(buffer.bytes for buffer in context_buffers(running.context) if buffer.device == "CPU")
        placed = _placed_as(profile, self._placed)
        sizes = self._planner.predicted(running.model.file, placed)
        if sizes is not None:
            check_context(running.model.file, placed, sizes, available_bytes() + held)
        self._progress(id, "context", 0, 0)
        try:
            kv = running.new_context(profile, self._interrupt.flag, self._carried, must_carry=must_carry)
        except Failed:
            if not running.usable:
                self._free()
            raise
        self._placed, self._sizes = placed, sizes
        return _beside_plan(_describe(running, (time.perf_counter() - began) * 1000), sizes), "context", kv

    def _check(self, file: ModelFile, profile: Profile) -> Checked:
        """All that can be known before the former model goes. Raises Failed."""
        parse_overrides(profile.tensor_overrides)
        notes = [*override_notes(file, profile.tensor_overrides), *device_notes(profile)]
        check_adapters(profile.lora, file)
        held = held_bytes(self.running)
        placed = self._planner.place(file, profile, held)
        sizes = self._planner.predicted(file, placed.profile)
        if sizes is not None:
            self._planner.check_devices(file, sizes, held)
            self._check_memory(placed.profile, file, sizes)
        return Checked(placed.profile, sizes, (*notes, placed.note))

    def _load(self, id: int, profile: Profile, *, keep_cache: bool) -> tuple[ModelInfo, Carried]:
        source = self._source(id, profile)
        placed, sizes, remarks = self._check(source.file, profile)
        # Also where another file is next: if that fails, the former model comes back, and its cache with it.
        kv_note = self.running.put_aside(self._carried) if keep_cache and self.running is not None else ""
        self._free()
        began = time.perf_counter()
        mark = log.mark()
        total = source.file.bytes

        def progress(share: float) -> bool:
            self._progress(id, "weights", int(share * total), total)
            return not self._interrupt.raised

        foreseen = foresee(source.file, placed)
        shaped = foreseen.profile
        trace.model(str(source.file.path))
        disk = DiskRate()
        with foreseen.loading():
            model = load_model(source.file, shaped, progress=progress, cancelled=lambda: self._interrupt.raised)
        load_ms = (time.perf_counter() - began) * 1000
        streaming = None
        try:
            began = time.perf_counter()
            self._progress(id, "context", 0, 0)
            places = placement(model, log.since(mark))
            at = homes(model, places.layers)
            streaming = Streaming.wanted(model, at, shaped, foreseen, disk.bytes_per_s())
            drop_copied(source.file, at)
            adapters = Adapters(model)
            adapters.load(profile.lora)
            context = Context(model, shaped, self._interrupt.flag, streaming.callback if streaming else None)
        except Exception:
            if streaming is not None:
                streaming.close()
            model.free()
            raise
        prompts = Prompts(model.vocabulary, model.chat_template, self._templates)
        noted = [source.note, *remarks, *foreseen.notes]
        notes = [*noted, lock_note(log.since(mark)), places.note, prompts.try_template()]
        running = Running(
            model,
            context,
            places,
            prompts,
            profile,
            load_ms=load_ms,
            notes=tuple(note for note in notes if note),
            adapters=adapters,
            streaming=streaming,
        )
        try:
            self._progress(id, "warm", 0, 0)
            if streaming is None or not streaming.active:
                # Else the first prompt is the pass that reads the file.
                running.warm()
            if self._interrupt.raised:
                raise Cancelled
        except Exception:
            running.free()
            raise
        kv = running.take_up(self._carried)
        self.running, self._placed, self._sizes = running, placed, sizes
        info = _beside_plan(_describe(running, (time.perf_counter() - began) * 1000), sizes)
        return info, kv._replace(note=kv_note or kv.note)

    def _check_memory(self, profile: Profile, file: ModelFile, sizes: Sizes) -> None:
        """Refuse, while the former model is still there, what RAM cannot hold."""
        available = available_bytes()
        if self.running is not None:
            available += sum(layer.copied_bytes for layer in self.running.placement.layers)
            available += sum(b.bytes for b in context_buffers(self.running.context) if b.device == "CPU")
        check_weights(file, profile, sizes, available)
        check_context(file, profile, sizes, available)

    def _source(self, id: int, profile: Profile) -> Source:
        if profile.model != "guide":
            return Source(own_file(profile), "")

        def make(source: Path, target: Path, quant: str) -> None:
            quantize(source, target, quant, lambda step: self._progress(id, "quantize", step.done, 0))

        try:
            path, note = provide(profile.quant, make)
        except GuideError as error:
            raise Failed(error.failure.what, error.failure.why, error.failure.next) from error
        return Source(open_model_file(path), note)

    def _progress(self, id: int, phase: str, done: int, total: int) -> None:
        now = time.perf_counter()
        if total and done < total and now - self._progress_s < _PROGRESS_S:
            return
        self._progress_s = now
        self._events.send(LoadProgress(id, phase, done, total))


def _placed_as(profile: Profile, former: Profile | None) -> Profile:
    """``profile`` on weights that stay where they are: ``fit`` is what it came to when they were loaded."""
    if former is None or profile.n_gpu_layers != "fit":
        return profile
    return msgspec.structs.replace(
        profile,
        n_gpu_layers=former.n_gpu_layers,
        tensor_split=former.tensor_split,
        tensor_overrides=former.tensor_overrides,
    )


def _beside_plan(info: ModelInfo, sizes: Sizes | None) -> ModelInfo:
    """With what was predicted of each device, and a remark where that was wrong."""
    if sizes is None:
        return info
    planned = compared(sizes, info.buffers, info.offloaded_layers)
    remarks = tuple(note for note in map(target_note, planned) if note)
    return msgspec.structs.replace(info, planned=planned, notes=(*info.notes, *remarks))


def _describe(running: Running, context_ms: float) -> ModelInfo:
    model, context, file = running.model, running.context, running.model.file
    name = file.header.text("general.name")
    file_type = file.header.metadata.get("general.file_type")
    return ModelInfo(
        path=str(file.path),
        name=printable(name or file.path.stem),
        architecture=printable(file.header.architecture),
        quant=FILE_TYPES.get(file_type % _GUESSED, "mixed") if isinstance(file_type, int) else "mixed",
        n_params=model.n_params,
        file_bytes=file.bytes,
        n_layer=model.n_layer,
        n_ctx=context.n_ctx,
        n_ctx_train=model.n_ctx_train,
        n_batch=context.n_batch,
        n_ubatch=context.n_ubatch,
        threads=context.threads.decode,
        threads_batch=context.threads.batch,
        flash_attention=context.flash_attention,
        load_mode=_load_mode(running),
        repacked=repacked(running.placement),
        has_chat_template=running.prompts.has_template,
        vocabulary=model.vocabulary.fingerprint,
        placement=running.placement.layers,
        buffers=(*running.placement.buffers, *context_buffers(context)),
        offloaded_layers=offloaded(running.placement),
        bytes_per_token=bytes_per_token(model),
        kv_bytes_per_token=kv_bytes_per_token(context),
        load_ms=running.load_ms,
        context_ms=context_ms,
        notes=(*running.notes, *context.notes, *_streamed(running), *_limits(running)),
    )


def _load_mode(running: Running) -> str:
    asked = running.model.load_mode
    if asked != "auto":
        return asked
    return "mmap" if any(layer.mapped_bytes for layer in running.placement.layers) else "none"


def _streamed(running: Running) -> list[str]:
    return [running.streaming.note] if running.streaming is not None and running.streaming.note else []


def _limits(running: Running) -> list[str]:
    """What the profile asks for and this build or machine cannot do."""
    limits = []
    profile = running.profile
    if profile.probe_every and not running.probe.available:
        limits.append("This build of llama.cpp does not let layers be timed.")
    return limits

"""A model that is ready to answer, with all that belongs to it."""

from __future__ import annotations

import ctypes
from typing import NamedTuple

from pagewise.engine.carried import CarriedCache, Made
from pagewise.engine.disk_reads import DiskReads
from pagewise.engine.failures import Failed
from pagewise.engine.file_watch import FileWatch
from pagewise.engine.llamacpp.adapters import Adapters
from pagewise.engine.llamacpp.context import Context, copy_state, n_ctx_of, restore_state, state_bytes, threads_of
from pagewise.engine.llamacpp.decode import Aborted, Sequence
from pagewise.engine.llamacpp.kv_layout import can_flip, flip
from pagewise.engine.llamacpp.model import Model
from pagewise.engine.llamacpp.operators import OperatorProbe
from pagewise.engine.llamacpp.pagein import PageIn
from pagewise.engine.llamacpp.pieces import Grain, PieceSize
from pagewise.engine.llamacpp.placement import Placement
from pagewise.engine.llamacpp.probe import LayerProbe
from pagewise.engine.memory import available_bytes
from pagewise.engine.prompt import Prompts
from pagewise.engine.streaming import Streaming
from pagewise.models.layers import INPUT, OUTPUT, layer_of
from pagewise.settings import Profile

_SHARE_OF_FREE = 4
"""A copy of the KV cache may take one part in so many of the RAM that is free."""
_TOO_LONG = "its {:,} tokens do not fit into a context of {:,}"
_OTHER_CELLS = "its cells are of another kind (type of K or V, flash attention)"
_RESCALED = "another scale of a LoRA adapter: what was computed with the former one is of no use"


class Carried(NamedTuple):
    """How many tokens of a KV cache came along, and why not more."""

    tokens: int
    note: str


class Running:
    """Weights, context and prompts in force under one profile."""

    def __init__(
        self,
        model: Model,
        context: Context,
        placement: Placement,
        prompts: Prompts,
        profile: Profile,
        *,
        load_ms: float,
        notes: tuple[str, ...],
        adapters: Adapters,
        streaming: Streaming | None = None,
    ) -> None:
        """``notes``: what the person should know of how the weights were loaded. ``adapters``: set on ``context``."""
        self.adapters = adapters
        self.streaming = streaming
        self.model = model
        self.load_ms = load_ms
        self.notes = notes
        self.placement = placement
        self.prompts = prompts
        self.profile = profile
        self.cold = True
        """No turn has been answered since the weights were loaded."""
        self._page_in = _page_in(model, placement)
        self._reads = DiskReads(model.file.headers, lambda: streaming.readers if streaming is not None else None)
        self.file_watch = FileWatch(model.file)
        self._grain = _grain(model, placement)
        self._take(context)

    def _take(self, context: Context) -> None:
        self.context = context
        streaming = self.streaming
        if streaming is not None:
            streaming.attach(context)
        pieces = PieceSize(context.n_ubatch, self._grain, context.threads.batch, whole=self._streams)
        self.sequence = Sequence(context, pieces, streaming)
        listen = streaming.listen if streaming is not None else None
        self.probe = LayerProbe(context, self.placement.layers, self._page_in, self._reads, listen)
        self.operators = OperatorProbe(context, listen)
        self.adapters.set_on(context)

    def _streams(self) -> bool:
        return self.streaming is not None and self.streaming.active

    def set_live(self, profile: Profile) -> None:
        """Sampling, threads, scales and probe of ``profile`` are in force from the next token on."""
        if profile.lora != self.adapters.lora:
            self.adapters.rescale(profile.lora)
            self.adapters.set_on(self.context)
            self.sequence.outdate(_RESCALED)
        self.profile = profile
        threads = threads_of(profile, self.model.file.bytes)
        if threads != self.context.threads:
            self.context.set_threads(threads)

    def new_context(
        self,
        profile: Profile,
        stop_flag: ctypes.Array[ctypes.c_char],
        carried: CarriedCache,
        *,
        must_carry: bool = False,
    ) -> Carried:
        """Another context on the same weights; what the KV cache held comes along if it fits.

        Raises Failed, with ``must_carry`` also where it could not come along; then a context of the former profile is
        in force, with what its cache held, unless ``usable`` says that not even that could be made.
        """
        former = self.profile
        follower = self.streaming.callback if self.streaming else None
        # Both contexts may not fit side by side, so the cache waits in a memory file between them.
        note = self.put_aside(carried)
        try:
            if must_carry and (why := note or self._why_not(profile, carried)):
                raise _not_along(why)
            undo = self.adapters.load(profile.lora)
        except Failed:
            carried.clear()
            raise
        self.context.free()
        try:
            self._take(Context(self.model, self._shaped(profile), stop_flag, follower))
            taken = self._fill_from(carried)
            if must_carry and taken.note:
                raise _not_along(taken.note)
        except Failed:
            undo()
            self.context.free()
            self._take(Context(self.model, self._shaped(former), stop_flag, follower))
            self.take_up(carried)
            raise
        carried.clear()
        self.profile = profile
        self.adapters.drop_others()
        return taken._replace(note=note or taken.note)

    def _why_not(self, profile: Profile, carried: CarriedCache) -> str:
        """Why what was put aside could not be taken up under ``profile``, as far as that is known before."""
        stored, context = carried.stored(), self.context
        if stored is None:
            return ""
        if len(stored.ids) >= n_ctx_of(profile, self.model.n_ctx_train):
            return _TOO_LONG.format(len(stored.ids), profile.n_ctx)
        if (profile.cache_type_k, profile.cache_type_v) != (context.cache_type_k, context.cache_type_v):
            return _OTHER_CELLS
        # What "auto" comes to is only known of a context that was made with it.
        same = profile.flash_attention in (self.profile.flash_attention, "on" if context.flash_attention else "off")
        return "" if same or can_flip(carried.part(*stored.state)) else _OTHER_CELLS

    def _shaped(self, profile: Profile) -> Profile:
        return profile if self.streaming is None else self.streaming.shaped(profile)

    @property
    def usable(self) -> bool:
        """Whether there is a context."""
        return bool(self.context.pointer)

    @property
    def _made(self) -> Made:
        return Made(self.model.file.identity, self.adapters.made)

    def put_aside(self, carried: CarriedCache) -> str:
        """Copy what the KV cache holds to where the next context, or the next engine, finds it. Why not, or nothing."""
        carried.clear()
        sequence = self.sequence
        if not sequence.ids or sequence.outdated:
            return sequence.outdated
        checkpoints = sequence.checkpoints
        size = state_bytes(self.context)
        if size + sum(len(state) for _, state in checkpoints) > available_bytes() // _SHARE_OF_FREE:
            return "too little RAM is free to put the KV cache aside"
        try:
            done = carried.put(
                self._made, sequence.ids, size, checkpoints, lambda state: copy_state(self.context, state)
            )
        except OSError as error:
            return f"the KV cache could not be put aside: {error.strerror or error}"
        return "" if done else "llama.cpp did not give the KV cache out"

    def take_up(self, carried: CarriedCache) -> Carried:
        """Fill the KV cache from what was put aside, if this context can take it; it is no longer aside then."""
        try:
            return self._fill_from(carried)
        finally:
            carried.clear()

    def _fill_from(self, carried: CarriedCache) -> Carried:
        """The same, and it stays put aside."""
        stored = carried.stored()
        if stored is None:
            return Carried(0, "")
        if stored.made.weights != self.model.file.identity:
            return Carried(0, "the weights are those of another file")
        if stored.made.adapters != self.adapters.made:
            return Carried(0, "it was computed with other LoRA adapters")
        if len(stored.ids) >= self.context.n_ctx:
            return Carried(0, _TOO_LONG.format(len(stored.ids), self.context.n_ctx))
        checkpoints = [(count, _own(carried.part(start, size))) for count, start, size in stored.checkpoints]
        if not restore_state(self.context, carried.part(*stored.state)):
            # Turned over in a copy: an engine that is ended in the middle must leave no half of it in the file.
            turned = _own(carried.part(*stored.state))
            if not flip(turned) or not restore_state(self.context, turned):
                return Carried(0, _OTHER_CELLS)
            checkpoints = [(count, state) for count, state in checkpoints if flip(state)]
        self.sequence.adopt(stored.ids, checkpoints)
        return Carried(len(stored.ids), "")

    def warm(self) -> None:
        """Run one token and forget it: builds the graph, and reads what is still on disk. Raises Failed."""
        vocabulary = self.model.vocabulary
        try:
            self.sequence.evaluate(vocabulary.bos if vocabulary.bos >= 0 else 0)
        except Aborted:
            return
        finally:
            self.sequence.clear()

    def free(self) -> None:
        """Let go of all memory."""
        self.context.free()
        if self.streaming is not None:
            self.streaming.close()
        self.model.free()
        self._reads.close()
        if self._page_in is not None:
            self._page_in.close()


def _not_along(why: str) -> Failed:
    return Failed("The KV cache would not come along", f"{why}.", "Switch to such a profile when that does not matter.")


def _own(part: ctypes.Array[ctypes.c_uint8]) -> ctypes.Array[ctypes.c_uint8]:
    """A copy that outlives the memory file."""
    return type(part).from_buffer_copy(part)


def _grain(model: Model, placement: Placement) -> Grain:
    if any(layer.device_bytes for layer in placement.layers):
        return Grain(share=1.0, weights=0)
    sizes = [
        tensor.n_weights
        for header in model.file.headers
        for tensor in header.tensors
        if layer_of(tensor.name) not in (INPUT, OUTPUT)
    ]
    largest = max(sizes, default=1)
    return Grain(share=largest / max(1, sum(sizes)), weights=largest)


def _page_in(model: Model, placement: Placement) -> PageIn | None:
    if not any(layer.mapped_bytes for layer in placement.layers):
        return None
    try:
        return PageIn(model.file, placement.layers)
    except OSError:
        # The kernel lacks the call, or the file is not ours: page-ins of a layer are then n/a.
        return None

"""A model that is ready to answer, with all that belongs to it."""

from __future__ import annotations

import ctypes
from typing import NamedTuple

from pagewise.engine.failures import Failed
from pagewise.engine.file_watch import FileWatch
from pagewise.engine.llamacpp.context import Context, restore_state, state_of, threads_of
from pagewise.engine.llamacpp.decode import Aborted, Sequence
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


class Held(NamedTuple):
    """A copy of a KV cache, and the tokens it stands for."""

    ids: tuple[int, ...]
    state: ctypes.Array[ctypes.c_uint8]


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
        streaming: Streaming | None = None,
    ) -> None:
        """``notes``: what the person should know of how the weights were loaded."""
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
        self.probe = LayerProbe(context, self.placement.layers, self._page_in, streaming.listen if streaming else None)
        self.operators = OperatorProbe(context)

    def _streams(self) -> bool:
        return self.streaming is not None and self.streaming.active

    def set_live(self, profile: Profile) -> None:
        """Sampling, threads and probe of ``profile`` are in force from the next token on."""
        self.profile = profile
        threads = threads_of(profile, self.model.file.bytes)
        if threads != self.context.threads:
            self.context.set_threads(threads)

    def new_context(self, profile: Profile, stop_flag: ctypes.Array[ctypes.c_char]) -> None:
        """Another context on the same weights; what the KV cache held is carried over if it fits.

        Raises Failed; then a context of the former profile is in force again, with what its cache held, unless
        ``usable`` says that not even that could be made.
        """
        former = self.profile
        follower = self.streaming.callback if self.streaming else None
        # Both contexts may not fit side by side, so the cache waits in RAM between them.
        held = self.take_cache()
        self.context.free()
        try:
            context = Context(self.model, self._shaped(profile), stop_flag, follower)
        except Failed:
            self._take(Context(self.model, self._shaped(former), stop_flag, follower))
            self.put_cache(held)
            raise
        self.profile = profile
        self._take(context)
        self.put_cache(held)

    def _shaped(self, profile: Profile) -> Profile:
        return profile if self.streaming is None else self.streaming.shaped(profile)

    @property
    def usable(self) -> bool:
        """Whether there is a context."""
        return bool(self.context.pointer)

    def take_cache(self) -> Held | None:
        """A copy of what the KV cache holds, for another context of the same weights; None if there is none to have."""
        if not self.sequence.ids:
            return None
        state = state_of(self.context, available_bytes() // 4)
        return None if state is None else Held(tuple(self.sequence.ids), state)

    def put_cache(self, held: Held | None) -> None:
        """Put a copy back, if the context can take it: KV of another type, or without flash attention, it refuses."""
        if held is not None and len(held.ids) < self.context.n_ctx and restore_state(self.context, held.state):
            self.sequence.ids = list(held.ids)

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
        if self._page_in is not None:
            self._page_in.close()


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

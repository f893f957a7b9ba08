"""Running a mapped model that is larger than memory: what is kept, what is streamed, and when to think again."""

from __future__ import annotations

import resource
import sys
import time

from pagewise.engine.llamacpp import library
from pagewise.engine.llamacpp.buffers import context_buffers
from pagewise.engine.llamacpp.context import Context
from pagewise.engine.llamacpp.follow import Follower
from pagewise.engine.llamacpp.model import Model
from pagewise.engine.llamacpp.plan import plan_context
from pagewise.engine.llamacpp.probe import Asked
from pagewise.messages import Failure
from pagewise.placement.available import anonymous_bytes, room_for_file
from pagewise.placement.pages import MappedFile
from pagewise.placement.plan import Layout, Plan, layout, make_plan
from pagewise.placement.streamer import Streamer
from pagewise.readings import LayerPlacement
from pagewise.settings import Keep, Profile

_CHECK_S = 0.2
_TOLERANCE = 4 * 1024 * 1024
_GROWTH = 48 * 1024 * 1024
_GROWTH_SHARE = 0.02
"""Room must have grown by this much, and for this many checks, before it is taken: others may want it back."""
_GROWTH_CHECKS = 8
_STALLS = 4
_CLEARLY = 0.7
_GB = 1e9


class Streaming:
    """Goes along with every evaluation of one model. ``close`` it before the model is freed."""

    def __init__(self, model: Model, layers: Layout, limit: int | None) -> None:
        """``limit``: the most bytes of the file that may stay in memory. Raises OSError where it is not mapped."""
        self._layout = layers
        self._limit = limit
        self._files: list[MappedFile] = []
        try:
            for header in model.file.headers:
                self._files.append(MappedFile(header.path))
            for part, start, end in layers.rows:
                self._files[part].rows_only(start, end)
        except OSError:
            self._close_files()
            raise
        self._streamer = Streamer(self._files, layers.blocks, len(layers.steps))
        self._follower = Follower(layers.steps, self._streamer.done)
        self.callback = self._follower.callback
        self._reserve = 0
        self._anonymous = anonymous_bytes()
        self._room = 0
        self._checked_s = 0.0
        self._roomier = 0
        self._stalls = 0
        self._told = False

    @classmethod
    def wanted(cls, model: Model, placement: tuple[LayerPlacement, ...], profile: Profile) -> Streaming | None:
        """Streaming for this model where it will not fit, and can be done here; else None."""
        if profile.placement == "off" or not sys.platform.startswith("linux"):
            return None
        if profile.load_mode not in ("auto", "mmap") or model.file.number("expert_count", 0) > 1:
            return None
        mapped = frozenset(
            layer.name for layer in placement if layer.mapped_bytes and not layer.device_bytes + layer.copied_bytes
        )
        layers = layout(model.file.headers, mapped)
        room = room_for_file()
        if room is None or not layers.blocks or library.tensor_name is None:
            return None
        limit = profile.placement.bytes if isinstance(profile.placement, Keep) else None
        if limit is not None:
            room = min(room, limit)
        if layers.bytes <= _CLEARLY * room:
            return None
        context = plan_context(model.file, profile)
        if layers.bytes <= room - (context.cache + context.compute if context is not None and limit is None else 0):
            return None
        try:
            return cls(model, layers, limit)
        except OSError:
            # It is not mapped as one file, or a sandbox forbids the calls: the kernel does as it always did.
            return None

    @property
    def plan(self) -> Plan:
        """What is in force."""
        return self._streamer.plan

    @property
    def note(self) -> str:
        """What the person should know."""
        plan = self.plan
        if not plan.streamed:
            return ""
        return (
            f"The model is larger than the memory it can have: {plan.kept_bytes / _GB:.2f} GB of it stay there, and "
            f"{plan.streamed_bytes / _GB:.2f} GB are read again for every token."
        )

    def trouble(self) -> Failure | None:
        """What the system refused to the readers, told once; None if nothing."""
        failure = self._streamer.failure
        if failure is None or self._told:
            return None
        self._told = True
        return Failure(
            "Parts of the model could not be read ahead",
            f"The system says: {failure.strerror or failure}. They are read when they are needed, which is slower.",
            'Check the disk that the model is on; placement = "off" leaves all reading to the kernel.',
        )

    def listen(self, listener: Asked | None) -> None:
        """Let the layer clock have its say about every node."""
        self._follower.listen(listener)

    def settle(self, context: Context) -> None:
        """Decide for the first time, now that the context has taken its memory or is known to."""
        buffers = sum(buffer.bytes for buffer in context_buffers(context) if buffer.device == "CPU")
        self._reserve = self._anonymous + buffers
        room = self._measured()
        if room is not None:
            self._apply(room)

    def begin(self) -> None:
        """An evaluation is about to begin."""
        self._streamer.begin()

    def end(self) -> None:
        """An evaluation has ended."""
        if not self._follower.learnt:
            self._follower.learn()
        self._streamer.end()
        now = time.monotonic()
        if now - self._checked_s >= _CHECK_S:
            self._checked_s = now
            self._check()

    def close(self) -> None:
        """End the threads and let go of the files."""
        self._streamer.close()
        self._close_files()

    def _close_files(self) -> None:
        for file in self._files:
            file.close()

    def _measured(self) -> int | None:
        room = room_for_file()
        if room is None:
            return None
        # Buffers that were allocated and not yet touched will take their memory sooner or later.
        room -= max(0, self._reserve - anonymous_bytes())
        return room if self._limit is None else min(room, self._limit)

    def _check(self) -> None:
        """Give memory back as soon as it is short; take more when there has been more for a while."""
        room = self._measured()
        if room is None:
            return
        if room < self._room - _TOLERANCE:
            self._apply(room)
        elif room > self._room + max(_GROWTH, int(_GROWTH_SHARE * self._room)) and self.plan.streamed:
            self._roomier += 1
            if self._roomier >= _GROWTH_CHECKS:
                self._apply(room)
        else:
            self._roomier = 0
        # Of the computing thread alone: the readers stall for a living.
        stalls = resource.getrusage(resource.RUSAGE_THREAD).ru_majflt
        if stalls - self._stalls > _STALLS:
            self._streamer.forget()
        self._stalls = stalls

    def _apply(self, room: int) -> None:
        self._room = room
        self._roomier = 0
        plan = make_plan(self._layout.blocks, room)
        self._streamer.apply(plan)
        self._follower.active = bool(plan.streamed)

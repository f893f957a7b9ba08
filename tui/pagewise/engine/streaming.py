"""Running a mapped model that is larger than memory, or becomes so: what is kept, what is streamed, and until when.

Every mapped model has one of these. While all of it fits it costs a look at the memory now and then. As soon as it does
not it takes the layers in hand, and it lets go of them when there is room again.
"""

from __future__ import annotations

import resource
import time
from collections import Counter
from collections.abc import Mapping

import msgspec

from pagewise.engine.foreseen import DEFAULT_UBATCH, Foreseen, room_within, why_not
from pagewise.engine.in_hand import HeldElsewhere, InHand
from pagewise.engine.llamacpp.buffers import context_buffers
from pagewise.engine.llamacpp.context import Context
from pagewise.engine.llamacpp.follow import Follower, can_follow, can_read_choices
from pagewise.engine.llamacpp.model import Model
from pagewise.engine.llamacpp.probe import Asked
from pagewise.engine.streamed import Measured, Sizes, reading
from pagewise.messages import Failure
from pagewise.placement.available import anonymous_bytes, room_for_file
from pagewise.placement.plan import Layout, Plan, layout, make_plan, read_ahead
from pagewise.placement.pressure import Pressure
from pagewise.placement.readers import Readers
from pagewise.readings import Streaming as Reading
from pagewise.readings import Where
from pagewise.settings import Profile
from pagewise.trace import trace

_CHECK_S = 0.2
_NEWS_S = 1.0
_TOLERANCE = 4 * 1024 * 1024
_GROWTH = 48 * 1024 * 1024
_GROWTH_SHARE = 0.02
"""Room must have grown by this much, and for this many checks, before it is taken: others may want it back."""
_GROWTH_CHECKS = 8
_HELD_BACK = 32 * 1024 * 1024
"""What the kernel took is left to it, so much at a time, and twice as much if that was not enough."""
_MOST_HELD_BACK = 0.5
_STALLS = 4
_UNSEEN = 3
"""Tokens after which a router must have been seen."""
_SETTLED = 0.8
_EXPERTS_LEAST = 0.02
"""Of all experts, room for so many at least: where the rest of the model leaves less, that is streamed too."""
_GB = 1e9


class Streaming:
    """Goes along with every evaluation of one model. ``close`` it before the model is freed."""

    def __init__(
        self,
        model: Model,
        homes: Mapping[str, Where],
        profile: Profile,
        foreseen: Foreseen,
        disk_bytes_s: float | None = None,
    ) -> None:
        """``homes``: where each tensor is. ``disk_bytes_s``: how fast the disk was when the file was loaded."""
        self._disk_bytes_s = disk_bytes_s
        mapped = frozenset(name for name, where in homes.items() if where == "mapped")
        self.n_ubatch = foreseen.profile.n_ubatch
        self._layout: Layout = layout(model.file.headers, mapped)
        self._sizes = Sizes(self._layout)
        self._model = model
        self._profile = profile
        self._locks = foreseen.locks
        self._n_used = model.file.number("expert_used_count", 1)
        experts = self._layout.experts
        routers = experts.layers if experts is not None else ()
        self._follower = Follower(self._layout.steps, self._done, routers, self._chosen)
        self._follower.active = False
        self._pressure = Pressure()
        self._context: Context | None = None
        self._hand: InHand | None = None
        self._reserve = 0
        self._anonymous = anonymous_bytes()
        self._room = 0
        self._held_back = 0
        self._checked_s = 0.0
        self._told_s = 0.0
        self._news = True
        self._roomier = 0
        self._stalls = 0
        self._trouble: Failure | None = None
        self._told_trouble = False
        self._hopeless = False
        self._routed = False
        self._listening = False
        self._lent = False
        """Whether the callback is on the scheduler for this evaluation: the context was made without it."""
        self._n_tokens = 0
        self._evaluated = 0
        """Tokens since memory was looked at."""
        self._began_s = 0.0
        self._waited_s = 0.0
        self._token_s: float | None = None
        self._token_waited_s: float | None = None
        self._tokens = 0

    @classmethod
    def wanted(
        cls,
        model: Model,
        homes: Mapping[str, Where],
        profile: Profile,
        foreseen: Foreseen,
        disk_bytes_s: float | None = None,
    ) -> Streaming | None:
        """For a model with mapped weights, where it can be done here and the profile does not forbid it; else None."""
        if profile.placement == "off" or not can_follow() or "mapped" not in homes.values() or why_not(model.file):
            return None
        streaming = cls(model, homes, profile, foreseen, disk_bytes_s)
        blind = streaming._layout.experts is not None and not can_read_choices()
        if not streaming._layout.blocks or room_for_file() is None or blind:
            return None
        # The context is then made with our callback in it, which it keeps when its graph is built anew.
        room = room_within(room_for_file(), profile)
        streaming._follower.active = foreseen.streams or (room is not None and room < streaming._sizes.total)
        return streaming

    # ---- what others ask --------------------------------------------------------------------------------------------

    @property
    def callback(self) -> object | None:
        """What a context is to be made with: something only where layers are streamed, or are about to be."""
        return self._follower.callback if self.active else None

    @property
    def active(self) -> bool:
        """Whether layers are streamed, or are about to be."""
        return self._follower.active

    @property
    def plan(self) -> Plan:
        """What is in force of what every token needs."""
        if self._hand is None:
            return Plan((), 0, self._sizes.dense, 0)
        return self._hand.streamer.plan

    @property
    def note(self) -> str:
        """What the person should know."""
        kept, streamed = self._sizes.kept_and_streamed(self._hand)
        if not streamed:
            return ""
        again = "are read when the router chooses them" if self._layout.experts else "are read again for every token"
        return (
            f"The model is larger than the memory it can have: {kept / _GB:.2f} GB of it stay there, and "
            f"{streamed / _GB:.2f} GB {again}."
        )

    def trouble(self) -> Failure | None:
        """What went wrong, told once; None if nothing."""
        failure = self._hand.readers.failure if self._hand is not None else None
        if self._trouble is None and failure is not None and not self._told_trouble:
            self._told_trouble = True
            return Failure(
                "Parts of the model could not be read ahead",
                f"The system says: {failure.strerror or failure}. They are read when they are needed, which is slower.",
                'Check the disk that the model is on; placement = "off" leaves all reading to the kernel.',
            )
        trouble, self._trouble = self._trouble, None
        return trouble

    def news(self, *, at_end: bool = False) -> Reading | None:
        """What is kept and streamed: when it has changed, at the end of a reply, once a second while it is streamed."""
        now = time.monotonic()
        due = at_end or (self.active and now - self._told_s >= _NEWS_S)
        if not self._news and not due:
            return None
        self._news, self._told_s = False, now
        return self._reading()

    @property
    def readers(self) -> Readers | None:
        """Who reads ahead, and drops; None while all of the model stays."""
        return self._hand.readers if self._hand is not None else None

    def listen(self, listener: Asked | None) -> None:
        """Let the layer clock, or the operator profile, have its say about every node."""
        self._listening = listener is not None
        self._follower.listen(listener)

    def shaped(self, profile: Profile) -> Profile:
        """``profile`` with the micro-batch that suits streaming, where it leaves that open."""
        if not self.active or profile.n_ubatch != DEFAULT_UBATCH:
            return profile
        return msgspec.structs.replace(profile, n_ubatch=self.n_ubatch, n_batch=max(profile.n_batch, self.n_ubatch))

    # ---- along with the engine --------------------------------------------------------------------------------------

    def attach(self, context: Context) -> None:
        """Every evaluation from now on is on this context."""
        self._context = context
        buffers = sum(buffer.bytes for buffer in context_buffers(context) if buffer.device == "CPU")
        self._reserve = self._anonymous + buffers
        room = self._measured()
        if room is not None:
            self._apply(room)

    def begin(self, n_tokens: int) -> None:
        """An evaluation of so many tokens is about to begin."""
        self._follower.begin(n_tokens)
        if self._context is not None and (self.active or self._listening):
            self._follower.lend(self._context)
            self._lent = not self._context.followed
        self._n_tokens = n_tokens
        self._evaluated += n_tokens
        self._began_s = time.monotonic()
        self._waited_s = 0.0
        if self._hand is None or not self.active:
            return
        self._follower.followed = False
        waited = self._hand.waited_s
        if self._hand.experts is not None:
            self._hand.experts.begin(n_tokens)
        trace.layer(self._layout.steps[0])
        self._hand.streamer.begin()
        self._waited_s = -waited

    def end(self) -> None:
        """An evaluation has ended."""
        now = time.monotonic()
        self._follower.end()
        if self._lent and self._context is not None:
            self._follower.take_back(self._context)
            self._lent = False
        hand = self._hand
        if hand is not None and self.active:
            if not self._follower.learnt:
                self._follower.learn()
            hand.streamer.end(one_token=self._n_tokens == 1)
            if hand.experts is not None:
                hand.experts.end()
            if not self._follower.followed and self._follower.learnt:
                hand.streamer.sweep()
            if self._layout.experts is not None and not self._routed and self._tokens > _UNSEEN:
                self._give_up(
                    "What the routers of this model choose is not seen in its graph",
                    "Another llama.cpp build may show it.",
                )
                return
            self._waited_s += hand.waited_s
        if self._n_tokens == 1:
            self._took(now - self._began_s, max(0.0, self._waited_s))
        if now - self._checked_s >= _CHECK_S:
            self._checked_s = now
            self._check()

    def close(self) -> None:
        """End the threads and let go of the files."""
        if self._hand is not None:
            self._hand.close()
            self._hand = None

    # ---- inside -----------------------------------------------------------------------------------------------------

    def _done(self, step: int) -> None:
        if step + 1 < len(self._layout.steps):
            trace.layer(self._layout.steps[step + 1])
        if self._hand is not None:
            self._hand.done(step)

    def _chosen(self, layer: str, counts: Counter[int], n_tokens: int) -> None:
        self._routed = True
        if self._hand is not None and self._hand.experts is not None:
            self._hand.experts.chosen(layer, counts, n_tokens)

    def _took(self, seconds: float, waited: float) -> None:
        self._tokens += 1
        if self._tokens < 3:
            # The first ones bring in what is to be kept.
            return
        if self._token_s is None or self._token_waited_s is None:
            self._token_s, self._token_waited_s = seconds, waited
            return
        self._token_s = _SETTLED * self._token_s + (1 - _SETTLED) * seconds
        self._token_waited_s = _SETTLED * self._token_waited_s + (1 - _SETTLED) * waited

    def _measured(self) -> int | None:
        room = room_for_file()
        if room is None:
            return None
        # Buffers that were allocated and not yet touched will take their memory sooner or later.
        room -= max(0, self._reserve - anonymous_bytes()) + self._held_back
        return room_within(max(0, room), self._profile)

    def _check(self) -> None:
        """Give memory back as soon as it is short; take more when there has been more for a while."""
        self._look_for_thieves()
        room = self._measured()
        if room is None:
            return
        if not self.active:
            if room < self._sizes.total:
                self._apply(room)
            return
        _, streamed = self._sizes.kept_and_streamed(self._hand)
        if room < self._room - _TOLERANCE:
            self._apply(room)
        elif room > self._room + max(_GROWTH, int(_GROWTH_SHARE * self._room)) and streamed:
            self._roomier += 1
            if self._roomier >= _GROWTH_CHECKS:
                self._apply(room)
        else:
            self._roomier = 0
            self._fit_window()

    def _look_for_thieves(self) -> None:
        """Where the kernel has taken what was kept, it is read again; where it had to, less is kept for a while."""
        # Of the computing thread alone: the readers stall for a living.
        stalls = resource.getrusage(resource.RUSAGE_THREAD).ru_majflt
        # Each token reads a row of the embeddings, which may lie on two pages that nobody has read yet.
        expected = _STALLS + 2 * self._evaluated
        stalled, self._stalls, self._evaluated = stalls - self._stalls > expected, stalls, 0
        short = self._pressure.is_short()
        if not self.active or self._hand is None:
            return
        if stalled:
            self._hand.forget()
        if stalled and short:
            most = int(_MOST_HELD_BACK * self._sizes.total)
            self._held_back = min(most, max(_HELD_BACK, 2 * self._held_back))
        elif not short:
            self._held_back = int(self._held_back * 0.98)

    def _fit_window(self) -> None:
        """Read ahead by what the disk and the layers were measured to do."""
        hand, plan = self._hand, self.plan
        if hand is None or not plan.streamed:
            return
        ahead = read_ahead(hand.readers.bandwidth, hand.streamer.step_s)
        if abs(ahead - hand.ahead) > hand.ahead // 4:
            hand.ahead = ahead
            self._apply(self._room)

    def _apply(self, room: int) -> None:
        """Take a plan for this much room into force."""
        self._room = room
        self._roomier = 0
        if self._hopeless or (room >= self._sizes.total and self._hand is None):
            self._follower.active = False
            return
        hand = self._take_in_hand()
        if hand is None:
            return
        experts = self._layout.experts
        of_experts = 0
        if experts is not None and hand.experts is not None:
            least = int(max(_EXPERTS_LEAST * self._sizes.experts, 3 * self._n_used * experts.largest))
            of_experts = max(room - self._sizes.dense, min(least, room // 2)) - experts.edge_bytes
            hand.experts.resize(of_experts)
        hand.streamer.apply(make_plan(self._layout.blocks, room - max(0, of_experts), hand.ahead))
        _, streamed = self._sizes.kept_and_streamed(self._hand)
        self._follower.active = bool(streamed)
        self._news = True

    def _take_in_hand(self) -> InHand | None:
        if self._hand is None:
            try:
                self._hand = InHand(self._model, self._layout, self._n_used, self._locks)
            except HeldElsewhere as error:
                self._give_up(
                    str(error), "End the program that has it (`pagewise monitor` lists them), or load a copy."
                )
            except OSError as error:
                self._give_up(
                    f"The system says: {error.strerror or error}", "A sandbox may forbid madvise or readahead."
                )
        return self._hand

    def _give_up(self, why: str, do: str) -> None:
        """Leave all paging to the kernel."""
        self._follower.active = False
        self._hopeless = True
        if self._hand is not None:
            self._hand.close()
            self._hand = None
        self._trouble = Failure(
            "The model is larger than memory and its layers cannot be streamed",
            f"{why}. It is paged as the kernel likes, which is slower.",
            f"{do} A smaller quant that fits is faster anyway.",
        )

    def _reading(self) -> Reading:
        measured = Measured(self._room, self._token_s, self._token_waited_s, self._disk_bytes_s)
        return reading(self._sizes, self._hand, measured, self._n_used, locked=self._locks)

"""What only the engine knows, gathered as it passes through the host: for a monitor, here or in another terminal."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import NamedTuple

from pagewise.host.judge import Judge
from pagewise.host.slot import EngineSlot
from pagewise.host.turn import Turn
from pagewise.host.turns import Turns
from pagewise.messages import Event, Finished, FrameError, Layers, ModelInfo, Tokens, decode_event
from pagewise.readings import EngineReadings, LayerClock, Missing, TurnTiming
from pagewise.settings import Profile

_TOKENS_TAG = b"\xa6Tokens"
_TAG_AT_MOST = 16
_PROFILED = b"\xa8profiled\xc3"
"""The end of a Tokens frame whose last field is true."""


class _Output(NamedTuple):
    """The token path of one turn as far as it has come: its first and its last frame, and when they passed."""

    turn: Turn
    first: bytes
    first_s: float
    last: bytes
    last_s: float
    left_out_s: float
    left_out: int
    """Tokens that were profiled count in no rate."""


class Inside:
    """``read`` may be called from any thread. Frames of the token path are kept as they are and decoded when asked."""

    def __init__(self, slot: EngineSlot, turns: Turns, judge: Judge, in_force: Callable[[], Profile | None]) -> None:
        self._slot = slot
        self._turns = turns
        self._judge = judge
        self._in_force = in_force
        self._output: _Output | None = None
        self._timing: TurnTiming | None = None
        """Of the last turn that ended."""
        self._clock: tuple[LayerClock, float] | None = None
        self._holds: tuple[object, ...] = ()

    def on_loaded(self, model: ModelInfo) -> None:
        """A model is in force: what was read of another one is forgotten."""
        engine = self._slot.engine
        holds = (model.path, model.n_ctx, model.placement, engine.pid if engine else None)
        if holds != self._holds:
            self._holds = holds
            self._output = self._timing = self._clock = None

    def on_stream(self, payload: bytes) -> None:
        """A frame of the token path passes, before the turn is told of it."""
        turn = self._turns.now
        if turn is None or _TOKENS_TAG not in payload[:_TAG_AT_MOST]:
            return
        now = time.monotonic()
        former = self._output
        if former is None or former.turn is not turn:
            self._output = _Output(turn, payload, now, payload, now, 0.0, 0)
            return
        profiled = payload.endswith(_PROFILED)
        self._output = former._replace(
            last=payload,
            last_s=now,
            left_out_s=former.left_out_s + (now - former.last_s if profiled else 0.0),
            left_out=former.left_out + profiled,
        )

    def on_event(self, event: Event) -> None:
        """Anything else that the engine says of a turn."""
        if isinstance(event, Layers):
            self._clock = (event.clock, time.monotonic())
        elif isinstance(event, Finished) and event.timing is not None:
            self._timing = event.timing

    def read(self) -> EngineReadings | None:
        """What is known now; None where no model is in force."""
        engine, model, profile = self._slot.engine, self._turns.model, self._in_force()
        if engine is None or model is None or profile is None:
            return None
        running = self._turns.now
        output, timing, clock = self._output, self._timing, self._clock
        figures = _of_running(output if output and output.turn is running else None, timing) if running else None
        if figures is None:
            figures = _of_ended(timing)
        missing = []
        if clock is None:
            off = "probe_every is 0 in its profile" if not profile.probe_every else "no token has been probed yet"
            missing.append(Missing("clock", f"{off[0].upper()}{off[1:]}."))
        if figures.tpot_ms is None:
            missing.append(Missing("decode_rate", "No reply of two tokens or more has been written yet."))
        return EngineReadings(
            pid=engine.pid,
            state=self._slot.state,
            profile=profile.name,
            model=model.name,
            n_ctx=model.n_ctx,
            kv_used=figures.kv_used,
            n_output=figures.n_output,
            decode_rate=1000.0 / figures.tpot_ms if figures.tpot_ms else None,
            tpot_ms=figures.tpot_ms,
            ttft_ms=figures.ttft_ms,
            itl_p95_ms=figures.itl_p95_ms,
            prefill_rate=figures.prefill_rate,
            probe_every=profile.probe_every,
            probe_cost_pct=timing.probe_cost_pct if timing else None,
            clock=clock[0] if clock else None,
            clock_age_s=time.monotonic() - clock[1] if clock else None,
            placement=model.placement,
            verdict=self._judge.latest,
            missing=tuple(missing),
        )


class _Figures(NamedTuple):
    kv_used: int | None
    n_output: int
    tpot_ms: float | None
    ttft_ms: float | None
    itl_p95_ms: float | None
    prefill_rate: float | None


def _of_running(output: _Output | None, former: TurnTiming | None) -> _Figures:
    """Of a turn in hand: by when its frames passed, since the engine's own clock is told at its end."""
    if output is None:
        return _Figures(former.kv_used if former else None, 0, None, None, None, None)
    first, last = _tokens(output.first), _tokens(output.last)
    counted = last.n_output - first.n_output - output.left_out
    seconds = output.last_s - output.first_s - output.left_out_s
    return _Figures(
        kv_used=last.kv_used,
        n_output=last.n_output,
        tpot_ms=1000.0 * seconds / counted if counted > 0 and seconds > 0 else None,
        ttft_ms=first.step_ms,
        itl_p95_ms=None,
        prefill_rate=None,
    )


def _of_ended(timing: TurnTiming | None) -> _Figures:
    if timing is None:
        return _Figures(None, 0, None, None, None, None)
    return _Figures(
        timing.kv_used,
        timing.n_output,
        timing.tpot_ms,
        timing.ttft_ms,
        timing.itl_percentile(95),
        timing.prefill_rate,
    )


def _tokens(payload: bytes) -> Tokens:
    event = decode_event(payload)
    if not isinstance(event, Tokens):
        raise FrameError(f"{type(event).__name__} where Tokens were seen")
    return event

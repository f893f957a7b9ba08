"""What the gauges draw from: the latest reading of everything, and the short histories beside it."""

from __future__ import annotations

from collections import deque

from pagewise import messages
from pagewise.app.felt import Felt
from pagewise.readings import LayerClock, Snapshot, Streaming, TurnEnergy, TurnTiming, Verdict, percentile

PAGE_IN_SAMPLES = 240
CLOCK_SAMPLES = 256
GAP_SAMPLES = 512
TURN_SAMPLES = 64


class Readout:
    """Takes events as they come; gauges read its fields. ``revision`` grows with each change."""

    def __init__(self) -> None:
        self.revision = 0
        self.model: messages.ModelInfo | None = None
        self.probe_every = 0
        self.snapshot: Snapshot | None = None
        self.page_in: deque[tuple[float | None, float | None]] = deque(maxlen=PAGE_IN_SAMPLES)
        """Bytes a second and stalls a second, oldest first."""
        self.clock: LayerClock | None = None
        self.clocks: deque[LayerClock] = deque(maxlen=CLOCK_SAMPLES)
        """Of the probed tokens since the load, oldest first."""
        self.verdict: Verdict | None = None
        self.energy: TurnEnergy | None = None
        self.why_no_energy = ""
        """Of the last turn that was judged."""
        self.streaming: Streaming | None = None
        """What of the model file is kept and what is streamed; None while the engine has not said."""
        self.timing: TurnTiming | None = None
        """Of the last turn that ended."""
        self.felt: Felt | None = None
        """Of this turn, or of the last one."""
        self.kv_used: int | None = None
        self.gaps: deque[float] = deque(maxlen=GAP_SAMPLES)
        """Milliseconds between tokens of this turn, or of the last one, oldest first."""
        self._warm: deque[TurnTiming] = deque(maxlen=TURN_SAMPLES)
        self._turn: int | None = None
        self._ttft_ms: float | None = None
        self._gap_sum = 0.0
        self._gap_count = 0

    def take(self, event: messages.Event) -> None:
        """Take what this event says; events without figures change nothing."""
        match event:
            case messages.Reading(snapshot=snapshot):
                self._snapshot(snapshot)
            case messages.Tokens():
                self._tokens(event)
            case messages.Layers(clock=clock):
                self.clock = clock
                self.clocks.append(clock)
            case messages.Streamed(streaming=streaming):
                self.streaming = streaming
            case messages.Judged(verdict=verdict, energy=energy, why_no_energy=why):
                self.verdict = verdict
                self.energy, self.why_no_energy = energy, why
            case messages.Finished(timing=timing) if timing is not None:
                self._finished(timing)
            case messages.Prefill(done=done):
                self.kv_used = done
            case messages.EngineStatus(state="released"):
                self.model_lost()
            case messages.Loaded(model=model, profile=profile, change=change):
                self._loaded(model, profile.probe_every, change)
            case _:
                return
        self.revision += 1

    def begin_turn(self, turn: int, felt: Felt | None = None) -> None:
        """A turn was sent: what is shown as now is this one's. ``felt`` None: nobody waits for it (a replay)."""
        self._turn = turn
        self.felt = felt
        self._ttft_ms = None
        self._gap_sum = 0.0
        self._gap_count = 0
        self.gaps.clear()
        self.revision += 1

    def new_conversation(self) -> None:
        """The context is empty again."""
        self.kv_used = 0 if self.model is not None else None
        self.revision += 1

    def model_lost(self) -> None:
        """No model is in force: what was read of it no longer holds."""
        self.model = None
        self.clock = None
        self.verdict = None
        self.energy, self.why_no_energy = None, ""
        self.streaming = None
        self.kv_used = None
        self.revision += 1

    # ---- what gauges ask --------------------------------------------------------------------------------------------

    @property
    def ttft_ms(self) -> float | None:
        """TTFT of this turn, or of the last one."""
        return self._ttft_ms

    @property
    def tpot_ms(self) -> float | None:
        """TPOT of this turn so far, or of the last one: the mean gap after the first token."""
        return self._gap_sum / self._gap_count if self._gap_count else None

    @property
    def decode_rate(self) -> float | None:
        """Output tokens a second of this turn so far, or of the last one."""
        tpot = self.tpot_ms
        return 1000.0 / tpot if tpot else None

    @property
    def warm_turns(self) -> int:
        """Turns that p50 and p95 are over: those since the load, without the first (cold) one."""
        return len(self._warm)

    def ttft_percentile(self, q: float) -> float | None:
        """Over the warm turns since the load."""
        return percentile([turn.ttft_ms for turn in self._warm if turn.ttft_ms is not None], q)

    def tpot_percentile(self, q: float) -> float | None:
        """Over the warm turns since the load."""
        return percentile([turn.tpot_ms for turn in self._warm if turn.tpot_ms is not None], q)

    def gap_percentile(self, q: float) -> float | None:
        """Over the gaps between tokens of this turn, or of the last one."""
        return percentile(list(self.gaps), q)

    # ---- events -----------------------------------------------------------------------------------------------------

    def _snapshot(self, snapshot: Snapshot) -> None:
        self.snapshot = snapshot
        paging = snapshot.paging
        self.page_in.append((paging.page_in_bytes_s, paging.stalls_s) if paging else (None, None))

    def _tokens(self, event: messages.Tokens) -> None:
        self.kv_used = event.kv_used
        if event.id != self._turn:
            return
        if self._ttft_ms is None:
            self._ttft_ms = event.step_ms
        elif event.ids and not event.profiled:
            self._gap_sum += event.step_ms
            self._gap_count += len(event.ids)
            self.gaps.extend([event.step_ms / len(event.ids)] * len(event.ids))

    def _finished(self, timing: TurnTiming) -> None:
        self.timing = timing
        self.kv_used = timing.kv_used
        self._ttft_ms = timing.ttft_ms
        if counted := timing.counted_ms:
            self.gaps.clear()
            self.gaps.extend(counted)
            self._gap_sum = sum(counted)
            self._gap_count = len(counted)
        if not timing.cold:
            self._warm.append(timing)

    def _loaded(self, model: messages.ModelInfo, probe_every: int, change: messages.ChangeClass) -> None:
        self.model = model
        self.probe_every = probe_every
        if change in ("live", "none"):
            return
        self.clock = None
        self.clocks.clear()
        self.verdict = None
        self.energy, self.why_no_energy = None, ""
        self.streaming = None
        self.timing = None
        self.kv_used = 0
        self._warm.clear()

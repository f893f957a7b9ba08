"""``pagewise ask``: one question, one answer, for scripts."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import sys
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Struct

from pagewise.app.figures import size
from pagewise.app.visible import visible
from pagewise.client import HostClient, Record
from pagewise.commands.output import as_json
from pagewise.commands.problem import report
from pagewise.messages import (
    ChatMessage,
    Event,
    Failure,
    Finished,
    Generate,
    Judged,
    Load,
    Loaded,
    LoadFailed,
    LoadProgress,
    ModelInfo,
    Notice,
    SetRate,
    Stop,
    StopReason,
    Tokens,
)
from pagewise.readings import TurnEnergy, TurnTiming
from pagewise.settings import Profile

MAX_QUESTION = 16 * 1024 * 1024
_LOAD, _TURN = 1, 2
INTERRUPTED = 130
_RECORD_HZ = 2.0
"""Readings a second that go into a record; without one nobody looks at them."""


class TtftSplit(Struct, frozen=True):
    """Parts of the time to the first token, in ms."""

    queue: float
    template: float
    prefill: float
    first_sample: float | None


class ItlPercentiles(Struct, frozen=True):
    """Gaps between consecutive tokens, in ms."""

    p50: float | None
    p95: float | None
    p99: float | None


class Answer(Struct, frozen=True):
    """What ``--json`` writes. Rates are tokens per second; a figure that cannot be had is null."""

    text: str
    n_prompt: int | None
    n_reused: int | None
    n_output: int | None
    ttft_ms: float | None
    ttft_split_ms: TtftSplit | None
    ttft_text_ms: float | None
    tpot_ms: float | None
    itl_ms: ItlPercentiles
    prefill_rate: float | None
    decode_rate: float | None
    depth: int | None
    joules_per_token: float | None
    """Joules for one output token, by the devices that hold the model; null where there are none."""
    energy_source: str | None
    profile: str
    model: str
    quant: str
    load_ms: float | None
    stop_reason: StopReason
    error: Failure | None = None


def question_text(argument: str) -> str:
    """The question: the argument, or standard input where that is ``-``. Bytes that are no text are replaced."""
    if argument == "-":
        return sys.stdin.buffer.read(MAX_QUESTION + 1).decode("utf-8", errors="replace")
    return argument.encode("utf-8", errors="surrogateescape").decode("utf-8", errors="replace")


def run(question: str, profile: Profile, json: bool, record: Path | None = None) -> int:
    """Ask, write the answer to standard output, and return the exit status. Raises RecordError."""
    if record is None:
        return asyncio.run(_Asking(question, profile, json).run())
    from pagewise.record.recorder import Recorder

    with Recorder(record, "ask") as recorder:
        return asyncio.run(_Asking(question, profile, json, recorder.take).run())


class _Asking:
    """One question on its way: loads the profile, then generates, then is over."""

    def __init__(self, question: str, profile: Profile, json: bool, record: Record | None = None) -> None:
        self._question = question
        self._profile = profile
        self._json = json
        self._client = HostClient(record=record)
        self._hz = 0.0 if record is None else _RECORD_HZ
        self._pieces: list[str] = []
        self._model: ModelInfo | None = None
        self._load_ms: float | None = None
        self._finished: Finished | None = None
        self._energy: TurnEnergy | None = None
        self._failure: Failure | None = None
        self._interrupts = 0
        self._current = _LOAD
        self._progress_shown = False

    async def run(self) -> int:
        loop = asyncio.get_running_loop()
        task = asyncio.current_task()
        assert task is not None
        loop.add_signal_handler(signal.SIGINT, self._interrupted, task)
        try:
            await self._client.start()
            self._client.send(SetRate(self._hz))
            self._client.send(Load(_LOAD, self._profile))
            async for event in self._client.events():
                if self._over(event):
                    break
            else:
                self._failure = _HOST_LOST
        except asyncio.CancelledError:
            return INTERRUPTED
        finally:
            loop.remove_signal_handler(signal.SIGINT)
            self._clear_progress()
            with contextlib.suppress(asyncio.CancelledError):
                await self._client.close()
        return self._end()

    def _interrupted(self, task: asyncio.Task[Any]) -> None:
        self._interrupts += 1
        if self._interrupts > 1:
            task.cancel()
        else:
            self._client.send(Stop(self._current))

    def _over(self, event: Event) -> bool:
        match event:
            case LoadProgress(phase=phase, done_bytes=done, total_bytes=total):
                self._show_progress(phase, done, total)
            case Loaded(id=id, model=model, total_ms=total_ms) if id == _LOAD and self._model is None:
                self._clear_progress()
                self._model, self._load_ms = model, total_ms
                if self._interrupts:
                    self._finished = Finished(_TURN, "stopped", None)
                    return True
                self._current = _TURN
                self._client.send(Generate(_TURN, (ChatMessage("user", self._question),)))
            case LoadFailed(failure=failure, cancelled=cancelled):
                if cancelled and self._interrupts:
                    self._finished = Finished(_TURN, "stopped", None)
                else:
                    self._failure = failure
                return True
            case Tokens(id=id, text=text) if id == _TURN:
                self._take(text)
            case Finished(id=id) if id == _TURN:
                self._finished = event
                self._failure = event.failure
                return not self._wants_energy(event)
            case Judged(id=id, energy=energy) if id == _TURN:
                self._energy = energy
                return True
            case Notice(failure=failure):
                report(failure)
            case _:
                pass
        return False

    def _wants_energy(self, finished: Finished) -> bool:
        # It comes with the verdict, which every turn that was timed gets.
        model = self._model
        return self._json and finished.timing is not None and model is not None and model.offloaded_layers > 0

    def _take(self, text: str) -> None:
        self._pieces.append(text)
        if not self._json:
            sys.stdout.write(visible(text) if sys.stdout.isatty() else text)
            sys.stdout.flush()

    def _end(self) -> int:
        reason: StopReason = self._finished.reason if self._finished else "failed"
        text = "".join(self._pieces)
        if self._json:
            print(as_json(self._answer(text, reason)))
        elif text and not text.endswith("\n"):
            print()
        if self._failure is not None:
            report(self._failure)
            return 1
        if reason == "stopped":
            return INTERRUPTED
        if reason == "context full" and not self._json:
            print("pagewise: the context is full, the answer ends here (--set n_ctx=…)", file=sys.stderr)
        return 0

    def _answer(self, text: str, reason: StopReason) -> Answer:
        timing = self._finished.timing if self._finished else None
        figures = _figures(timing)
        return Answer(
            text=text,
            profile=self._profile.name,
            model=self._model.path if self._model else self._profile.model,
            quant=self._model.quant if self._model else self._profile.quant or "",
            joules_per_token=self._energy.per_token_j if self._energy else None,
            energy_source=self._energy.source if self._energy else None,
            load_ms=self._load_ms,
            stop_reason=reason,
            error=self._failure,
            **figures,
        )

    def _show_progress(self, phase: str, done: int, total: int) -> None:
        if sys.stderr.isatty():
            self._progress_shown = True
            of = f" of {size(total)}" if total else ""
            print(f"\r\x1b[K{visible(phase)} {size(done)}{of}", end="", file=sys.stderr, flush=True)

    def _clear_progress(self) -> None:
        if self._progress_shown:
            self._progress_shown = False
            print("\r\x1b[K", end="", file=sys.stderr, flush=True)


_HOST_LOST = Failure(
    "There is no answer",
    "The host does not stay up.",
    "`pagewise doctor` shows what this machine lacks; the host's log is in the user's log folder.",
)


def _figures(timing: TurnTiming | None) -> dict[str, Any]:
    if timing is None:
        names = ("n_prompt", "n_reused", "n_output", "ttft_ms", "ttft_split_ms", "ttft_text_ms", "tpot_ms")
        more = ("prefill_rate", "decode_rate", "depth")
        return {**dict.fromkeys((*names, *more)), "itl_ms": ItlPercentiles(None, None, None)}
    split = TtftSplit(timing.queue_ms, timing.template_ms, timing.prefill_ms, timing.first_sample_ms)
    return {
        "n_prompt": timing.n_prompt,
        "n_reused": timing.n_reused,
        "n_output": timing.n_output,
        "ttft_ms": timing.ttft_ms,
        "ttft_split_ms": split,
        "ttft_text_ms": timing.ttft_text_ms,
        "tpot_ms": timing.tpot_ms,
        "itl_ms": ItlPercentiles(*(timing.itl_percentile(q) for q in (50, 95, 99))),
        "prefill_rate": timing.prefill_rate,
        "decode_rate": timing.decode_rate,
        "depth": timing.depth,
    }


def with_limit(profile: Profile, max_tokens: int | None) -> Profile:
    """The profile with replies of at most ``max_tokens`` tokens."""
    if max_tokens is None:
        return profile
    sampling = msgspec.structs.replace(profile.sampling, max_tokens=max_tokens)
    return msgspec.structs.replace(profile, sampling=sampling)

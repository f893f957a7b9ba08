"""What one server says of its work: asked over HTTP, and differences taken between two answers.

llama-server counts tokens when a request ends, so that while one runs its speed is the growth of its slots; it
counts no time to the first token, which is therefore estimated from outside.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from pagewise.models.gguf import printable
from pagewise.monitor import metrics
from pagewise.monitor.http import Address, NoAnswer, get, get_json, looks_like_html
from pagewise.monitor.metrics import Metrics, parse_metrics
from pagewise.readings import Missing, ServerReadings

WITHIN_S = 1.0
_BACKWARDS = "its counters went backwards: it was started again; the next answer will do"
_ONE_ANSWER = "there is only one answer so far"
_MOST_SLOTS = 1024
_PAGES = ("metrics", "slots")
_NOT_OLLAMA = ("decode_rate", "prefill_rate", "ttft_ms", "kv_used", "processing", "waiting")


class Slot(NamedTuple):
    """One place for a request in llama-server. None: this build does not tell."""

    id: int
    task: int
    processing: bool
    n_ctx: int | None
    decoded: int | None
    used: int | None
    """Tokens of this slot in the KV cache."""


class Answers(NamedTuple):
    """Everything that was answered at one time."""

    at_s: float
    kind: str
    model: str
    metrics: Metrics | None
    slots: tuple[Slot, ...] | None
    kv_size: int | None
    vram_bytes: int | None
    missing: Mapping[str, str]


class Server:
    """One server. ``ask`` may take seconds and belongs into a thread; it never raises for what the server does."""

    def __init__(self, url: str, address: Address, kind: str = "") -> None:
        self.url = url
        self._address = address
        self._kind = kind
        self._last: Answers | None = None
        self._began: dict[int, tuple[int, float]] = {}
        """Slots whose prompt is being evaluated: the task, and when it was first seen."""
        self._ttft_ms: float | None = None

    def ask(self) -> ServerReadings:
        """Ask it everything once."""
        try:
            answers = self._ollama() if self._kind == "Ollama" else self._openai_like()
        except NoAnswer as error:
            self._last = None
            return ServerReadings(self.url, self._kind, 0.0, missing=(Missing("server", f"{self.url}: {error}"),))
        before, self._last = self._last, answers
        self._kind = answers.kind or self._kind
        return self._readings(before, answers)

    # ---- asking -----------------------------------------------------------------------------------------------------

    def _openai_like(self) -> Answers:
        missing: dict[str, str] = {}
        refusals: list[NoAnswer] = []
        props: Any = None
        try:
            props = get_json(self._address, "/props", WITHIN_S)
        except NoAnswer as error:
            refusals.append(error)
            if "nothing listens" in str(error) or "whole answer" in str(error):
                raise
        found: Metrics | None = None
        try:
            body = get(self._address, "/metrics", WITHIN_S)
            if looks_like_html(body):
                raise NoAnswer("it answers with a web page, not with figures")
            found = parse_metrics(body.decode("utf-8", errors="replace"))
        except NoAnswer as error:
            refusals.append(error)
            missing["metrics"] = f"/metrics: {error}; llama-server has it when it is started with --metrics"
        slots: tuple[Slot, ...] | None = None
        try:
            slots = parse_slots(get_json(self._address, "/slots", WITHIN_S))
        except NoAnswer as error:
            refusals.append(error)
            missing["slots"] = f"/slots: {error}"
        is_props = isinstance(props, dict) and "default_generation_settings" in props
        if found is None and slots is None and not is_props:
            return self._ollama(refusals[0])
        kind = (found.kind if found else "") or ("llama-server" if slots is not None or is_props else "")
        return Answers(
            at_s=time.monotonic(),
            kind=kind,
            model=_model_name(props),
            metrics=found,
            slots=slots,
            kv_size=_kv_size(props, slots),
            vram_bytes=None,
            missing=missing,
        )

    def _ollama(self, otherwise: NoAnswer | None = None) -> Answers:
        """``/api/ps`` of Ollama. Raises ``otherwise`` if it is not Ollama."""
        try:
            answer = get_json(self._address, "/api/ps", WITHIN_S)
        except NoAnswer as error:
            raise otherwise or error from error
        models = answer.get("models") if isinstance(answer, dict) else None
        if not isinstance(models, list):
            raise otherwise or NoAnswer("its answer to /api/ps is not Ollama's")
        known = [entry for entry in models if isinstance(entry, dict)]
        missing = dict.fromkeys(_NOT_OLLAMA, "Ollama counts no tokens for others to read: only whoever asked sees them")
        sizes = [_whole(entry.get("size_vram")) for entry in known]
        contexts = [_whole(entry.get("context_length")) for entry in known]
        names = [printable(entry["name"]) for entry in known if isinstance(entry.get("name"), str)]
        if len(known) != 1:
            missing["vram_bytes"] = f"Ollama has {len(known)} models loaded and does not say which process has which"
        return Answers(
            at_s=time.monotonic(),
            kind="Ollama",
            model=", ".join(names[:8]),
            metrics=None,
            slots=None,
            kv_size=contexts[0] if len(known) == 1 else None,
            vram_bytes=sizes[0] if len(known) == 1 else None,
            missing=missing,
        )

    # ---- what follows from it ---------------------------------------------------------------------------------------

    def _readings(self, before: Answers | None, now: Answers) -> ServerReadings:
        missing = dict(now.missing)
        decode, source = _decode_rate(before, now, missing)
        ttft, estimated = self._ttft(before, now, missing)
        told = [slot.used for slot in now.slots or () if slot.used is not None]
        used = sum(told) if told else None
        kv_pct = None
        share = now.metrics.first(metrics.KV_SHARE) if now.metrics else None
        if used is not None and now.kv_size:
            kv_pct = 100.0 * used / now.kv_size
        elif share is not None:
            kv_pct = 100.0 * share
        elif now.kind != "Ollama":
            missing.setdefault("kv_used", missing.get("slots", "its slots do not say how full the KV cache is"))
        processing, waiting = (_count(now.metrics, names) for names in (metrics.PROCESSING, metrics.WAITING))
        if processing is None and now.slots is not None:
            processing = sum(slot.processing for slot in now.slots)
        if waiting is None:
            missing.setdefault("waiting", missing.get("metrics", "this server does not count it"))
        return ServerReadings(
            url=self.url,
            kind=now.kind,
            age_s=0.0,
            decode_rate=decode,
            decode_source=source,
            prefill_rate=_prefill_rate(before, now, missing),
            ttft_ms=ttft,
            ttft_is_estimate=estimated,
            kv_used=used,
            kv_size=now.kv_size,
            kv_pct=kv_pct,
            processing=processing,
            waiting=waiting,
            model=now.model,
            vram_bytes=now.vram_bytes,
            missing=tuple(Missing(metric, why) for metric, why in missing.items() if metric not in _PAGES),
        )

    def _ttft(self, before: Answers | None, now: Answers, missing: dict[str, str]) -> tuple[float | None, bool]:
        if now.metrics is not None:
            total, count = now.metrics.first(metrics.TTFT_SUM), now.metrics.first(metrics.TTFT_COUNT)
            if total is not None and count is not None:
                return self._mean_ttft(before, total, count, missing), False
        if now.slots is None:
            missing.setdefault("ttft_ms", missing.get("slots", "this server does not tell"))
            return None, False
        self._watch_prompts(before, now)
        if self._ttft_ms is None:
            missing.setdefault("ttft_ms", "llama-server does not count it, and no request has begun and answered yet")
        return self._ttft_ms, self._ttft_ms is not None

    def _mean_ttft(self, before: Answers | None, total: float, count: float, missing: dict[str, str]) -> float | None:
        """Of the requests whose first token came between the two answers; with none, the former mean stays."""
        former = before.metrics if before else None
        old_total = former.first(metrics.TTFT_SUM) if former else None
        old_count = former.first(metrics.TTFT_COUNT) if former else None
        if old_total is not None and old_count is not None and count > old_count and total >= old_total:
            self._ttft_ms = 1000.0 * (total - old_total) / (count - old_count)
        if self._ttft_ms is None:
            missing.setdefault("ttft_ms", "no request has had its first token since this was begun")
        return self._ttft_ms

    def _watch_prompts(self, before: Answers | None, now: Answers) -> None:
        """A request that is seen without output, and later with some: its TTFT lies between."""
        former = {slot.id: slot for slot in before.slots or ()} if before else {}
        for slot in now.slots or ():
            if not slot.processing or slot.decoded is None:
                self._began.pop(slot.id, None)
                continue
            began = self._began.get(slot.id)
            if slot.decoded == 0:
                if began is None or began[0] != slot.task:
                    was = former.get(slot.id)
                    fresh = before is not None and was is not None and (not was.processing or was.task != slot.task)
                    at = (before.at_s + now.at_s) / 2 if fresh and before else now.at_s
                    self._began[slot.id] = (slot.task, at)
            elif began is not None and began[0] == slot.task and before is not None:
                self._ttft_ms = 1000.0 * max(0.0, (before.at_s + now.at_s) / 2 - began[1])
                del self._began[slot.id]


def parse_slots(answer: Any) -> tuple[Slot, ...]:
    """The slots of llama-server's ``/slots``, of any of its versions. Raises NoAnswer."""
    if not isinstance(answer, list) or not all(isinstance(entry, dict) for entry in answer):
        raise NoAnswer("its answer is not llama-server's")
    return tuple(_slot(index, entry) for index, entry in enumerate(answer[:_MOST_SLOTS]))


def _slot(index: int, entry: Mapping[str, Any]) -> Slot:
    following = entry.get("next_token")
    if isinstance(following, list):
        following = following[0] if following else None
    following = following if isinstance(following, dict) else {}
    decoded = _first(following.get("n_decoded"), entry.get("n_decoded"))
    prompt = _whole(entry.get("n_prompt_tokens"))
    past = _whole(entry.get("n_past"))
    processing = entry.get("is_processing")
    if not isinstance(processing, bool):
        processing = entry.get("state") not in (None, 0)
    evaluated, cached = _whole(entry.get("n_prompt_tokens_processed")), _whole(entry.get("n_prompt_tokens_cache"))
    if past is not None:
        used: int | None = past
    elif not decoded and evaluated is not None and cached is not None:
        used = evaluated + cached
    else:
        used = None if prompt is None else prompt + (decoded or 0)
    return Slot(
        id=_first(entry.get("id"), index) or 0,
        task=_first(entry.get("id_task"), entry.get("task_id")) or -1,
        processing=processing,
        n_ctx=_whole(entry.get("n_ctx")),
        decoded=decoded,
        used=used,
    )


def _decode_rate(before: Answers | None, now: Answers, missing: dict[str, str]) -> tuple[float | None, str]:
    if now.kind == "Ollama":
        return None, ""
    seconds = now.at_s - before.at_s if before else 0.0
    if before is None or seconds <= 0:
        missing["decode_rate"] = _ONE_ANSWER
        return None, ""
    grown = _grown(before.slots, now.slots)
    if grown:
        return grown / seconds, "slots"
    new, old = (answers.metrics.first(metrics.DECODED) if answers.metrics else None for answers in (now, before))
    if new is not None and old is not None:
        if new < old:
            missing["decode_rate"] = _BACKWARDS
            return None, ""
        new_s, old_s = (
            answers.metrics.first(metrics.DECODE_S) if answers.metrics else None for answers in (now, before)
        )
        if new > old and new_s is not None and old_s is not None and new_s > old_s:
            # Counted when a request ends: the time it took is known better than the time between two answers.
            return (new - old) / (new_s - old_s), "counters"
        if new > old or new_s is None or not (now.metrics and now.metrics.first(metrics.PROCESSING)):
            return (new - old) / seconds, "counters"
        missing["decode_rate"] = "a request is running, and this server counts its tokens when it ends"
        return None, ""
    gauge = now.metrics.first(metrics.DECODE_GAUGE) if now.metrics else None
    if gauge is not None:
        return gauge, "gauge"
    if grown is not None:
        return 0.0, "slots"
    missing["decode_rate"] = missing.get("slots") or missing.get("metrics") or "this server does not tell"
    return None, ""


def _grown(before: Sequence[Slot] | None, now: Sequence[Slot] | None) -> int | None:
    """Tokens by which the running requests have grown; None where slots do not tell."""
    if before is None or now is None or not now:
        return None
    former = {slot.id: slot for slot in before}
    total, known = 0, False
    for slot in now:
        if slot.decoded is None:
            continue
        known = True
        if not slot.processing:
            continue
        was = former.get(slot.id)
        start = was.decoded if was is not None and was.task == slot.task and was.decoded is not None else 0
        total += max(0, slot.decoded - start)
    return total if known else None


def _prefill_rate(before: Answers | None, now: Answers, missing: dict[str, str]) -> float | None:
    values = [
        answers.metrics.first(names) if answers is not None and answers.metrics else None
        for names in (metrics.PROMPTED, metrics.PROMPT_S)
        for answers in (before, now)
    ]
    old, new, old_s, new_s = values
    if old is None or new is None or old_s is None or new_s is None:
        if now.kind != "Ollama":
            missing["prefill_rate"] = (
                _ONE_ANSWER
                if before is None and now.metrics
                else missing.get("metrics", "this server does not count it")
            )
        return None
    if new < old or new_s < old_s:
        missing["prefill_rate"] = _BACKWARDS
        return None
    if new_s == old_s:
        missing["prefill_rate"] = "no prompt was finished since the former answer"
        return None
    return (new - old) / (new_s - old_s)


def _model_name(props: Any) -> str:
    if not isinstance(props, dict):
        return ""
    for key in ("model_alias", "model_path"):
        value = props.get(key)
        if isinstance(value, str) and value:
            return printable(value)
    return ""


def _kv_size(props: Any, slots: Sequence[Slot] | None) -> int | None:
    if slots and all(slot.n_ctx is not None for slot in slots):
        return sum(slot.n_ctx or 0 for slot in slots)
    if isinstance(props, dict):
        settings = props.get("default_generation_settings")
        n_ctx = _whole(settings.get("n_ctx")) if isinstance(settings, dict) else None
        if n_ctx is not None:
            return n_ctx * (_whole(props.get("total_slots")) or 1)
    return None


def _count(found: Metrics | None, names: tuple[str, ...]) -> int | None:
    value = found.first(names) if found else None
    return None if value is None or value < 0 else int(value)


def _first(*values: Any) -> int | None:
    return next((whole for whole in map(_whole, values) if whole is not None), None)


def _whole(value: Any) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 1 << 62 else None

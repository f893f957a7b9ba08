"""Loads models one after the other, each in an engine of its own, and measures them side by side."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Literal, NamedTuple, TypeVar

import msgspec
import platformdirs

from pagewise.failure import Failure
from pagewise.host.jobs.job import Job, JobError
from pagewise.host.jobs.side_engine import SideEngine
from pagewise.host.slot import EngineDied, model_path
from pagewise.instruments.pagecache import choose
from pagewise.jobs.base import JobAnswer, JobFailed, JobProgress
from pagewise.jobs.compare import (
    ComparedModel,
    CompareModels,
    DeviceBytes,
    MeasureQuality,
    ModelsCompared,
    Quality,
    QualityMeasured,
)
from pagewise.jobs.measure import Measure, Measured
from pagewise.jobs.plan import RAM
from pagewise.messages import (
    ChatMessage,
    Finished,
    Generate,
    JobCommand,
    Load,
    Loaded,
    LoadFailed,
    LoadProgress,
    ModelInfo,
    Tokens,
)
from pagewise.models.gguf import GgufError, printable
from pagewise.models.split import read_parts
from pagewise.settings import Profile
from pagewise.unnamed import UnnamedFile

_CPU = "CPU"
_MAPPED = "_Mapped"
_PREFILL_TOKENS, _DECODE_TOKENS = 512, 32
A = TypeVar("A", bound=JobAnswer)
_LOAD, _PREFILL, _DECODE, _ANSWER, _QUALITY = range(1, 6)


class _Refused(Exception):
    """This model cannot be measured; the others can."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(failure.what)
        self.failure = failure


class _Answer(NamedTuple):
    text: str
    ids: tuple[int, ...]
    vocabulary: str


async def run(command: CompareModels, job: Job) -> None:
    """What fails for one model is told in its column; what fails for the reference ends the job."""
    await asyncio.to_thread(_check_text, command.text)
    compared: list[ComparedModel] = []
    reference: _Answer | None = None
    with ExitStack() as stack:
        logits = ""
        if command.text and len(command.profiles) > 1:
            logits = str(stack.enter_context(await asyncio.to_thread(predictions)).path)
        for profile, label in zip(command.profiles, command.labels, strict=True):
            subject = _Subject(command, job, profile, label, logits, reference)
            try:
                compared.append(await subject.measure())
            except (_Refused, EngineDied) as error:
                if not compared:
                    raise JobError(error.failure.what, error.failure.why, error.failure.next) from error
                compared.append(ComparedModel(label, profile, error.failure))
            if reference is None:
                reference = subject.answer
    job.send(ModelsCompared(command.id, tuple(compared), command.prompt, command.text))


def _check_text(text: str) -> None:
    """Before minutes go by."""
    if not text:
        return
    try:
        with Path(text).open("rb") as file:
            file.read(1)
    except OSError as error:
        raise JobError(
            f"The text {printable(Path(text).name)} cannot be read",
            f"The system says: {error.strerror or error}.",
            "Check the path; any plain text of some thousand words will do.",
        ) from error


def predictions() -> UnnamedFile:
    """For a reference's, in the user's cache folder: unlike that for temporary files it does not lie in memory."""
    folder = platformdirs.user_cache_path("pagewise")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        return UnnamedFile(folder, "predictions")
    except OSError as error:
        raise JobError(
            "The reference's predictions have no place",
            f"The system says: {error.strerror or error}: {printable(str(folder))}.",
            "Make the user's cache folder writable.",
        ) from error


class _Subject:
    """One model on its way through all measurements."""

    def __init__(
        self,
        command: CompareModels,
        job: Job,
        profile: Profile,
        label: str,
        logits: str,
        reference: _Answer | None,
    ) -> None:
        self.answer: _Answer | None = None
        self._command, self._job = command, job
        self._profile, self._label = profile, label
        self._logits, self._reference = logits, reference

    async def measure(self) -> ComparedModel:
        """Everything. Raises _Refused and EngineDied."""
        cached = await asyncio.to_thread(_cached, self._profile)
        async with self._job.side_engine() as engine:
            loaded = await self._load(engine)
            info = loaded.model
            rates = await self._rates(engine, info)
            turn = await self._ask(engine, info)
            quality, why = await self._quality(engine)
        assert self.answer is not None
        timing = turn.timing
        return ComparedModel(
            label=self._label,
            profile=self._profile,
            path=info.path,
            level=info.quant,
            n_params=info.n_params,
            file_bytes=info.file_bytes,
            bits_per_weight=await asyncio.to_thread(_bits_per_weight, Path(info.path)),
            load_ms=info.load_ms,
            cached=cached,
            ttft_ms=timing.ttft_ms if timing is not None else None,
            prefill_rate=rates[0],
            decode_rate=rates[1],
            memory=_memory(info),
            quality=quality,
            why_no_quality=why,
            answer=self.answer.text,
            n_answer=len(self.answer.ids),
            same_answer=self._same(),
        )

    def _progress(
        self, phase: str, done: int, total: int, unit: Literal["bytes", "items"] = "items", detail: str = ""
    ) -> None:
        self._job.progress(f"{self._label}: {phase}", done, total, unit, detail)

    async def _load(self, engine: SideEngine) -> Loaded:
        self._progress("load", 0, 0)
        engine.send(Load(_LOAD, self._profile))
        async for event in engine.events():
            match event:
                case LoadProgress(phase=phase, done_bytes=done, total_bytes=total) if total:
                    self._progress("load" if phase == "weights" else phase, done, total, "bytes")
                case Loaded():
                    return event
                case LoadFailed(failure=failure):
                    raise _Refused(failure)
        raise AssertionError("the events of an engine end with its death")

    async def _rates(self, engine: SideEngine, info: ModelInfo) -> tuple[float | None, float | None]:
        """Prefill and decode, in tokens a second, apart from sampling and templates: as the command bench measures."""
        self._progress("rates", 0, 2)
        prompt = min(_PREFILL_TOKENS, info.n_ctx - _DECODE_TOKENS)
        if prompt < 1:
            return None, None
        prefill = await _answered(engine, Measure(_PREFILL, "prefill", prompt, 0, 0), Measured)
        self._progress("rates", 1, 2)
        decode = await _answered(engine, Measure(_DECODE, "decode", 0, _DECODE_TOKENS, 0), Measured)
        return prefill.prefill_rate, 1000 / decode.tpot_ms if decode.tpot_ms else None

    async def _ask(self, engine: SideEngine, info: ModelInfo) -> Finished:
        """The same prompt for all, answered with the most probable tokens."""
        self._progress("answer", 0, self._command.max_tokens)
        sampling = msgspec.structs.replace(
            self._profile.sampling, temperature=0.0, max_tokens=self._command.max_tokens, repeat_penalty=1.0
        )
        engine.send(Generate(_ANSWER, (ChatMessage("user", self._command.prompt),), sampling))
        text = ""
        ids: list[int] = []
        async for event in engine.events():
            match event:
                case Tokens():
                    text += event.text
                    ids += event.ids
                    self._progress("answer", event.n_output, self._command.max_tokens)
                case Finished(failure=failure):
                    if failure is not None:
                        raise _Refused(failure)
                    self.answer = _Answer(text, tuple(ids), info.vocabulary)
                    return event
        raise AssertionError("the events of an engine end with its death")

    def _same(self) -> int | None:
        """Tokens of the answer up to the first that the reference did not give."""
        own, other = self.answer, self._reference
        if own is None or other is None or own.vocabulary != other.vocabulary:
            return None
        limit = min(len(own.ids), len(other.ids))
        return next((index for index in range(limit) if own.ids[index] != other.ids[index]), limit)

    async def _quality(self, engine: SideEngine) -> tuple[Quality | None, str]:
        """Perplexity and divergence, or why there are none."""
        command = self._command
        if not command.text:
            return None, "No text was given (--text FILE)."
        first = self._reference is None
        request = MeasureQuality(_QUALITY, command.text, command.n_ctx, command.chunks, self._logits, first)
        try:
            measured = await _answered(engine, request, QualityMeasured, self._pass_on)
        except _Refused as error:
            if first:
                raise
            return None, f"{error.failure.what}. {error.failure.why}"
        return measured.quality, ""

    def _pass_on(self, progress: JobProgress) -> None:
        self._progress(progress.phase, progress.done, progress.total, progress.unit, progress.detail)


async def _answered(
    engine: SideEngine,
    request: JobCommand,
    kind: type[A],
    progressed: Callable[[JobProgress], None] = lambda progress: None,
) -> A:
    """The answer of this kind. Raises _Refused and EngineDied."""
    engine.send(request)
    async for event in engine.events():
        if isinstance(event, JobFailed):
            raise _Refused(event.failure)
        if isinstance(event, kind):
            return event
        if isinstance(event, JobProgress):
            progressed(event)
    raise AssertionError("the events of an engine end with its death")


def _memory(info: ModelInfo) -> tuple[DeviceBytes, ...]:
    """RAM first, then each accelerator."""
    total: dict[str, int] = {RAM: 0}
    mapped: dict[str, int] = {}
    for buffer in info.buffers:
        device = RAM if buffer.device == _CPU else buffer.device
        total[device] = total.get(device, 0) + buffer.bytes
        if buffer.buffer.endswith(_MAPPED):
            mapped[device] = mapped.get(device, 0) + buffer.bytes
    return tuple(DeviceBytes(device, size, mapped.get(device, 0)) for device, size in total.items())


def _cached(profile: Profile) -> float | None:
    """Share of the profile's file that is in memory; None where that cannot be told."""
    path = model_path(profile)
    if path is None:
        return None
    try:
        parts = [part.path for part in read_parts(path)]
    except GgufError:
        return None
    present = total = 0
    for part in parts:
        way, _ = choose(part, None)
        if way is None:
            return None
        try:
            size = part.stat().st_size
            present += way.pages(0, size).present
            total += -(-size // os.sysconf("SC_PAGESIZE"))
        except OSError:
            return None
        finally:
            way.close()
    return min(1.0, present / total) if total else None


def _bits_per_weight(path: Path) -> float | None:
    """Bits of all tensors over all weights, as llama.cpp counts; None where the file has gone meanwhile."""
    try:
        tensors = [tensor for part in read_parts(path) for tensor in part.tensors]
    except GgufError:
        return None
    weights = sum(tensor.n_weights for tensor in tensors)
    return 8 * sum(tensor.bytes for tensor in tensors) / weights if weights else None

"""What smaller KV types and other quants cost in quality: measured in the tuner's engine, each but once."""

from __future__ import annotations

import asyncio
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType

import msgspec

from pagewise.failure import Failure
from pagewise.host.jobs.compare import predictions
from pagewise.host.jobs.job import JobError
from pagewise.host.jobs.yardstick import Refused, Yardstick
from pagewise.host.slot import EngineDied
from pagewise.jobs.bench import BenchTest
from pagewise.jobs.compare import MeasureQuality
from pagewise.jobs.compare import Quality as TextQuality
from pagewise.jobs.tune import Aim
from pagewise.models.gguf import printable
from pagewise.settings import Profile
from pagewise.tuner.candidate import Candidate, best_of
from pagewise.tuner.comparison import Quality
from pagewise.tuner.divergence import TEXT, Divergences, Measured, Part, Subject, parts, text_key
from pagewise.unnamed import UnnamedFile

_CHUNK = 512
_MOST_CHUNKS = 4
_PASS_S = 20.0
"""One pass over the text is to take no longer, as far as whole chunks allow."""
_RATE_TOKENS = 64


class QualityMeter:
    """Use as a context manager: predictions of references lie on the disk as long as it is open."""

    def __init__(self, yardstick: Yardstick, aim: Aim, candidates: tuple[Candidate, ...], n_ctx_train: int) -> None:
        """``candidates``: the files that may be taken; the one of most bits is what the others are compared with."""
        self._yardstick, self._aim = yardstick, aim
        self._files = {each.source: each for each in candidates}
        self._best = best_of(candidates)
        self._levels = {each.file: each.level for each in candidates}
        self._path = Path(aim.text).expanduser() if aim.text else TEXT
        self._n_ctx = min(_CHUNK, n_ctx_train) if n_ctx_train > 0 else _CHUNK
        self._kept: Divergences | None = None
        self._chunks = 0
        self._predictions: dict[Subject, UnnamedFile] = {}
        self._failed: dict[tuple[Subject, Profile], Failure] = {}
        """What could not be measured, as it was loaded for that: loaded otherwise it may be."""
        self._stack = ExitStack()

    def __enter__(self) -> QualityMeter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    async def check(self) -> None:
        """Raises JobError where the text cannot be read."""
        await self._divergences()

    async def of(self, profile: Profile) -> Quality | None:
        """None where it costs nothing, and where the person has set no store by it."""
        own = self._files.get((profile.model, profile.quant))
        if own is None:
            return None
        wanted = parts(profile, own.file, self._best.file)
        if not self._aim.tries_kv_types:
            wanted = tuple(part for part in wanted if part.reference.file != part.subject.file)
        if not wanted:
            return None
        measured = []
        for part in wanted:
            found = await self._of_part(part, profile)
            if isinstance(found, Failure):
                return self._unmeasured(found)
            measured.append(found)
        return self._judged(measured)

    def _judged(self, measured: list[Measured]) -> Quality:
        kl = sum(each.kl for each in measured)
        words = "KL divergence " + " and ".join(self._words(each) for each in measured)
        # Files that were named are wanted, whatever they cost; only KV types have a limit by themselves.
        counted = kl if self._aim.max_kl is not None else sum(each.kl for each in measured if _is_of_kv(each))
        limit = self._aim.kv_limit
        if counted <= limit:
            return Quality(kl, words)
        asked = f"--max-kl {limit:g} is" if self._aim.max_kl is not None else f"without --max-kl {limit:g} is"
        failure = Failure(
            "It would cost too much quality",
            f"{words}; {asked} the highest that may be.",
            "Allow more with --max-kl, or leave it out.",
        )
        return Quality(kl, words, failure)

    def _words(self, measured: Measured) -> str:
        if _is_of_kv(measured):
            source = "a KV cache in f16"
        else:
            source = self._levels.get(measured.reference.file, "the reference")
        where = (
            f"{measured.scored:,} tokens of {printable(self._path.name) if self._aim.text else 'the text that ships'}"
        )
        return f"{_nats(measured.kl)} ± {_nats(measured.error)} from {source} (measured on {where})"

    def _unmeasured(self, failure: Failure) -> Quality:
        words = f"what it costs in quality could not be measured: {failure.what}. {failure.why}"
        if self._aim.max_kl is None and not self._aim.kv_types:
            return Quality(None, words)
        refused = Failure(
            "What it costs in quality could not be measured", f"{failure.what}. {failure.why}", failure.next
        )
        return Quality(None, words, refused)

    async def _of_part(self, part: Part, profile: Profile) -> Measured | Failure:
        kept = await self._divergences()
        known = kept.known(part.reference, part.subject, self._chunks)
        if known is not None:
            return known
        reference = self._shaped(part.reference, _anywhere(profile))
        subject = self._shaped(part.subject, msgspec.structs.replace(profile, repack="off"))
        for each in ((part.reference, reference), (part.subject, subject)):
            if each in self._failed:
                return self._failed[each]
        try:
            logits = await self._reference(part.reference, reference)
            quality = await self._measured(part.subject, subject, str(logits.path), is_reference=False)
        except (JobError, EngineDied) as error:
            if isinstance(error, JobError) and error.cancelled:
                raise
            return error.failure
        if quality.divergence is None:
            failure = Failure("The two cannot be compared", quality.why_no_divergence, "Take files of one model.")
            self._failed[part.subject, subject] = failure
            return failure
        found = quality.divergence
        return kept.keep(part.reference, part.subject, found.kl, found.kl_error, quality.scored, self._chunks)

    async def _divergences(self) -> Divergences:
        if self._kept is None:
            try:
                content = await asyncio.to_thread(self._path.read_bytes)
            except OSError as error:
                raise JobError(
                    f"The text {printable(self._path.name)} cannot be read",
                    f"The system says: {error.strerror or error}.",
                    "Check --text; any plain text of some thousand words will do.",
                ) from error
            self._kept = Divergences(text_key(content, self._n_ctx))
        return self._kept

    async def _reference(self, subject: Subject, shaped: Profile) -> UnnamedFile:
        known = self._predictions.get(subject)
        if known is None:
            file = self._stack.enter_context(await asyncio.to_thread(predictions))
            await self._measured(subject, shaped, str(file.path), is_reference=True)
            known = self._predictions[subject] = file
        return known

    def _shaped(self, subject: Subject, profile: Profile) -> Profile:
        """As it is loaded to be measured."""
        file = next(each for each in self._files.values() if each.file == subject.file)
        return msgspec.structs.replace(
            profile,
            model=file.model,
            quant=file.quant,
            cache_type_k=subject.cache_type_k,
            cache_type_v=subject.cache_type_v,
            n_ctx=max(2 * _RATE_TOKENS, min(profile.n_ctx or self._n_ctx, self._n_ctx)),
        )

    async def _measured(self, subject: Subject, shaped: Profile, logits: str, *, is_reference: bool) -> TextQuality:
        try:
            if not self._chunks:
                await self._yardstick.load(shaped)
                rate = (await self._yardstick.measure(BenchTest("prefill", _RATE_TOKENS))).prefill_rate or 0.0
                self._chunks = max(1, min(_MOST_CHUNKS, int(_PASS_S * rate / self._n_ctx)))
            wanted = MeasureQuality(0, str(self._path), self._n_ctx, self._chunks, logits, is_reference)
            return await self._yardstick.quality(shaped, wanted)
        except (Refused, EngineDied) as error:
            self._failed[subject, shaped] = error.failure
            raise


def _anywhere(profile: Profile) -> Profile:
    """Wherever it fits: a reference is not to fail of where a candidate wants its weights."""
    usual = Profile(name="")
    places = {key: getattr(usual, key) for key in ("split_mode", "main_gpu", "tensor_split", "tensor_overrides")}
    return msgspec.structs.replace(
        profile,
        n_gpu_layers="fit",
        load_mode="auto",
        repack="off",
        placement="auto",
        flash_attention="auto",
        **places,
    )


def _is_of_kv(measured: Measured) -> bool:
    """Whether it is what KV types cost, not another file."""
    return measured.reference.file == measured.subject.file


def _nats(value: float) -> str:
    return f"{value:.4f}" if value >= 0.001 else f"{value:.6f}"

"""The files that a tune may take: quant levels of one model, found beside it or in the catalog, or named."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Sequence
from contextlib import aclosing
from pathlib import Path

import msgspec

from pagewise.guide.files import SHIPPED_QUANT, GuideError, check_quant, guide_path
from pagewise.host.jobs.child import messages_of
from pagewise.host.jobs.job import Job, JobError
from pagewise.jobs.catalog import Catalog
from pagewise.jobs.tune import QuantWish
from pagewise.models.gguf import GgufError, GgufHeader, printable, read_header
from pagewise.models.level_files import LevelMissing, level_file, level_of
from pagewise.models.level_names import LevelError, level_named
from pagewise.models.split import read_parts
from pagewise.models.telling import Step
from pagewise.profiles.learned import model_key
from pagewise.settings import Profile
from pagewise.tuner.candidate import Candidate
from pagewise.verdict.smaller_quant import BITS_PER_WEIGHT

GUIDE = "guide"
_OTHER_BITS = 4.5
_SAMPLES, _SAMPLE_BYTES = 16, 256 * 1024
"""Of the weights, spread over all parts of a file: two fine-tunes of one model differ nearly everywhere."""
_decoder: msgspec.msgpack.Decoder[Step | Catalog] = msgspec.msgpack.Decoder(Step | Catalog)


async def candidates(profile: Profile, wishes: tuple[QuantWish, ...], job: Job) -> tuple[Candidate, ...]:
    """The profile's own file first, then what is wished for, each file once. Raises JobError."""
    own = await asyncio.to_thread(_own, profile)
    if own is None:
        if wishes:
            raise JobError(
                f"{printable(profile.model)} cannot be read", "It is no GGUF file.", "Check the profile's model."
            )
        return ()
    found = [own]
    catalog: Catalog | None = None
    for wish in wishes:
        if wish.model:
            named = Profile(name="", model=wish.model, quant=wish.quant)
            candidate = await asyncio.to_thread(_other, named, profile)
        elif profile.model == GUIDE:
            candidate = _of_guide(wish.quant)
        else:
            level = level_named(wish.quant or "")
            path = await asyncio.to_thread(_beside, profile, level)
            if path is None:
                catalog = catalog or await _scan(job)
                path = _in_catalog(catalog, profile, level)
            candidate = await asyncio.to_thread(_found, path)
        if all(candidate.file != each.file for each in found):
            found.append(candidate)
    return tuple(found)


def _own(profile: Profile) -> Candidate | None:
    """None where the file cannot be used: the load says what is wrong with it."""
    try:
        found = _of_guide(profile.quant) if profile.model == GUIDE else _at(profile)
        # Under the profile's own words, whatever else would name it.
        return msgspec.structs.replace(found, model=profile.model, quant=profile.quant)
    except (GgufError, GuideError, LevelMissing, LevelError):
        return None


def _at(profile: Profile) -> Candidate:
    path = Path(profile.model).expanduser()
    found = path if profile.quant is None else level_file(path, profile.quant)
    return _described(profile.model, profile.quant, found)


def _other(wanted: Profile, profile: Profile) -> Candidate:
    """A file that was named: it has to be the same model."""
    path = Path(wanted.model).expanduser()
    try:
        path = path if wanted.quant is None else level_file(path, wanted.quant)
        same = _shape(path) == _shape(guide_path() if profile.model == GUIDE else Path(profile.model).expanduser())
        found = _described(str(path), None, path)
    except GgufError as error:
        raise JobError(error.what, error.why, error.next) from error
    if not same:
        raise JobError(
            f"{printable(path.name)} is another model",
            "Only quants of one model are compared: their layers, their width and their architecture are the same.",
            "`pagewise bench` and `pagewise compare` put different models side by side.",
        )
    return found


def _shape(path: Path) -> tuple[object, ...]:
    header = read_header(path)
    return header.architecture, header.number("block_count"), header.number("embedding_length")


def _beside(profile: Profile, level: str) -> Path | None:
    try:
        return level_file(Path(profile.model).expanduser(), level)
    except LevelMissing:
        return None
    except GgufError as error:
        raise JobError(error.what, error.why, error.next) from error


async def _scan(job: Job) -> Catalog:
    job.progress("looking for the quants", 0, 0)
    async with aclosing(messages_of("pagewise.models.catalog", (), _decoder)) as told:
        async for message in told:
            if isinstance(message, Catalog):
                return message
    raise JobError("The catalog of models came to nothing", "Its process ended early.", "Name the files themselves.")


def _in_catalog(catalog: Catalog, profile: Profile, level: str) -> Path:
    """Of the model that the profile's file is one level of."""
    own = Path(profile.model).expanduser().resolve()
    for model in catalog.models:
        paths = {Path(path).resolve() for each in model.levels for path in (each.path, *(c.path for c in each.copies))}
        if own not in paths:
            continue
        found = next((each for each in model.levels if each.quant == level), None)
        if found is not None:
            return Path(found.path)
        there = ", ".join(each.quant for each in model.levels)
        raise _missing(profile, level, f"Of this model there are {there}.")
    raise _missing(profile, level, "It is neither beside the file nor among the models on this machine.")


def _found(path: Path) -> Candidate:
    try:
        return _described(str(path), None, path)
    except GgufError as error:
        raise JobError(error.what, error.why, error.next) from error


def _missing(profile: Profile, level: str, why: str) -> JobError:
    return JobError(
        f"{printable(Path(profile.model).name)} is not there as {level}",
        why,
        f"Make it with `pagewise quantize {printable(profile.model)} {level}`, or leave it out of --quants.",
    )


def _of_guide(quant: str | None) -> Candidate:
    """Its levels are made on first use, so that their size is not known before."""
    path = guide_path()
    whole = _described(GUIDE, None, path)
    level = SHIPPED_QUANT if quant is None else check_quant(quant)
    if level == SHIPPED_QUANT:
        return whole
    bits = BITS_PER_WEIGHT.get(level, _OTHER_BITS)
    size = int(whole.bytes * bits / whole.bits_per_weight)
    return Candidate(GUIDE, level, level, f"{whole.file}:{level}", size, bits)


def _described(model: str, quant: str | None, path: Path) -> Candidate:
    headers = read_parts(path)
    tensors = [tensor for header in headers for tensor in header.tensors]
    size = sum(tensor.bytes for tensor in tensors)
    weights = sum(tensor.n_weights for tensor in tensors)
    bits = 8 * size / max(1, weights)
    file = f"{model_key(str(path), size)}:{_digest(headers)}"
    return Candidate(model, quant, level_of(headers[0]), file, size, bits)


def _digest(headers: Sequence[GgufHeader]) -> str:
    """Of metadata, directory and samples of the weights: files of the same name and size may be different models.

    Raises GgufError.
    """
    found = hashlib.sha256()
    total = sum(max(0, header.file_bytes - header.data_start) for header in headers)
    step = max(_SAMPLE_BYTES, total // _SAMPLES)
    for header in headers:
        try:
            with header.path.open("rb") as file:
                found.update(file.read(header.data_start))
                for at in range(header.data_start, header.file_bytes, step):
                    file.seek(at)
                    found.update(file.read(_SAMPLE_BYTES))
        except OSError as error:
            raise GgufError(
                f"{printable(header.path.name)} cannot be read",
                f"The system says: {error.strerror or error}.",
                "Check the file and the disk that it is on.",
            ) from error
    return found.hexdigest()[:24]

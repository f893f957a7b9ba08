"""How files are loaded for what they cost in quality, and what becomes of a failure; at a yardstick that answers."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from pagewise.failure import Failure
from pagewise.host.jobs import tune_quality
from pagewise.host.jobs.job import JobError
from pagewise.host.jobs.tune_quality import QualityMeter
from pagewise.host.jobs.yardstick import Refused
from pagewise.jobs.bench import BenchTest
from pagewise.jobs.compare import Divergence, MeasureQuality
from pagewise.jobs.compare import Quality as TextQuality
from pagewise.jobs.measure import Measured
from pagewise.jobs.tune import Aim
from pagewise.settings import Keep, Profile
from pagewise.tuner.candidate import Candidate
from pagewise.tuner.comparison import Quality

Q8 = Candidate("/m/a-Q8_0.gguf", None, "Q8_0", "a-Q8_0.gguf:8:d", 8, 8.5)
Q4 = Candidate("/m/a-Q4_K_M.gguf", None, "Q4_K_M", "a-Q4_K_M.gguf:4:d", 4, 4.9)
SMALL = Profile(
    name="a",
    model=Q4.model,
    n_gpu_layers="all",
    load_mode="none",
    repack="on",
    placement=Keep("1GiB"),
    tensor_overrides=("ffn=CPU",),
    cache_type_k="q8_0",
    cache_type_v="q8_0",
)


class FakeYardstick:
    """Keeps what was loaded, and refuses what ``refuses`` says."""

    def __init__(self, refuses: Callable[[Profile], bool] = lambda profile: False) -> None:
        self.refuses = refuses
        self.loaded: list[Profile] = []

    async def load(self, profile: Profile) -> None:
        if self.refuses(profile):
            raise Refused(Failure("It does not fit", "There is no room.", "Take a smaller one."))

    async def measure(self, test: BenchTest) -> Measured:
        return Measured(0, prefill_ns=1, n_prompt=test.n_prompt)

    async def quality(self, profile: Profile, wanted: MeasureQuality) -> TextQuality:
        await self.load(profile)
        self.loaded.append(profile)
        divergence = None if wanted.is_reference else Divergence(0.001, 0.0001, 0.01, 0.1, 0.99, 0.0, 1.0, 0.0)
        return TextQuality(512, wanted.chunks, 4000, 1020, 5.0, 0.1, 1.0, divergence)


@pytest.fixture(autouse=True)
def own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("STATE", "CACHE"):
        monkeypatch.setenv(f"XDG_{name}_HOME", str(tmp_path / name.lower()))


def asked(yardstick: FakeYardstick, *profiles: Profile) -> list[Quality | None]:
    meter: Any = yardstick

    async def each() -> list[Quality | None]:
        with QualityMeter(meter, Aim(max_kl=0.1), (Q8, Q4), 4096) as costs:
            return [await costs.of(profile) for profile in profiles]

    return asyncio.run(each())


def test_references_are_loaded_wherever_they_fit_and_nothing_is_repacked() -> None:
    yardstick = FakeYardstick()
    (found,) = asked(yardstick, SMALL)
    assert found is not None and found.refused is None and found.kl == pytest.approx(0.002)
    references = [each for each in yardstick.loaded if (each.model, each.cache_type_k) == (Q8.model, "f16")]
    references += [each for each in yardstick.loaded if (each.model, each.cache_type_k) == (Q4.model, "f16")][-1:]
    assert len(references) == 2
    for each in references:
        assert (each.n_gpu_layers, each.load_mode, each.placement) == ("fit", "auto", "auto")
        assert each.tensor_overrides == ()
    assert {each.repack for each in yardstick.loaded} == {"off"}


def test_what_failed_as_it_was_loaded_then_is_measured_once_it_is_loaded_otherwise() -> None:
    yardstick = FakeYardstick(lambda profile: profile.n_gpu_layers == "all")
    elsewhere = msgspec.structs.replace(SMALL, n_gpu_layers=3)
    refused, again, found = asked(yardstick, SMALL, SMALL, elsewhere)
    assert refused is not None and refused.refused is not None and "There is no room" in refused.refused.why
    assert again == refused
    assert found is not None and found.refused is None


def test_no_place_for_predictions_costs_that_candidate_and_not_the_tune(monkeypatch: pytest.MonkeyPatch) -> None:
    full = True
    made = tune_quality.predictions

    def predictions() -> Any:
        if full:
            raise JobError("The reference's predictions have no place", "The disk is full.", "Make room.")
        return made()

    monkeypatch.setattr(tune_quality, "predictions", predictions)
    (found,) = asked(FakeYardstick(), SMALL)
    assert found is not None and found.refused is not None and "The disk is full" in found.refused.why
    full = False
    (later,) = asked(FakeYardstick(), SMALL)
    assert later is not None and later.refused is None


def test_a_tune_that_is_not_wanted_any_more_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    class Unwanted(JobError):
        cancelled = True

    def predictions() -> Any:
        raise Unwanted("Stopped", "You asked for it.", "")

    monkeypatch.setattr(tune_quality, "predictions", predictions)
    with pytest.raises(Unwanted):
        asked(FakeYardstick(), SMALL)

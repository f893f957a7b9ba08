"""What the yardstick says of profiles that fail, do not fit together, or cannot be told cold; without an engine."""

from __future__ import annotations

import asyncio
from pathlib import Path
from types import TracebackType
from typing import Any

import pytest
from tests.splitting import split
from tests.synthetic import make_model

from pagewise.failure import Failure
from pagewise.host.jobs import bench
from pagewise.host.slot import EngineDied
from pagewise.jobs.bench import Bench, Benched, BenchTest
from pagewise.jobs.measure import Measured
from pagewise.messages import Loaded
from pagewise.settings import Profile

TESTS = (BenchTest("decode", 0, 4), BenchTest("decode", 0, 8))


class FakeJob:
    def __init__(self) -> None:
        self.sent: list[Any] = []

    def progress(self, *_: object) -> None:
        """Nobody listens."""

    def send(self, event: Any) -> None:
        self.sent.append(event)


class FakeYardstick:
    """Dies of the second test on the profile ``frail``."""

    hello = pid = None

    def __init__(self, job: FakeJob) -> None:
        self.profile: Profile | None = None

    async def __aenter__(self) -> FakeYardstick:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Nothing is held."""

    async def load(self, profile: Profile) -> Any:
        self.profile = profile
        model = type("Model", (), {"n_ctx": 512, "path": str(make_model())})()
        return type("Loaded", (), {"model": model, "total_ms": 1.0, "profile": profile})()

    async def measure(self, test: BenchTest) -> Measured:
        assert self.profile is not None
        if self.profile.name == "frail" and test == TESTS[1]:
            self.profile = None
            raise EngineDied(Failure("The engine died", "It was killed.", "Try again."))
        return Measured(0, decode_ns=1000, ttft_ns=1, n_output=test.n_output)


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> None:
    def described(loaded: Loaded, cold: float | None) -> Any:
        return loaded.profile

    monkeypatch.setattr(bench, "Yardstick", FakeYardstick)
    monkeypatch.setattr(bench, "_described", described)


def benched(*profiles: Profile, cold: bool = False) -> Benched:
    job: Any = FakeJob()
    asyncio.run(bench.run(Bench(1, profiles, TESTS, 1, cold), job))
    return job.sent[-1]  # type: ignore[no-any-return]


def profile(name: str, path: Path | None = None, quant: str | None = None) -> Profile:
    return Profile(name=name, model=str(path or make_model()), quant=quant, n_gpu_layers=0)


def test_the_profile_that_died_is_the_one_that_is_blamed(fake: None) -> None:
    (note,) = benched(profile("sound"), profile("frail")).notes
    assert note.startswith("frail could not be measured to its end")


def test_where_nobody_can_tell_what_is_in_ram_no_start_is_called_cold(
    fake: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bench, "choose", lambda path, pid: (None, ()))
    (note,) = benched(profile("mine"), cold=True).notes
    assert "no cold start" in note and "does not tell" in note


def test_all_parts_of_a_split_file_and_the_quant_that_is_meant_count(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = split(make_model(), tmp_path / "parts", 3)
    there = sum(path.stat().st_size for path in tmp_path.iterdir())
    assert bench._file_bytes(profile("mine", first)) == there > first.stat().st_size
    monkeypatch.setattr(bench, "level_file", lambda path, quant: first)
    assert bench._file_bytes(profile("mine", quant="Q4_0")) == there


def test_a_file_that_is_not_there_is_no_lack_of_memory(tmp_path: Path) -> None:
    why = bench._why_apart((profile("mine"), profile("gone", tmp_path / "gone.gguf")))
    assert "gone.gguf" in why and "memory" not in why
    assert bench._why_apart((profile("mine"), profile("other"))) == ""

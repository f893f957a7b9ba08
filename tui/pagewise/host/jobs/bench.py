"""Measures profiles one beside the other, and watches the machine while it does."""

from __future__ import annotations

import asyncio
import time
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import psutil  # type: ignore[import-untyped]  # it ships no types

from pagewise.bench.anchor import Anchor
from pagewise.bench.formats import title
from pagewise.guide.files import GuideError, guide_path
from pagewise.host.jobs.job import Job, JobError
from pagewise.host.jobs.yardstick import Yardstick, drop_from_cache
from pagewise.host.slot import EngineDied
from pagewise.instruments.devices import DevicesInstrument
from pagewise.instruments.other_load import OtherLoad
from pagewise.instruments.pagecache import PAGE, choose
from pagewise.instruments.processor import processor_name
from pagewise.jobs.bench import Bench, Benched, BenchModel, BenchRow, BenchTest
from pagewise.jobs.measure import Measured
from pagewise.messages import EngineHello, Loaded
from pagewise.models.gguf import GgufError, read_header
from pagewise.models.level_files import LevelMissing, level_file
from pagewise.models.level_names import LevelError
from pagewise.models.split import part_paths, read_parts
from pagewise.settings import Profile

_ANCHOR_TOKENS = 8
_ANCHOR_TIMES = 3
_MOST_WAITS = 3
_WAIT_S = 5.0
_WAIT_ANCHORS = 50
"""A machine is given so many times as long as the anchor takes to come back, and no more than that."""
_BUSY_CORES = 0.25
"""Other programs that keep more than this busy are named."""
_STILL_CACHED = 0.05
"""A start with more of the file than this in RAM is not a cold one."""


async def run(command: Bench, job: Job) -> None:
    """Measure all tests on all profiles. A profile that fails ends the job with its reason, or where others have been
    measured already, becomes a note beside them."""
    bench = _Bench(command, job)
    await bench.run()
    job.send(bench.answer())


class _Bench:
    def __init__(self, command: Bench, job: Job) -> None:
        self._command = command
        self._job = job
        self._models: list[BenchModel] = []
        self._rows: list[BenchRow] = []
        self._notes: list[str] = []
        self._hello: EngineHello | None = None
        self._together = False
        self._at = ""
        """The profile in hand, by name."""
        self._done = 0
        self._total = len(command.profiles) * len(command.tests) * command.repetitions

    async def run(self) -> None:
        """Profiles that fit into memory together are measured in turns, the others one after the other."""
        profiles = self._command.profiles
        apart = await asyncio.to_thread(_why_apart, profiles) if len(profiles) > 1 else ""
        self._together = len(profiles) > 1 and not apart
        if apart:
            self._notes.append(
                f"The profiles were measured one after the other, because {apart}: a machine that changes its speed in "
                "between changes their ratio."
            )
        groups = [profiles] if self._together else [(profile,) for profile in profiles]
        for group in groups:
            first = len(self._models)
            try:
                await self._group(group)
            except (JobError, EngineDied) as error:
                if not self._rows or (isinstance(error, JobError) and error.cancelled):
                    raise
                if not any(row.model == first for row in self._rows):
                    del self._models[first:]
                what = f"{error.failure.what}. {error.failure.why}"
                self._notes.append(f"{self._at} could not be measured to its end: {what} {error.failure.next}")
        # In the order that was asked for: all tests of a profile together.
        self._rows.sort(key=lambda row: (row.model, self._command.tests.index(row.test)))

    async def _group(self, group: tuple[Profile, ...]) -> None:
        # Before another engine holds the same file: what is mapped stays in RAM.
        colds = [await self._cold(profile) if self._command.cold else None for profile in group]
        async with AsyncExitStack() as stack:
            yardsticks = [await stack.enter_async_context(Yardstick(self._job)) for _ in group]
            first = len(self._models)
            for profile, yardstick, cold in zip(group, yardsticks, colds, strict=True):
                self._models.append(await self._loaded(profile, yardstick, cold))
            await self._measure(first, yardsticks)

    async def _loaded(self, profile: Profile, yardstick: Yardstick, cold: float | None) -> BenchModel:
        self._at = profile.name
        loaded = await yardstick.load(profile)
        assert loaded is not None
        self._hello = yardstick.hello
        longest = max(self._command.tests, key=_tokens)
        if _tokens(longest) > loaded.model.n_ctx:
            raise JobError(
                f"{title(longest)} does not fit into the context of {profile.name}",
                f"It takes {_tokens(longest):,} tokens; this model has room for {loaded.model.n_ctx:,}.",
                "Measure fewer tokens (-p, -n, -d), or a model that was trained for more.",
            )
        return await asyncio.to_thread(_described, loaded, cold)

    def answer(self) -> Benched:
        """What was measured."""
        return Benched(
            self._command.id,
            tuple(self._models),
            tuple(self._rows),
            self._hello.llama_cpp if self._hello else "",
            processor_name(),
            self._hello.devices if self._hello else (),
            tuple(self._notes),
            self._together,
        )

    async def _cold(self, profile: Profile) -> float | None:
        """ms from the begin of a load from disk to the first token; None, and a note, where RAM keeps the file, or
        nobody can tell.
        """
        self._at = profile.name
        self._job.progress(f"{profile.name}, cold", 0, 1)
        async with Yardstick(self._job) as yardstick:
            loaded = await yardstick.load(profile)
        assert loaded is not None
        parts = part_paths(read_header(Path(loaded.model.path)))
        for part in parts:
            await asyncio.to_thread(drop_from_cache, part)
        kept = await asyncio.to_thread(_share_in_ram, parts)
        if kept is None:
            self._notes.append(
                f"{profile.name}: no cold start, because this machine does not tell whether its file is in RAM."
            )
            return None
        if kept > _STILL_CACHED:
            self._notes.append(
                f"{profile.name}: no cold start, because {kept:.0%} of its file cannot be dropped from RAM: another "
                "program has it mapped, or the file system keeps it. End that program and measure again."
            )
            return None
        async with Yardstick(self._job) as yardstick:
            loaded = await yardstick.load(profile)
            assert loaded is not None
            first = await yardstick.measure(BenchTest("chat", 16, 1))
        assert first.ttft_ms is not None
        return loaded.total_ms + first.ttft_ms

    async def _measure(self, first: int, yardsticks: list[Yardstick]) -> None:
        """All tests; each repetition goes round the yardsticks, whose models are those from ``first`` on."""
        anchor = Anchor(await self._anchored(yardsticks[0]))
        for test in self._command.tests:
            for yardstick in yardsticks:
                await self._sample(yardstick, test)
            load = OtherLoad([each.pid for each in yardsticks if each.pid is not None])
            discarded, drift = 0, 0.0
            for attempt in range(_MOST_WAITS + 1):
                samples: list[list[Measured]] = [[] for _ in yardsticks]
                began_at = time.time()
                for repetition in range(self._command.repetitions):
                    for yardstick, kept in zip(yardsticks, samples, strict=True):
                        name = yardstick.profile.name if yardstick.profile is not None else ""
                        done = self._done + repetition * len(samples)
                        self._job.progress(f"{name}: {title(test)}", done, self._total)
                        kept.append(await self._sample(yardstick, test))
                drift = anchor.drift(await self._anchored(yardsticks[0]))
                if anchor.holds(drift) or attempt == _MOST_WAITS:
                    break
                discarded += self._command.repetitions
                self._job.progress(f"the machine has drifted by {drift:+.0%}: waiting", self._done, self._total)
                await asyncio.sleep(min(_WAIT_S, _WAIT_ANCHORS * anchor.normal / 1e9))
            self._done += self._command.repetitions * len(yardsticks)
            cores = load.cores()
            for place, kept in enumerate(samples):
                self._rows.append(BenchRow(first + place, test, tuple(kept), drift, cores, discarded, began_at))
            self._judge(test, drift, cores, holds=anchor.holds(drift))

    async def _anchored(self, yardstick: Yardstick) -> list[float]:
        test = BenchTest("decode", 0, _ANCHOR_TOKENS)
        return [float((await self._sample(yardstick, test)).decode_ns or 0) for _ in range(_ANCHOR_TIMES)]

    async def _sample(self, yardstick: Yardstick, test: BenchTest) -> Measured:
        """An engine that dies of it has no profile any more."""
        assert yardstick.profile is not None
        self._at = yardstick.profile.name
        return await yardstick.measure(test)

    def _judge(self, test: BenchTest, drift: float, cores: float | None, *, holds: bool) -> None:
        if not holds:
            off = f"the machine was {drift:+.0%} off and did not come back"
            self._notes.append(f"{title(test)}: {off}; do not trust it.")
        if cores is not None and cores > _BUSY_CORES:
            self._notes.append(f"{title(test)}: other programs kept {cores:.1f} cores busy meanwhile.")


def _why_apart(profiles: tuple[Profile, ...]) -> str:
    """Why they cannot be measured in turns; empty where half of what is free holds all of their files.

    On a device nobody can say before the load.
    """
    if any(profile.n_gpu_layers != 0 for profile in profiles) and DevicesInstrument().sample(None).devices:
        return "they use a device"
    try:
        needed = sum(map(_file_bytes, profiles))
    except (GgufError, GuideError, LevelMissing, LevelError) as error:
        return (
            f"one cannot be measured at all ({error.failure.what if not isinstance(error, GgufError) else error.what})"
        )
    return "" if needed < psutil.virtual_memory().available / 2 else "they do not fit into memory together"


def _file_bytes(profile: Profile) -> int:
    """Of all parts of the file that is loaded. Raises GgufError, GuideError, LevelMissing and LevelError.

    Levels of the guide are made on first use, and are smaller than what ships.
    """
    if profile.model == "guide":
        path = guide_path()
    else:
        path = Path(profile.model).expanduser()
        path = path if profile.quant is None else level_file(path, profile.quant)
    return sum(header.file_bytes for header in read_parts(path))


def _tokens(test: BenchTest) -> int:
    return test.depth + test.n_prompt + test.n_output


def _share_in_ram(parts: tuple[Path, ...]) -> float | None:
    """How much of these files the page cache holds; None where nobody can tell."""
    held = total = 0
    for part in parts:
        size = part.stat().st_size
        way, _ = choose(part, None)
        if way is None:
            return None
        try:
            held += way.pages(0, size).present
        finally:
            way.close()
        total += -(-size // PAGE)
    return held / max(1, total)


def _described(loaded: Loaded, cold_ms: float | None) -> BenchModel:
    model = loaded.model
    own: dict[str, Any] = {
        "profile": loaded.profile,
        "load_ms": loaded.total_ms,
        "cold_first_token_ms": cold_ms,
        "weight_bytes": sum(tensor.bytes for part in read_parts(Path(model.path)) for tensor in part.tensors),
    }
    same = {field: getattr(model, field) for field in BenchModel.__struct_fields__ if field not in own}
    return BenchModel(**own, **same)

"""The tuner's screen: what it shows of a tune that is told to it, and what its keys do."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

import pytest
from textual.pilot import Pilot

from app import scenes, scenes_tune
from app.fake_client import FakeClient
from app.stage import SIZES, make_app, screen_text, staged, text_of, until
from pagewise.app.app import PagewiseApp
from pagewise.app.entries import Remark
from pagewise.app.screens.tune import TuneScreen
from pagewise.app.tune_app import TuneApp
from pagewise.app.tuning.state import Tuning
from pagewise.jobs.tune import FixKey, TakeBest, Tune
from pagewise.messages import Event, Load, Stop

Compare = Callable[..., bool]
NAMED = [pytest.param(size, id=f"{size[0]}x{size[1]}") for size in SIZES]
SMALL = NAMED[0]


class Clock:
    """Stands still until it is set."""

    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture(autouse=True)
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr("pagewise.app.screens.tune.Tuning", partial(Tuning, clock=clock))
    return clock


class Staged:
    """The tuner as a program, whose host says exactly what the scene says."""

    def __init__(self, events: list[Event], clock: Clock, seconds: float = 130.0) -> None:
        self.client = FakeClient(manual=True)
        self.app = TuneApp(self.client, scenes_tune.make, "laptop-gpu · qwen2.5-7b-q4_k_m.gguf", theme="dark")
        self._events, self._clock, self._seconds = events, clock, seconds

    async def play(self, pilot: Pilot[None]) -> None:
        await until(pilot, lambda: any(isinstance(command, Tune) for command in self.client.sent))
        self._clock.now += self._seconds
        self.client.say(*self._events)
        tuning = self.tuning
        await until(pilot, lambda: tuning.over or tuning.now is not None or tuning.last is not None)
        self._clock.now += 12.0
        self.app.screen.repaint()  # type: ignore[attr-defined]
        await pilot.pause()

    @property
    def tuning(self) -> Tuning:
        assert self.app.tuning is not None
        return self.app.tuning


@pytest.mark.parametrize("size", NAMED)
def test_running(snap_compare: Compare, size: tuple[int, int], clock: Clock) -> None:
    stage = Staged(scenes_tune.running(), clock)
    assert snap_compare(stage.app, terminal_size=size, run_before=stage.play)


@pytest.mark.parametrize("size", NAMED)
def test_gained(snap_compare: Compare, size: tuple[int, int], clock: Clock) -> None:
    stage = Staged(scenes_tune.GAINED, clock)
    assert snap_compare(stage.app, terminal_size=size, run_before=stage.play)


def played(*keys: str) -> Callable[[Staged], Callable[[Pilot[None]], Awaitable[None]]]:
    def of(stage: Staged) -> Callable[[Pilot[None]], Awaitable[None]]:
        async def play(pilot: Pilot[None]) -> None:
            await stage.play(pilot)
            await pilot.press(*keys)
            await pilot.pause()

        return play

    return of


@pytest.mark.parametrize(
    ("name", "events", "keys"),
    [
        pytest.param(name, events, keys, id=name)
        for name, events, keys in (
            ("fixed", scenes_tune.running(), ("up", "up", "f")),
            ("plot", scenes_tune.running(), ("p",)),
            ("nothing", scenes_tune.NOTHING, ()),
            ("noisy", scenes_tune.NOISY, ()),
            ("failed", scenes_tune.FAILED, ()),
            ("stopped", scenes_tune.STOPPED, ()),
        )
    ],
)
def test_state(snap_compare: Compare, clock: Clock, name: str, events: list[Event], keys: tuple[str, ...]) -> None:
    stage = Staged(events, clock)
    assert snap_compare(stage.app, terminal_size=(80, 24), run_before=played(*keys)(stage))


# ---- keys -----------------------------------------------------------------------------------------------------------


@asynccontextmanager
async def tuning(events: list[Event], clock: Clock) -> AsyncIterator[tuple[Staged, Pilot[None]]]:
    stage = Staged(events, clock)
    async with stage.app.run_test(size=(80, 24)) as pilot:
        await stage.play(pilot)
        yield stage, pilot


async def test_esc_stops_at_once_and_offers_the_best_so_far(clock: Clock) -> None:
    async with tuning(scenes_tune.running(), clock) as (stage, pilot):
        await pilot.press("escape")
        assert isinstance(stage.client.last(Stop), Stop)
        assert isinstance(stage.app.screen, TuneScreen), "there is something to offer"
        stage.client.say(scenes_tune.STOPPED[-1])
        await until(pilot, lambda: stage.tuning.over)
        shown = screen_text(stage.app)  # type: ignore[arg-type]
        assert "best so far" in shown and "1.48× the start" in shown and "S save as profile" in shown
        await pilot.press("escape")
        await until(pilot, lambda: stage.app._exit)


async def test_with_nothing_to_offer_esc_closes_at_once(clock: Clock) -> None:
    async with tuning([*scenes_tune.told(1), scenes_tune.NEXT], clock) as (stage, pilot):
        await pilot.press("b")
        assert "Nothing better" in text_of(stage.app, "keys")  # type: ignore[arg-type]
        assert not any(isinstance(command, TakeBest) for command in stage.client.sent)
        await pilot.press("ctrl+c")
        await until(pilot, lambda: stage.app._exit)
        assert any(isinstance(command, Stop) for command in stage.client.sent)


async def test_a_second_esc_does_not_wait_for_an_engine_that_does_not_stop(clock: Clock) -> None:
    async with tuning(scenes_tune.running(), clock) as (stage, pilot):
        await pilot.press("escape", "escape")
        await until(pilot, lambda: stage.app._exit)


async def test_the_best_can_be_taken_and_a_key_fixed_in_the_middle_of_a_trial(clock: Clock) -> None:
    async with tuning(scenes_tune.running(), clock) as (stage, pilot):
        await pilot.press("f")
        assert stage.client.last(FixKey).key == "load_mode"  # type: ignore[attr-defined]
        assert "load_mode" in text_of(stage.app, "keys")  # type: ignore[arg-type]
        await pilot.press("home", "f")
        assert "Choose a trial" in text_of(stage.app, "keys")  # type: ignore[arg-type]
        await pilot.press("b", "b")
        assert sum(isinstance(command, TakeBest) for command in stage.client.sent) == 1


async def test_time_runs_on_between_two_trials(clock: Clock) -> None:
    async with tuning(scenes_tune.running(), clock) as (stage, _):
        assert "2 min 22 s · at most about 3 min 10 s left" in text_of(stage.app, "state")  # type: ignore[arg-type]
        clock.now += 60.0
        assert "3 min 22 s · at most about 2 min 10 s left" in text_of(stage.app, "state")  # type: ignore[arg-type]


def saved(folder: Path) -> str:
    (written,) = folder.rglob("laptop-gpu-tuned.toml")
    return written.read_text()


async def test_saving_asks_for_a_name_and_says_where_it_is(
    clock: Clock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    async with tuning(scenes_tune.GAINED, clock) as (stage, pilot):
        await pilot.press("s")
        await until(pilot, lambda: not isinstance(stage.app.screen, TuneScreen))
        await pilot.press("enter")
        await until(pilot, lambda: isinstance(stage.app.screen, TuneScreen))
        assert "laptop-gpu-tuned" in text_of(stage.app, "about")  # type: ignore[arg-type]
    text = saved(tmp_path)
    assert "threads = 8" in text and "n_gpu_layers = 22" in text and "probe_every" not in text


# ---- from a conversation --------------------------------------------------------------------------------------------


@asynccontextmanager
async def conversation() -> AsyncIterator[tuple[PagewiseApp, FakeClient, Pilot[None]]]:
    client = FakeClient()
    app = make_app(client, scenes_tune.START)
    async with staged(app) as pilot:
        yield app, client, pilot


async def tuned(app: PagewiseApp, client: FakeClient, pilot: Pilot[None], events: list[Event]) -> TuneScreen:
    await pilot.press("f6")
    await until(pilot, lambda: any(isinstance(command, Tune) for command in client.sent))
    wanted = client.last(Tune)
    assert isinstance(wanted, Tune) and wanted.in_place
    client.say(*(scenes_tune.of(wanted.id, event) for event in events))
    screen = app.screen
    assert isinstance(screen, TuneScreen) and screen.tuning is not None
    made = screen.tuning
    await until(pilot, lambda: made.over or made.now is not None)
    return screen


def remarks(app: PagewiseApp) -> list[str]:
    return [entry.text for entry in app.session.entries if isinstance(entry, Remark)]


async def test_what_was_found_is_used_with_enter_and_told_in_the_conversation() -> None:
    async with conversation() as (app, client, pilot):
        await tuned(app, client, pilot, scenes_tune.GAINED)
        await pilot.press("enter")
        await until(pilot, lambda: sum(isinstance(command, Load) for command in client.sent) == 2)
        load = client.last(Load)
        assert isinstance(load, Load) and load.profile.threads == 8 and load.profile.n_gpu_layers == 22
        (told, *_) = [text for text in remarks(app) if text.startswith("Tuned")]
        assert "1.46× the start (1.44 to 1.48)" in told and told.endswith("in force, not saved.")


async def test_a_tune_that_finds_nothing_says_so_in_a_line_and_changes_nothing() -> None:
    async with conversation() as (app, client, pilot):
        await tuned(app, client, pilot, scenes_tune.NOISY)
        assert "use it" not in text_of(app, "keys")
        await pilot.press("enter", "escape")
        await until(pilot, lambda: not isinstance(app.screen, TuneScreen))
        assert remarks(app)[-1] == "Tune: nothing better was found in 1 trial; everything is as it was."
        assert sum(isinstance(command, Load) for command in client.sent) == 1


async def test_what_was_found_may_be_left_alone() -> None:
    async with conversation() as (app, client, pilot):
        await tuned(app, client, pilot, scenes_tune.GAINED)
        await pilot.press("escape")
        await until(pilot, lambda: bool(remarks(app)))
        assert remarks(app)[-1].endswith("not taken.")
        assert sum(isinstance(command, Load) for command in client.sent) == 1


async def test_an_engine_that_is_wanted_meanwhile_is_told() -> None:
    async with conversation() as (app, client, pilot):
        await tuned(app, client, pilot, scenes_tune.STOPPED)
        assert "gave way" in text_of(app, "about") and "best so far" in text_of(app, "about")


async def test_without_a_model_f6_says_what_to_do() -> None:
    client = FakeClient(manual=True)
    app = make_app(client, scenes.LAPTOP)
    async with staged(app) as pilot:
        await until(pilot, lambda: any(isinstance(command, Load) for command in client.sent))
        await pilot.press("f6")
        assert "load is under way" in text_of(app, "keys")
        app.session.load = None
        await pilot.press("f6")
        assert "F2 chooses a profile" in text_of(app, "keys")
        assert not any(isinstance(command, Tune) for command in client.sent)

"""The search on tables whose best is known."""

from __future__ import annotations

import asyncio
import math
import random
from typing import Any

import msgspec
import pytest
from tests.tuner.table import Cell, Grid, TableMeter

from pagewise.failure import Failure
from pagewise.jobs.tune import Aim, Trial
from pagewise.settings import Profile
from pagewise.tuner.comparison import Quality, TrialFailed
from pagewise.tuner.facts import Facts
from pagewise.tuner.move import Move
from pagewise.tuner.search import Cannot, Found, Search, Wishes

AIM = Aim("chat", n_prompt=1024, n_output=32, depth=1024)
START = Profile(name="start", threads=8, threads_batch=8, n_ubatch=512, flash_attention="on")


def facts(**changes: Any) -> Facts:
    known: dict[str, Any] = {
        "physical_cores": 8,
        "logical_cores": 16,
        "devices": (),
        "n_layer": 16,
        "is_mixture": False,
        "bytes_per_token": 10**9,
        "kv_bytes_at_depth": 10**8,
        "repackable_bytes": 0,
        "model_bytes": 10**9,
        "available_bytes": 10**10,
        "ram_peaks": {},
    }
    return Facts(**{**known, **changes})


def grid(tpot: Any, ttft: Any, noise: float = 0.01, seed: int = 1) -> Grid:
    """Samples scatter by ``noise`` around what the two functions of the keys give; None cannot run.

    There are so many of each that their means do not differ where the functions do not.
    """
    source = random.Random(seed)
    cells = []
    for threads in (1, 2, 4, 6, 8, 16):
        for batch in (4, 8, 16):
            for ubatch in (256, 512, 1024):
                for flash in ("on", "off"):
                    keys = {
                        "threads": threads,
                        "threads_batch": batch,
                        "n_ubatch": ubatch,
                        "flash_attention": flash,
                        "load_mode": "auto",
                    }
                    time, first = tpot(keys), ttft(keys)
                    samples = (
                        ()
                        if time is None
                        else tuple((first * source.gauss(1, noise), time * source.gauss(1, noise)) for _ in range(400))
                    )
                    cells.append(Cell(keys, samples, 400.0))
    return Grid("a table", "none", 1024, 32, 1024, 8, 16, 10**9, 10**8, 10**9, True, {}, tuple(cells))


def search(
    table: Grid,
    seed: int = 0,
    wishes: Wishes | None = None,
    most: int = 15,
    told: list[Trial] | None = None,
    **more: Any,
) -> tuple[Found, TableMeter]:
    meter = TableMeter(table, seed)
    kept: list[Trial] = [] if told is None else told
    found = asyncio.run(
        Search(
            meter,
            START,
            more.pop("aim", AIM),
            more.pop("facts", facts()),
            wishes or Wishes(),
            lambda trial, best, left: kept.append(trial),
            most_trials=most,
            only=lambda move: meter.holds(move, START),
            **more,
        ).run()
    )
    return found, meter


def bandwidth_bound(keys: dict[str, Any]) -> float:
    """Fastest at 4 threads, and without flash attention."""
    wait = {1: 160.0, 2: 90.0, 4: 60.0, 6: 63.0, 8: 80.0, 16: 140.0}[keys["threads"]]
    return wait * (0.9 if keys["flash_attention"] == "off" else 1.0)


def prefill(keys: dict[str, Any]) -> float:
    return 4000.0 / keys["threads_batch"] * (1.0 if keys["n_ubatch"] == 512 else 1.05)


@pytest.mark.parametrize("seed", range(10))
def test_finds_the_best_of_a_table_within_three_per_cent(seed: int) -> None:
    found, _ = search(grid(bandwidth_bound, prefill, seed=seed), seed)
    keys = {"threads": found.best.profile.threads, "flash_attention": found.best.profile.flash_attention}
    assert bandwidth_bound(keys) <= 1.03 * 54.0
    assert len([trial for trial in found.trials if trial.outcome != "start"]) <= 15
    assert found.gain.low > 1.0


def test_a_table_without_differences_keeps_the_start() -> None:
    kept = 0
    for seed in range(20):
        found, _ = search(grid(lambda keys: 60.0, lambda keys: 500.0, noise=0.03, seed=seed), seed)
        kept += found.best.number == 0
    assert kept >= 17


def test_noise_larger_than_the_gain_is_said_instead_of_guessed() -> None:
    said = 0
    for seed in range(10):
        slightly = lambda keys: 60.0 - (keys["threads"] == 4)  # noqa: E731
        found, _ = search(grid(slightly, lambda keys: 500.0, noise=0.3, seed=seed), seed)
        said += found.best.number == 0
    assert said >= 8


def test_a_configuration_that_dies_is_one_lost_trial() -> None:
    def dies(keys: dict[str, Any]) -> float | None:
        return None if keys["flash_attention"] == "off" else bandwidth_bound(keys)

    found, _ = search(grid(dies, prefill))
    assert [trial.outcome for trial in found.trials].count("failed") >= 1
    assert found.best.profile.threads == 4
    assert found.best.profile.flash_attention == "on"


def test_what_the_person_fixes_stays() -> None:
    found, _ = search(grid(bandwidth_bound, prefill), wishes=Wishes(["threads"]))
    assert {trial.profile.threads for trial in found.trials} == {8}
    assert found.best.profile.flash_attention == "off"


def test_a_chat_may_not_pay_for_its_rate_with_a_late_first_token() -> None:
    def late(keys: dict[str, Any]) -> float:
        return 500.0 if keys["flash_attention"] == "on" else 900.0

    found, _ = search(grid(bandwidth_bound, late))
    assert found.best.profile.flash_attention == "on"


def test_long_prompts_look_at_the_first_token_alone() -> None:
    aim = Aim("long-prompts", n_prompt=1024, n_output=32, depth=0)
    found, _ = search(grid(bandwidth_bound, prefill), aim=aim)
    assert found.best.profile.threads_batch == 16
    assert found.best.profile.threads == 8


def test_enough_ends_it_with_the_best_so_far() -> None:
    wishes = Wishes()
    told: list[Trial] = []

    class Watching(list[Trial]):
        def append(self, trial: Trial) -> None:
            told.append(trial)
            wishes.enough = len(told) > 2

    found, _ = search(grid(bandwidth_bound, prefill), wishes=wishes, told=Watching())
    assert len(found.trials) == 3


def test_a_start_that_cannot_run_ends_it_with_its_reason() -> None:
    with pytest.raises(Cannot, match="could not run"):
        search(grid(lambda keys: None, prefill))


def test_ruled_out_profiles_are_never_measured() -> None:
    table = grid(bandwidth_bound, prefill)

    class Planned(TableMeter):
        async def ruled_out(self, profile: Profile, aim: Aim) -> Failure | None:
            return Failure("No", "It does not fit.", "Take less.") if profile.flash_attention == "off" else None

        async def measure(self, profile: Profile, aim: Aim, thorough: bool) -> Any:
            assert profile.flash_attention == "on"
            return await super().measure(profile, aim, thorough)

    meter = Planned(table, 0)
    run = Search(meter, START, AIM, facts(), Wishes(), lambda *_: None, only=lambda move: meter.holds(move, START))
    found = asyncio.run(run.run())
    assert "ruled out" in {trial.outcome for trial in found.trials}
    assert found.best.profile.threads == 4


def test_what_an_earlier_tune_found_is_tried_first_and_what_lost_is_not_tried_again() -> None:
    table = grid(bandwidth_bound, prefill)
    first = Move((("threads", 4), ("flash_attention", "off")), "earlier", 2.0, cheap=True)
    found, _ = search(table, first=[first])
    assert found.trials[1].changes == ("threads: 8 → 4", "flash_attention: on → off")
    assert found.trials[1].outcome == "better"


def test_what_was_left_for_something_better_is_not_tried_again() -> None:
    """Threads for prefill that are left open follow those for decode: back to the start then looks like a new one."""
    told: list[Trial] = []
    search(grid(bandwidth_bound, prefill), told=told)
    taken = [trial for trial in told if trial.outcome == "better"]
    assert taken
    for trial in taken:
        back = {tuple(reversed(change.partition(": ")[2].split(" → "))) for change in trial.changes}
        later = [change for after in told[trial.number + 1 :] for change in after.changes]
        for old, new in back:
            assert not any(change.endswith(f"{old} → {new}") for change in later)


def test_a_peak_counts_for_its_own_number_of_threads() -> None:
    known = facts(ram_peaks={1: 10e9, 2: 20e9}, bytes_per_token=10**9, kv_bytes_at_depth=0)
    assert known.ram_share(100.0, 1) == pytest.approx(1.0)
    assert known.ram_share(100.0, 2) == pytest.approx(0.5)
    assert known.ram_share(100.0, 4) is None


def run(meter: TableMeter, told: list[Trial] | None = None, **more: Any) -> Found:
    kept: list[Trial] = [] if told is None else told
    only = more.pop("only", lambda move: meter.holds(move, START))
    known = more.pop("known", facts())
    tell = lambda trial, best, left: kept.append(trial)  # noqa: E731
    return asyncio.run(Search(meter, START, AIM, known, Wishes(), tell, only=only, **more).run())


def test_what_costs_too_much_quality_is_ruled_out_with_its_reason_and_never_measured() -> None:
    table = grid(bandwidth_bound, prefill)

    class Judging(TableMeter):
        async def quality(self, profile: Profile, aim: Aim) -> Quality | None:
            if profile.flash_attention == "on":
                return None
            return Quality(0.5, "KL divergence 0.5", Failure("Too much", "0.5; 0.01 is the highest.", "Allow more."))

        async def measure(self, profile: Profile, aim: Aim, thorough: bool) -> Any:
            assert profile.flash_attention == "on"
            return await super().measure(profile, aim, thorough)

    found = run(Judging(table, 0))
    (refused,) = [trial for trial in found.trials if trial.outcome == "ruled out"]
    assert refused.kl == 0.5 and refused.failure is not None and "highest" in refused.failure.why
    assert found.best.profile.flash_attention == "on"


def test_what_is_known_of_another_file_counts_once_it_is_taken() -> None:
    table = grid(bandwidth_bound, prefill)
    asked: list[int] = []

    class Learning(TableMeter):
        async def measure(self, profile: Profile, aim: Aim, thorough: bool) -> Any:
            taken = await super().measure(profile, aim, thorough)
            return taken._replace(facts=facts(kv_bytes_at_depth=7)) if profile.threads == 4 else taken

    meter = Learning(table, 0)
    search = Search(
        meter, START, AIM, facts(), Wishes(), lambda *_: asked.append(search._facts.kv_bytes_at_depth),
        only=lambda move: meter.holds(move, START) and "flash_attention" not in move.keys,
    )  # fmt: skip
    found = asyncio.run(search.run())
    assert found.best.profile.threads == 4
    assert asked[0] == 10**8 and asked[-1] == 7


@pytest.mark.parametrize("seed", range(8))
def test_a_machine_too_noisy_to_measure_even_the_start_is_said_with_its_spread(seed: int) -> None:
    source = random.Random(seed)
    table = grid(lambda keys: 60.0 * math.exp(source.gauss(0, 0.01)), lambda keys: 500.0, noise=0.0)

    class Noisy(TableMeter):
        async def measure(self, profile: Profile, aim: Aim, thorough: bool) -> Any:
            taken = await super().measure(profile, aim, thorough)
            factor = math.exp(source.gauss(0, 1.2))
            measured = msgspec.structs.replace(taken.measured, decode_ns=int((taken.measured.decode_ns or 0) * factor))
            return taken._replace(measured=measured)

    found = run(Noisy(table, seed))
    assert found.best.number == 0
    assert "noisy" in found.notes[0] or "cannot be told" in found.notes[0]
    assert "a spread of" in found.notes[0] or "factor of" in found.notes[0] or "scatter by" in found.notes[0]


def test_a_hiccup_at_the_start_is_no_noise() -> None:
    table = grid(bandwidth_bound, prefill)

    class Hiccup(TableMeter):
        async def measure(self, profile: Profile, aim: Aim, thorough: bool) -> Any:
            taken = await super().measure(profile, aim, thorough)
            if self.measured == 2:
                slow = msgspec.structs.replace(taken.measured, decode_ns=10 * (taken.measured.decode_ns or 0))
                return taken._replace(measured=slow)
            return taken

    assert run(Hiccup(table, 0)).best.profile.threads == 4


def test_a_machine_on_which_the_best_itself_fails_ends_the_tune() -> None:
    table = grid(bandwidth_bound, prefill)

    class Failing(TableMeter):
        async def measure(self, profile: Profile, aim: Aim, thorough: bool) -> Any:
            if self.measured > 4:
                raise TrialFailed(Failure("The driver is gone", "It was reset.", "Restart the machine."))
            return await super().measure(profile, aim, thorough)

    told: list[Trial] = []
    found = run(Failing(table, 0), told)
    assert [trial.outcome for trial in told].count("failed") <= 3
    assert "ended early" in " ".join(found.notes)
    assert found.best.number == 0


def test_a_place_that_was_left_is_not_gone_back_to() -> None:
    """``repack = auto`` is off: off again is where it came from."""
    table = grid(bandwidth_bound, prefill)
    cells = tuple(
        msgspec.structs.replace(cell, keys={**cell.keys, "repack": repack}, samples=tuple(
            (ttft, tpot * (0.8 if repack == "on" else 1.0)) for ttft, tpot in cell.samples
        ))
        for cell in table.cells for repack in ("on", "off")
    )  # fmt: skip
    meter = TableMeter(msgspec.structs.replace(table, cells=cells, defaults={"repack": "off"}), 0)
    known = facts(repackable_bytes=10**9)
    found = run(meter, known=known)
    changes = [change for trial in found.trials for change in trial.changes]
    assert "repack: off → on" in changes and "repack: on → off" not in changes
    assert found.best.profile.repack == "on"


def changed(meter: TableMeter, measured: Any, **times: float) -> Any:
    """A measurement of ``meter`` with some of its times multiplied."""
    factors = {key: int((getattr(measured.measured, key) or 0) * factor) for key, factor in times.items()}
    return measured._replace(measured=msgspec.structs.replace(measured.measured, **factors))


@pytest.mark.parametrize("factor", [3.0, 1.0])
def test_what_was_measured_again_is_told_also_where_the_start_stays(factor: float) -> None:
    class Fading(TableMeter):
        async def measure(self, profile: Profile, aim: Aim, thorough: bool) -> Any:
            taken = await super().measure(profile, aim, thorough)
            return changed(self, taken, decode_ns=factor) if thorough and profile.threads == 4 else taken

    flat = grid(lambda keys: 60.0 if keys["threads"] == 4 else 80.0, prefill)
    found = run(Fading(flat, 0))
    if factor == 1.0:
        assert found.best.number > 0
        return
    assert found.best.number == 0 and found.pairs >= 5
    assert found.gain.value == pytest.approx(80 / 180, rel=0.05)
    assert found.gain.low < found.gain.value < found.gain.high < 0.6
    assert any("no better (0.4" in note for note in found.notes)


def test_a_best_that_fails_in_the_last_comparison_leaves_what_was_measured_of_it() -> None:
    class Dying(TableMeter):
        thorough = 0

        async def measure(self, profile: Profile, aim: Aim, thorough: bool) -> Any:
            self.thorough += thorough
            if self.thorough > 6:
                raise TrialFailed(Failure("It died", "By itself.", "Again."))
            return await super().measure(profile, aim, thorough)

    found = run(Dying(grid(bandwidth_bound, prefill), 0))
    assert found.best.number == 0 and found.pairs == 3 and found.gain.value > 1.2


def test_the_last_comparison_begins_with_each_side_in_turn() -> None:
    order: list[bool] = []

    class Watching(TableMeter):
        async def measure(self, profile: Profile, aim: Aim, thorough: bool) -> Any:
            if thorough:
                order.append(profile == START)
            return await super().measure(profile, aim, thorough)

    run(Watching(grid(bandwidth_bound, prefill), 0))
    assert order[:8] == [True, False, False, True, True, False, False, True]


def test_the_start_has_the_medians_of_its_samples() -> None:
    class Uneven(TableMeter):
        async def measure(self, profile: Profile, aim: Aim, thorough: bool) -> Any:
            taken = await super().measure(profile, aim, thorough)
            # Of those that count, one is twice as fast.
            return changed(self, taken, decode_ns=0.5, ttft_ns=0.5) if self.measured == 2 else taken

    steady = grid(lambda keys: 60.0, lambda keys: 500.0, noise=0.0)
    meter = Uneven(steady, 0)
    search = Search(meter, START, AIM, facts(), Wishes(), lambda *_: None, most_trials=0)
    found = asyncio.run(search.run())
    assert found.start.tpot_ms == pytest.approx(60.0) and found.start.ttft_ms == pytest.approx(500.0)
    assert found.start.cost == pytest.approx(60.0)
    assert search._bound == pytest.approx(550.0)


def test_noise_that_was_not_measured_is_not_known() -> None:
    found, _ = search(grid(bandwidth_bound, prefill), most=0)
    assert found.noise is None
    learned, _ = search(grid(bandwidth_bound, prefill))
    assert learned.noise is not None and learned.noise < 0.05


def test_a_bound_that_not_even_the_best_keeps_is_told_with_figures() -> None:
    aim = msgspec.structs.replace(AIM, ttft_bound_ms=100.0)
    found, _ = search(grid(bandwidth_bound, prefill), aim=aim)
    (note,) = [note for note in found.notes if "--ttft" in note]
    assert "100 ms" in note and "1,024 tokens" in note
    kept, _ = search(grid(bandwidth_bound, prefill), aim=msgspec.structs.replace(AIM, ttft_bound_ms=1000.0))
    assert not any("--ttft" in note for note in kept.notes)


def test_what_keeps_the_persons_bound_only_at_first_sight_is_ruled_out_in_the_end() -> None:
    class Later(TableMeter):
        async def measure(self, profile: Profile, aim: Aim, thorough: bool) -> Any:
            taken = await super().measure(profile, aim, thorough)
            return changed(self, taken, ttft_ns=1.5) if thorough and profile.threads == 4 else taken

    meter = Later(grid(bandwidth_bound, lambda keys: 500.0), 0)
    aim = msgspec.structs.replace(AIM, ttft_bound_ms=700.0)
    only = lambda move: meter.holds(move, START)  # noqa: E731
    found = asyncio.run(Search(meter, START, aim, facts(), Wishes(), lambda *_: None, only=only).run())
    assert found.best.number == 0 and "later than --ttft 700 ms" in found.notes[0]


def test_a_trial_in_which_the_best_so_far_failed_says_nothing_of_its_candidate() -> None:
    known: list[Trial] = []

    class Once(TableMeter):
        died = False

        async def measure(self, profile: Profile, aim: Aim, thorough: bool) -> Any:
            if self.measured > 3 and profile == START and not self.died:
                self.died = True
                raise TrialFailed(Failure("The driver is gone", "It was reset.", "Again."))
            return await super().measure(profile, aim, thorough)

    told: list[Trial] = []
    run(Once(grid(bandwidth_bound, prefill), 0), told, on_known=lambda trial, is_lasting: known.append(trial))
    (lost,) = [trial for trial in told if trial.outcome == "failed"]
    assert lost not in known and len(known) == sum(trial.outcome not in ("start", "ruled out") for trial in told) - 1


def test_a_streamed_start_without_other_files_names_the_quant_that_would_fit() -> None:
    known = facts(model_bytes=8 * 10**9, streamed_bytes=3 * 10**9, available_bytes=5 * 10**9, n_params=7 * 10**9)
    found = run(TableMeter(grid(bandwidth_bound, prefill), 0), known=known)
    assert found.best.number > 0, "a remark ends nothing"
    (note,) = [note for note in found.notes if "disk" in note]
    assert "Q5_K_M would fit" in note and "--quants Q5_K_M" in note and "3.0 GB" in note
    assert not any("disk" in note for note in run(TableMeter(grid(bandwidth_bound, prefill), 0)).notes)


def test_how_much_the_start_scatters_is_known_before_the_first_trial() -> None:
    found = [
        search(grid(lambda keys: 60.0, lambda keys: 500.0, noise=0.2, seed=seed), seed, most=0)[0] for seed in range(8)
    ]
    known = [each.noise for each in found if each.noise is not None]
    assert known and 0.15 < sum(known) / len(known) < 0.45

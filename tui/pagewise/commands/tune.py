"""``pagewise tune`` line by line: for scripts, pipes and terminals that can do no more."""

from __future__ import annotations

import difflib
import sys
from collections.abc import Callable

from pagewise.app.figures import count, duration, size
from pagewise.app.tuning.found import found_profile, keys_of
from pagewise.app.visible import visible_line
from pagewise.commands.job import ask_host
from pagewise.commands.output import as_json
from pagewise.jobs.tune import Aim, Goal, Trial, TrialEnded, Tune, Tuned
from pagewise.messages import Event, Failure
from pagewise.profiles.save import save
from pagewise.settings import Keep, Profile


class TuneError(Exception):
    """The options cannot be followed."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(failure.what)
        self.failure = failure


_SIGNS = {
    "start": "·",
    "better": "+",
    "same": "=",
    "worse": "-",
    "dropped": "-",
    "failed": "!",
    "ruled out": "x",
}


def run(
    profile: Profile,
    aim: Aim,
    fixed: tuple[str, ...],
    most_trials: int,
    most_seconds: float | None,
    fresh: bool,
    save_as: str | None,
    json: bool,
) -> int:
    """Tune, write each trial as it ends and the result, and return the exit status. Raises ProfileError."""
    tell: Callable[[Event], None] = (lambda event: None) if json else _tell
    answer = ask_host(lambda id: Tune(id, profile, aim, fixed, most_trials, most_seconds, fresh=fresh), Tuned, tell)
    if isinstance(answer, int):
        return answer
    if json:
        print(as_json(answer))
    else:
        print("\n".join(summary(answer)))
    if save_as is not None and answer.best.number:
        path = save(save_as, keys_of(found_profile(profile, answer.best.profile)))
        print(f"saved as profile {visible_line(save_as)}: {visible_line(str(path))}", file=sys.stderr)
    return 0


def full_screen(
    profile: Profile, aim: Aim, fixed: tuple[str, ...], most_trials: int, most_seconds: float | None, fresh: bool
) -> int:
    """Open the screen; what was found stays on the terminal behind it. Returns the exit status."""
    from pagewise.app.tune_app import TuneApp
    from pagewise.client import HostClient

    def make(id: int) -> Tune:
        return Tune(id, profile, aim, fixed, most_trials, most_seconds, fresh=fresh)

    app = TuneApp(HostClient(), make, f"{profile.name} · {profile.model.rsplit('/', 1)[-1]}")
    app.run()
    if app.found is not None:
        print("\n".join(summary(app.found)).strip())
    return app.return_code or 0


def aim_of(
    goal: Goal, prompt: int, output: int, depth: int, ttft_s: float | None, leave: str | None, kv_types: bool
) -> Aim:
    """The aim as the options say it. Raises TuneError where they contradict each other."""
    leave_bytes = 0
    if leave is not None:
        try:
            leave_bytes = Keep(leave).bytes
        except ValueError:
            leave_bytes = -1
        if leave_bytes < 0 or not leave.endswith(("GiB", "MiB")):
            raise TuneError(
                Failure(f"--leave {leave} is not a size", "It has to be such as 2GiB or 800MiB.", "Say it so.")
            )
    if goal == "long-prompts" and ttft_s is not None:
        raise TuneError(
            Failure(
                "--for long-prompts and --ttft contradict each other",
                "The time to the first token is what is made as short as it can be: a bound on it says nothing.",
                "Leave one of the two out.",
            )
        )
    return Aim(goal, prompt, output, depth, None if ttft_s is None else 1000 * ttft_s, leave_bytes, kv_types)


def check_keys(fixed: tuple[str, ...]) -> None:
    """Raises TuneError for a key that no profile has, with the nearest names."""
    for key in fixed:
        if key not in Profile.__struct_fields__:
            near = difflib.get_close_matches(key, Profile.__struct_fields__, 3)
            raise TuneError(
                Failure(
                    f"--fix {key}: no profile has such a key",
                    f"Near to it: {', '.join(near)}." if near else "None is near to it.",
                    "`pagewise profiles --keys` lists them all.",
                )
            )


def trial_line(trial: Trial) -> str:
    """One trial in a line."""
    what = ", ".join(trial.changes) or "start"
    figures = []
    if trial.tpot_ms:
        figures.append(f"TPOT {duration(trial.tpot_ms)}")
    if trial.ttft_ms:
        figures.append(f"TTFT {duration(trial.ttft_ms)}")
    if trial.gain is not None and trial.low is not None and trial.high is not None:
        figures.append(f"{trial.gain:.3f}× ({trial.low:.3f} to {trial.high:.3f}, {count(trial.pairs)} pairs)")
    if trial.memory_bytes is not None:
        figures.append(size(trial.memory_bytes))
    why = trial.failure.what if trial.failure is not None else trial.why
    measured = ", ".join(figures) or "not measured"
    return visible_line(f"{trial.number:>3} {_SIGNS[trial.outcome]} {trial.outcome:9} {what}; {measured}; {why}")


def summary(result: Tuned) -> list[str]:
    """What was found, with its evidence."""
    lines = [""]
    if result.best.number == 0:
        lines.append("Nothing better than the start was found.")
    else:
        interval = f"{result.low:.3f} to {result.high:.3f}"
        lines.append(f"{result.gain:.3f}× the start ({interval}; {result.pairs} pairs, measured again)")
        lines += [f"  {visible_line(reason)}" for reason in result.reasons]
    lines += [f"! {visible_line(note)}" for note in result.notes]
    tried = sum(trial.outcome not in ("start", "ruled out") for trial in result.trials)
    lines.append(f"{tried} trials in {duration(1000 * result.seconds)}")
    return lines


def _tell(event: Event) -> None:
    if isinstance(event, TrialEnded):
        print(trial_line(event.trial), flush=True)

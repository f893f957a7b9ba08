"""``pagewise tune`` line by line: for scripts, pipes and terminals that can do no more."""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Callable, Sequence
from math import prod
from typing import NamedTuple

import msgspec
from msgspec import Struct

from pagewise.app.figures import count, duration, size
from pagewise.app.tuning.drawing import minutes
from pagewise.app.tuning.found import found_profile, keys_of
from pagewise.app.tuning.telling import resumed_words
from pagewise.app.visible import visible_line
from pagewise.commands.job import DUMB, INTERRUPTED, ask_host
from pagewise.commands.output import as_json
from pagewise.commands.tune_aim import Wanted
from pagewise.jobs.tune import TUNED, Aim, Trial, TrialEnded, Tune, Tuned, TuneResumed
from pagewise.messages import Event
from pagewise.profiles.save import save
from pagewise.settings import Profile

_SIGNS = {
    "start": "·",
    "better": "+",
    "same": "=",
    "worse": "-",
    "dropped": "-",
    "failed": "!",
    "ruled out": "x",
}


class Limits(NamedTuple):
    """When a tune ends, what stays, and whether it begins from earlier ones."""

    fixed: tuple[str, ...] = ()
    most_trials: int = 15
    most_seconds: float | None = None
    fresh: bool = False


class Stopped(Struct, frozen=True):
    """A tune that was stopped, as JSON."""

    start: Trial
    best: Trial
    """The best so far; it was not measured beside the start again."""
    trials: tuple[Trial, ...]
    stopped: bool = True


def run(wanted: Wanted, limits: Limits, save_as: str | None, json: bool) -> int:
    """Tune, write each trial as it ends and the result, and return the exit status. Raises ProfileError."""
    heard = _Heard(wanted, quiet=json)
    if not json:
        print("\n".join(_asked(wanted.aim)), flush=True)
    answer = ask_host(_maker(wanted, limits), Tuned, heard.take)
    if isinstance(answer, int):
        if answer == INTERRUPTED and heard.trials:
            print(as_json(heard.stopped()) if json else "\n".join(heard.offer()))
        return answer
    if json:
        print(as_json(answer))
    else:
        print("\n".join(summary(answer)))
    if save_as is not None and answer.is_new:
        path = save(save_as, keys_of(found_profile(wanted.profile, answer.best.profile)))
        print(f"saved as profile {visible_line(save_as)}: {visible_line(str(path))}", file=sys.stderr)
    return 0


def has_screen() -> bool:
    """Whether there is a terminal that can do more than lines."""
    return os.environ.get("TERM", "") not in DUMB and sys.stdin.isatty() and sys.stdout.isatty()


def full_screen(wanted: Wanted, limits: Limits) -> int:
    """Open the screen; what was found stays on the terminal behind it. Returns the exit status."""
    from pagewise.app.tune_app import TuneApp
    from pagewise.client import HostClient

    profile = wanted.profile
    file = profile.model.rsplit("/", 1)[-1]
    shown = file if profile.name in (file, file.removesuffix(".gguf")) else f"{profile.name} · {file}"
    app = TuneApp(HostClient(), _maker(wanted, limits), visible_line(shown))
    app.run()
    if app.found is not None:
        print("\n".join(summary(app.found)).strip())
    elif app.tuning is not None and app.tuning.trials:
        print("\n".join(_Heard(wanted, app.tuning.trials, app.tuning.best).offer()).strip())
    return app.return_code or 0


def _maker(wanted: Wanted, limits: Limits) -> Callable[[int], Tune]:
    return lambda id: Tune(
        id,
        wanted.profile,
        wanted.aim,
        limits.fixed,
        limits.most_trials,
        limits.most_seconds,
        fresh=limits.fresh,
        quants=wanted.quants,
    )


class _Heard:
    """What a tune has told so far, for when it is stopped."""

    def __init__(self, wanted: Wanted, trials: Sequence[Trial] = (), best: int = 0, *, quiet: bool = True) -> None:
        self.trials = list(trials)
        self._best = best
        self._wanted, self._quiet = wanted, quiet

    def take(self, event: Event) -> None:
        """Keep a trial, and write it."""
        if isinstance(event, TuneResumed) and not self._quiet:
            print(resumed_words(event), flush=True)
        elif isinstance(event, TrialEnded):
            self.trials.append(event.trial)
            self._best = event.best
            if not self._quiet:
                print(trial_line(event.trial), flush=True)

    def stopped(self) -> Stopped:
        """All of it."""
        return Stopped(self.trials[0], self._best_trial, tuple(self.trials))

    def offer(self) -> list[str]:
        """The best so far, and how to use it."""
        best = self._best_trial
        kept = "The trials are kept: the next tune of this model begins from them."
        if not best.number:
            return ["", "Stopped; nothing better than the start was found so far.", kept]
        steps = [trial.gain for trial in self.trials if trial.outcome == "better" and trial.number <= best.number]
        gain = f"about {prod(step or 1.0 for step in steps):.2f}× the start, "
        return [
            "",
            f"Stopped. The best so far, {gain}not measured again beside it:",
            *(f"  {visible_line(line)}" for line in _path_to(self.trials, best)),
            f"Use it with {visible_line(' '.join(_words(self._wanted.profile, best.profile)))}",
            kept,
        ]

    @property
    def _best_trial(self) -> Trial:
        return next((trial for trial in self.trials if trial.number == self._best), self.trials[0])


def _words(asked: Profile, best: Profile) -> list[str]:
    """What a command line has to say beside the profile that was asked for, what went back to its default too."""
    words = []
    file = {"model", "quant"}
    if (best.model, best.quant) != (asked.model, asked.quant):
        # It takes a quant away that the profile names.
        words.append(f"--model {shlex.quote(best.model)}")
        if best.quant is not None:
            words.append(f"--set {shlex.quote(f'quant={best.quant}')}")
    for key in Profile.__struct_fields__:
        value = getattr(best, key)
        if key in TUNED - file and value != getattr(asked, key):
            words.append(f"--set {shlex.quote(f'{key}={_as_set(msgspec.to_builtins(value))}')}")
    return words


def _path_to(trials: Sequence[Trial], best: Trial) -> list[str]:
    taken = [trial for trial in trials if trial.outcome == "better" and trial.number <= best.number]
    return [f"{', '.join(trial.changes)}: {trial.gain:.2f}×" for trial in taken if trial.gain is not None]


def _as_set(value: object) -> str:
    """As ``--set`` takes it: a word, or a TOML value."""
    if isinstance(value, str):
        return value
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key} = {_json(inner)}" for key, inner in value.items()) + "}"
    return _json(value)


def _json(value: object) -> str:
    return msgspec.json.encode(value).decode()


def _asked(aim: Aim) -> list[str]:
    """What is measured, and what is held to."""
    where = f" ({aim.depth_from})" if aim.depth_from else ""
    lines = [f"{aim.goal}: {count(aim.n_prompt)} + {count(aim.n_output)} tokens at depth {count(aim.depth)}{where}"]
    if aim.tries_kv_types:
        lines.append(f"smaller KV types up to a KL divergence of {aim.kv_limit:g}")
    return [visible_line(line) for line in lines]


def trial_line(trial: Trial) -> str:
    """One trial in a line."""
    what = ", ".join(trial.changes) or "start"
    figures = []
    if trial.tpot_ms:
        figures.append(f"TPOT {duration(trial.tpot_ms)}")
    if trial.ttft_ms:
        figures.append(f"TTFT {duration(trial.ttft_ms)}")
    if trial.gain is not None and trial.low is not None and trial.high is not None:
        figures.append(f"{trial.gain:.3f}× ({trial.low:.3f} to {trial.high:.3f}, {_pairs(trial.pairs)})")
    if trial.memory_bytes is not None:
        figures.append(size(trial.memory_bytes))
    if trial.kl is not None:
        figures.append(f"KL {trial.kl:.2g}")
    why = f"{trial.failure.what}: {trial.failure.why}" if trial.failure is not None else trial.why
    measured = ", ".join(figures) or "not measured"
    return visible_line(f"{trial.number:>3} {_SIGNS[trial.outcome]} {trial.outcome:9} {what}; {measured}; {why}")


def _pairs(pairs: int) -> str:
    return f"{count(pairs)} pair{'s' if pairs != 1 else ''}"


def summary(result: Tuned) -> list[str]:
    """What was found, with its evidence."""
    lines = [""]
    if result.best.number == 0:
        where = "where it began" if result.begun_elsewhere else "the start"
        lines.append(f"Nothing better than {where} was found.")
    else:
        interval = f"{result.low:.3f} to {result.high:.3f}"
        lines.append(f"{result.gain:.3f}× the start ({interval}; {_pairs(result.pairs)}, measured again)")
        lines += [f"  {visible_line(reason)}" for reason in result.reasons]
    lines += [f"! {visible_line(note)}" for note in result.notes]
    tried = sum(trial.outcome not in ("start", "ruled out") for trial in result.trials)
    lines.append(f"{tried} trial{'s' if tried != 1 else ''} in {minutes(result.seconds)}")
    return lines

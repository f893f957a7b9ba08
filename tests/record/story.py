"""A short chat and a short monitor, told to a recorder with a clock that the story sets."""

from __future__ import annotations

from pathlib import Path

from msgspec.structs import replace
from tests.app import scenes
from tests.monitor import samples

from pagewise import messages
from pagewise.messages import ChatMessage, Command, Event, Failure
from pagewise.record.recorder import Recorder

HOSTILE = "</script><script>alert('x')</script><img src=http://evil.example/a.png>"
TURNS = 12
TOKENS = 40


class Clock:
    """Says what it was set to."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def chat() -> list[tuple[float, Event | Command]]:
    """A load and TURNS turns of TOKENS tokens, ten seconds each; readings at 2 Hz."""
    model = replace(scenes.qwen(), name=f"=Qwen {HOSTILE}", notes=(HOSTILE, "\x1b[31mred\n"))
    told: list[tuple[float, Event | Command]] = [
        (0.0, scenes.hello()),
        (0.0, messages.EngineHello(1, 77, "b6000", "AVX2 = 1", ("CPU", "CUDA0"))),
        (0.0, messages.Load(1, scenes.LAPTOP)),
        (0.1, messages.LoadProgress(1, "read", 10, 100)),
        (0.5, messages.Loaded(1, scenes.LAPTOP, model, "process", 480.0)),
    ]
    for turn in range(TURNS):
        start = 1.0 + 10 * turn
        id = turn + 2
        told += [(start, messages.Generate(id, (ChatMessage("system", "secret"), ChatMessage("user", f"Q{turn}?"))))]
        told += [(start + 0.1, messages.Prefill(id, 241, 241, 0))]
        for token in range(TOKENS):
            at = start + 0.3 + token * 0.2
            told.append((at, messages.Tokens(id, (token,), f"w{token} ", token + 1, 241 + token, 41.0 + token)))
            if token % 16 == 15:
                clock = replace(
                    scenes.clock(token),
                    page_in_bytes=tuple(range(30)),
                    demand_bytes=tuple(range(100, 130)),
                    read_ahead_bytes=(),
                )
                told.append((at, messages.Layers(id, clock)))
            told.append((at, messages.Reading(scenes.snapshot(at, devices=scenes.gpu(), page_in=1e6 * token))))
        told.append((start + 9.0, messages.Finished(id, "end", scenes.timing(TOKENS, cold=turn == 0))))
        told.append((start + 9.0, messages.Judged(id, scenes.VERDICT)))
    told.append((1.0 + 10 * TURNS, messages.Notice(Failure("Something <b>broke</b>", "It did.", "Go on."))))
    return told


def monitor() -> list[tuple[float, Event | Command]]:
    """Twenty samples of three models, one a second."""
    told: list[tuple[float, Event | Command]] = [(0.0, messages.Monitor(1.0))]
    return told + [
        (float(second), messages.Monitored(samples.sample(samples.busy(second / 20), samples.hidden())))
        for second in range(20)
    ]


def record(path: Path, told: list[tuple[float, Event | Command]], command: str = "chat") -> Path:
    """A record of what was told, closed in good order."""
    clock = Clock()
    with Recorder(path, command, clock) as recorder:
        for at, message in told:
            clock.now = at
            assert recorder.take(message) is None
    return path

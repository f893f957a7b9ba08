"""What a person is told of an engine's end."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from pagewise.host.engine_exit import EngineExit, engine_exit, explain, last_words

LOG = Path("/var/log/engine.log")


@pytest.mark.parametrize(
    ("code", "before", "after", "expected"),
    [
        (-9, 1, 2, (9, None, True)),
        (-9, 1, 1, (9, None, False)),
        (-9, None, None, (9, None, False)),
        (-6, 1, 2, (6, None, False)),
        (3, 1, 1, (None, 3, False)),
    ],
)
def test_how_it_ended(
    code: int, before: int | None, after: int | None, expected: tuple[int | None, int | None, bool]
) -> None:
    end = engine_exit(code, before, after, "")
    assert (end.signal, end.exit_code, end.out_of_memory) == expected


@pytest.mark.parametrize("number", [*range(1, 32), 40, 64])
def test_every_signal_has_words(number: int) -> None:
    failure = explain(EngineExit(number, None, False, ""), "while it loaded", LOG)
    assert failure.what == "The engine ended while it loaded"
    assert failure.why and failure.next


def test_out_of_memory_names_what_to_do() -> None:
    failure = explain(EngineExit(signal.SIGKILL, None, True, ""), "", LOG)
    assert "memory" in failure.why and "quant" in failure.next


def test_exit_code_and_last_words() -> None:
    failure = explain(EngineExit(None, 3, False, "CUDA error: out of memory"), "", LOG)
    assert "exit code 3" in failure.why and "CUDA error: out of memory" in failure.why
    assert str(LOG) in failure.next


def test_last_words_are_the_line_that_tells_most_and_printable(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_bytes(b"GGML_ASSERT(old) failed\n")
    offset = log.stat().st_size
    with log.open("ab") as file:
        file.write(b"load_tensors: done\n\x1b[31mggml.c:7: GGML_ASSERT(new) failed\x1b[0m\xff\n[New LWP 77]\n")
    assert last_words(log, offset) == "[31mggml.c:7: GGML_ASSERT(new) failed[0m\N{REPLACEMENT CHARACTER}"
    assert last_words(log, log.stat().st_size) == ""
    assert last_words(tmp_path / "none", 0) == ""

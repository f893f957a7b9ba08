"""The real commands over the real engine."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from tests.synthetic import make_model

from pagewise import messages
from pagewise.record.format import HEAD, MAGIC
from pagewise.record.reader import Record


def run(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, **{f"XDG_{name}_HOME": str(folder / "home") for name in ("CONFIG", "DATA", "STATE")}}
    return subprocess.run(
        [sys.executable, "-m", "pagewise", *arguments], capture_output=True, text=True, timeout=120, env=environment
    )


def test_an_answer_is_recorded_and_reported(tmp_path: Path) -> None:
    file = tmp_path / "answer.pwr"
    asked = ("ask", "Why?", "--model", str(make_model()), "--max-tokens", "40", "--set", "probe_every=4", "--json")
    done = run(tmp_path, *asked, "--record", str(file))
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout)
    with Record(file) as record:
        told = [message for _, message in record]
        assert record.ending == "whole"
    kinds = {type(message) for message in told}
    expected = {messages.Load, messages.Loaded, messages.Generate, messages.Tokens, messages.Layers, messages.Reading}
    assert expected <= kinds
    assert "".join(message.text for message in told if isinstance(message, messages.Tokens)) == answer["text"]
    finished = next(message for message in told if isinstance(message, messages.Finished))
    assert finished.timing is not None and finished.timing.ttft_ms == answer["ttft_ms"]

    done = run(tmp_path, "report", str(file), "--csv", str(tmp_path / "tables"))
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "answer.html").read_text().startswith("<!doctype html>")
    assert len((tmp_path / "tables" / "tokens.csv").read_text().splitlines()) > 1

    again = run(tmp_path, *asked, "--record", str(file))
    assert again.returncode == 1 and "is there already" in again.stderr and again.stdout == ""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the monitor reads /proc")
def test_a_monitor_is_recorded(tmp_path: Path) -> None:
    file = tmp_path / "m.pwr"
    chosen = ("--file", str(make_model()), "--interval", "0.1", "--count", "3", "--json")
    done = run(tmp_path, "monitor", *chosen, "--record", str(file))
    assert done.returncode == 0, done.stderr
    with Record(file) as record:
        told = [message for _, message in record]
    assert isinstance(told[0], messages.Monitor) and told[0].interval_s == 0.1
    printed = [json.loads(line)["time_s"] for line in done.stdout.splitlines()]
    assert [message.sample.time_s for message in told[1:] if isinstance(message, messages.Monitored)] == printed


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "No such file"),
        (b"", "does not begin as a record"),
        (b"GGUF....", "does not begin as a record"),
        (MAGIC + HEAD.pack(99, 0, 0), "This record is newer than this pagewise"),
        (MAGIC + HEAD.pack(1, 50, 0) + b"abc", "cut or damaged within its header"),
    ],
)
def test_what_is_no_record_is_refused_in_sentences(tmp_path: Path, content: bytes | None, said: str) -> None:
    file = tmp_path / "x.pwr"
    if content is not None:
        file.write_bytes(content)
    done = run(tmp_path, "report", str(file))
    assert done.returncode == 1 and done.stdout == ""
    assert said in done.stderr and "next" in done.stderr and "Traceback" not in done.stderr


def test_a_replay_needs_a_terminal(tmp_path: Path) -> None:
    done = run(tmp_path, "replay", str(tmp_path / "x.pwr"))
    assert done.returncode == 2 and "pagewise report" in done.stderr

"""``pagewise tune`` in a process of its own, stopped by Ctrl-C: the best so far is told, and nothing is left behind."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec
import pytest
from tests.host.talk import children, is_alive
from tests.synthetic import make_model

from pagewise.tuner.ledger import Entry

_FIXED = ("load_mode", "repack", "flash_attention", "threads_batch")


@contextmanager
def tuning(tmp_path: Path, *more: str) -> Iterator[subprocess.Popen[str]]:
    folders = {f"XDG_{name}_HOME": str(tmp_path / name.lower()) for name in ("STATE", "CACHE", "CONFIG", "DATA")}
    fixed = [word for key in _FIXED for word in ("--fix", key)]
    command = [
        sys.executable,
        "-m",
        "pagewise",
        "tune",
        "--model",
        str(make_model()),
        "--depth",
        "16",
        "--prompt",
        "16",
    ]
    process = subprocess.Popen(
        [*command, "--trials", "900", *fixed, *more],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, **folders},
        start_new_session=True,
    )
    try:
        yield process
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def family(pid: int) -> list[int]:
    """All processes below this one."""
    below = children(pid)
    return below + [each for child in below for each in family(child)]


@pytest.mark.parametrize("after", ["chat:", "  0 "])
def test_ctrl_c_leaves_no_process_and_nothing_half_written(tmp_path: Path, after: str) -> None:
    with tuning(tmp_path, "--plain", "--save", "found") as process:
        assert process.stdout is not None
        said = ""
        for line in process.stdout:
            said += line
            if line.startswith(after):
                break
        started = family(process.pid)
        process.send_signal(signal.SIGINT)
        rest, wrong = process.communicate(timeout=30)
        assert process.returncode == 130
        assert "Traceback" not in wrong
        if after != "chat:":
            assert started and "Stopped" in rest and "The trials are kept" in rest
        assert not [pid for pid in started if is_alive(pid)]
    assert not (tmp_path / "config" / "pagewise" / "profiles" / "found.toml").exists()
    for ledger in (tmp_path / "state" / "pagewise" / "tune").glob("*.jsonl"):
        for written in ledger.read_bytes().splitlines():
            msgspec.json.decode(written, type=Entry)
    assert not list((tmp_path / "state").rglob("*.part"))


def test_stopped_json_is_whole_and_has_the_best_so_far(tmp_path: Path) -> None:
    with tuning(tmp_path, "--json", "--time", "60") as process:
        ledgers = tmp_path / "state" / "pagewise" / "tune"
        # The first trial behind the start is on disk: then there is something to tell.
        while process.poll() is None and not list(ledgers.glob("*.jsonl")):
            os.sched_yield()
        process.send_signal(signal.SIGINT)
        out, wrong = process.communicate(timeout=30)
    assert "Traceback" not in wrong
    if process.returncode == 130:
        told = json.loads(out)
        assert told["stopped"] is True and told["trials"][0]["outcome"] == "start"
        assert told["best"] in told["trials"]
    else:
        assert json.loads(out)["best"]

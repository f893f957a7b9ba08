from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import urllib.request
from pathlib import Path
from typing import Any

import msgspec
import pytest
from msgspec.structs import replace
from tests.monitor import samples
from tests.monitor.holder import held_by
from tests.synthetic import make_model

from pagewise.commands.monitor_table import NOTHING, table
from pagewise.messages import Monitored
from pagewise.readings import MONITOR_SCHEMA, Devices, Missing, MonitorSample
from pagewise.record.reader import Record

MONITOR = (sys.executable, "-c", "from pagewise.cli import main; main()", "monitor")


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*MONITOR, *arguments], capture_output=True, text=True, timeout=60)


def start(*arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [*MONITOR, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    )


def test_each_sample_is_one_line_of_the_documented_schema() -> None:
    with held_by("map", make_model()) as process:
        done = run("--json", "--interval", "0.1", "--count", "3", "--pid", str(process.pid))
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    assert len(lines) == 3
    found = [msgspec.json.decode(line, type=MonitorSample) for line in lines]
    assert {sample.schema for sample in found} == {MONITOR_SCHEMA}
    assert found[0].interval_s == 0
    assert found[2].interval_s > 0
    assert found[2].models[0].pid == process.pid


def test_the_page_that_documents_the_schema_names_every_field() -> None:
    page = (Path(__file__).parents[2] / "docs" / "monitor.md").read_text()
    assert f"schema {MONITOR_SCHEMA}" in page
    missing = [name for name in sorted(_fields(msgspec.json.schema(MonitorSample))) if f"`{name}`" not in page]
    assert missing == []


def _fields(schema: dict[str, Any]) -> set[str]:
    return {name for part in schema["$defs"].values() for name in part.get("properties", {})}


def test_once_prints_a_table_and_ends() -> None:
    with held_by("map", make_model()) as process:
        done = run("--once", "--pid", str(process.pid))
    assert done.returncode == 0
    heading, row, *below = done.stdout.splitlines()
    assert heading.split()[:3] == ["PID", "PROGRAM", "MODEL"]
    assert row.split()[:2] == [str(process.pid), "llama-server"]
    assert any("found by mapping" in line for line in below)


def test_it_ends_when_the_one_process_that_it_watches_has_ended() -> None:
    with held_by("map", make_model()) as process:
        monitor = start("--json", "--interval", "0.1", "--pid", str(process.pid))
        assert monitor.stdout is not None
        first = json.loads(monitor.stdout.readline())
        assert first["models"][0]["state"] == "running"
    output, errors = monitor.communicate(timeout=60)
    assert (monitor.returncode, errors) == (0, "")
    assert json.loads(output.splitlines()[-1])["models"][0]["state"] == "ended"


def test_control_c_ends_it_without_a_word() -> None:
    monitor = start("--json", "--interval", "0.1")
    assert monitor.stdout is not None
    monitor.stdout.readline()
    os.killpg(monitor.pid, signal.SIGINT)
    output, errors = monitor.communicate(timeout=60)
    assert (monitor.returncode, errors) == (130, "")
    assert all(json.loads(line) for line in output.splitlines())


def test_a_reader_that_has_had_enough_is_no_error() -> None:
    monitor = start("--json", "--interval", "0.1")
    assert monitor.stdout is not None
    assert monitor.stderr is not None
    monitor.stdout.readline()
    monitor.stdout.close()
    assert monitor.wait(60) == 0
    assert monitor.stderr.read() == ""
    monitor.stderr.close()


def test_prometheus_can_read_it() -> None:
    with held_by("map", make_model()) as process:
        monitor = start("--listen", "127.0.0.1:0", "--interval", "0.1", "--pid", str(process.pid))
        assert monitor.stderr is not None
        where = re.search(r"http://\S+", monitor.stderr.readline())
        assert where is not None
        try:
            with urllib.request.urlopen(where[0], timeout=10) as answer:
                assert f'pid="{process.pid}"' in answer.read().decode()
        finally:
            os.killpg(monitor.pid, signal.SIGINT)
            monitor.communicate(timeout=60)
    assert monitor.returncode == 130


@pytest.mark.parametrize(
    ("arguments", "what"),
    [
        (("--once", "--pid", "4194304"), "There is no process"),
        (("--once", "--file", "/nowhere/x.gguf"), "There is no file"),
        (("--once", "--file", __file__), "is not a GGUF file"),
        (("--json", "--url", "ftp://x"), "is no address of a server"),
        (("--listen", "nowhere"), "is no address to listen on"),
    ],
)
def test_what_cannot_be_done_is_said_in_three_lines(arguments: tuple[str, ...], what: str) -> None:
    done = run(*arguments)
    assert done.returncode == 1
    first, second, third = done.stderr.splitlines()
    assert first.startswith("pagewise: ")
    assert what in first
    assert second.startswith("  why ")
    assert third.startswith("  next ")


def test_the_full_screen_needs_a_terminal() -> None:
    done = run()
    assert done.returncode == 2
    assert "--json" in done.stderr


def test_the_table_shows_nothing_that_acts_on_a_terminal_and_no_zero_for_what_is_not_known() -> None:
    lines = table(samples.sample())
    assert not any("\x1b" in line for line in lines)
    row = next(line for line in lines if line.lstrip().startswith("5230 "))
    assert row.count("n/a") >= 6
    assert any("sudo pagewise monitor --pid 5230" in line for line in lines)
    assert "6011: it has ended." in lines
    assert any("bound by disk" in line for line in lines)
    assert lines[-1].startswith("note: 3 processes")


def test_an_empty_table_says_what_to_do() -> None:
    sample = msgspec.structs.replace(samples.sample(), models=(), missing=())
    assert table(sample)[: len(NOTHING)] == list(NOTHING)


def test_the_table_says_what_the_box_has_and_does() -> None:
    lines = table(samples.sample())
    assert "box: 12.0 / 32.0 GiB RAM available, CPU 51 %, swap 0 B" in lines
    assert "GPU: none. There is no NVML: this machine has no NVIDIA driver." in lines
    sample = samples.sample(device=True)
    (device,) = sample.devices.devices
    busy = replace(
        device,
        dram_bytes_s=200e9,
        dram_peak_bytes_s=250e9,
        pcie_rx_bytes_s=1.2e9,
        pcie_tx_bytes_s=8e7,
        held_back=("power limit",),
        missing=(Missing("energy_j", "This driver does not count it."),),
    )
    lines = table(replace(sample, devices=Devices((busy,))))
    (line,) = [line for line in lines if line.startswith("GPU 0: RTX 4060")]
    for word in ("6.0 / 8.0 GiB used", "busy 71 %", "88 W", "61 °C", "DRAM 200 GB/s 80 %", "PCIe ↓1.2 GB/s ↑80 MB/s"):
        assert word in line, line
    assert "held back: power limit" in line
    assert "GPU 0: energy_j n/a: This driver does not count it." in lines


def test_the_table_tells_what_an_engine_of_pagewise_knows_of_itself() -> None:
    lines = table(samples.sample(samples.own()))
    assert "7001: pagewise's engine: generating, profile default, context 312 of 4 096 tokens" in lines
    assert "7001: this reply: TTFT 80.0 ms, TPOT 23.5 ms, 42.5 tok/s, ITL p95 n/a" in lines
    assert any("slowest layers: output" in line for line in lines)


@pytest.mark.parametrize("width", [80, 100])
def test_the_table_fits_a_terminal_and_leaves_out_what_matters_least(width: int) -> None:
    rows = table(samples.sample(), width)[:4]
    assert max(map(len, rows)) <= width
    for heading in ("PID", "PROGRAM", "MODEL", "PAGE-IN", "TOK/S"):
        assert heading in rows[0]
    assert "VRAM" not in rows[0] and "VRAM" in table(samples.sample())[0]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--once", "--listen", "127.0.0.1:0"), "--once prints one table"),
        (("--once", "--count", "2"), "--once prints one table"),
        (("--count", "2"), "--count is for --json"),
    ],
)
def test_options_that_exclude_one_another_are_not_passed_over(arguments: tuple[str, ...], said: str) -> None:
    done = run(*arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert said in done.stderr


def test_a_service_that_is_stopped_ends_its_record_in_good_order(tmp_path: Path) -> None:
    monitor = start("--json", "--interval", "0.1", "--record", str(tmp_path / "m.pwr"))
    assert monitor.stdout is not None
    monitor.stdout.readline()
    monitor.terminate()
    _, errors = monitor.communicate(timeout=60)
    assert (monitor.returncode, errors) == (143, "")
    with Record(tmp_path / "m.pwr") as record:
        assert record.ending == "whole" and record.has(Monitored)

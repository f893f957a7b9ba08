"""RAM and CPU, against other readings of the same machine."""

from __future__ import annotations

import os
import subprocess
import sys

import psutil
import pytest

from pagewise.instruments.portable import PortableSystemInstrument
from pagewise.instruments.system import SystemInstrument, physical_cores

_BURN = """
import sys
block = bytearray(50 * 1024 * 1024)
block[::4096] = b"x" * len(block[::4096])
print("ready", flush=True)
for _ in sys.stdin:
    sum(range(20_000_000))
    print("done", flush=True)
"""


def burner() -> subprocess.Popen[str]:
    process = subprocess.Popen([sys.executable, "-c", _BURN], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout and process.stdout.readline() == "ready\n"
    return process


@pytest.mark.parametrize("instrument", [SystemInstrument, PortableSystemInstrument])
def test_memory_and_cpu_of_a_process(instrument: type[SystemInstrument | PortableSystemInstrument]) -> None:
    process = burner()
    assert process.stdin and process.stdout
    try:
        system = instrument(process.pid)
        process.stdin.write("\n")
        process.stdin.flush()
        process.stdout.readline()
        reading = system.sample()
        system.close()
        beside = psutil.Process(process.pid).memory_info().rss
    finally:
        process.kill()
        process.communicate()
    assert reading.total_bytes == psutil.virtual_memory().total
    assert 0 < reading.available_bytes <= reading.total_bytes
    assert reading.engine_rss_bytes == pytest.approx(beside, rel=0.02)
    assert reading.engine_rss_bytes is not None and reading.engine_rss_bytes > 50 * 1024 * 1024
    assert reading.engine_cpu_pct is not None and 5 < reading.engine_cpu_pct <= 150
    assert reading.cpu_pct is not None and 0 < reading.cpu_pct <= 100


def test_file_and_private_memory_are_told_apart() -> None:
    process = burner()
    try:
        reading = SystemInstrument(process.pid).sample()
    finally:
        process.kill()
        process.communicate()
    assert reading.engine_anon_bytes is not None and reading.engine_anon_bytes > 50 * 1024 * 1024
    assert reading.engine_file_bytes is not None and 0 < reading.engine_file_bytes < reading.engine_anon_bytes


def test_without_an_engine_its_values_are_not_known() -> None:
    reading = SystemInstrument(None).sample()
    assert reading.engine_rss_bytes is None and reading.engine_cpu_pct is None
    assert reading.total_bytes > 0


@pytest.mark.parametrize("instrument", [SystemInstrument, PortableSystemInstrument])
def test_an_engine_that_has_ended(instrument: type[SystemInstrument | PortableSystemInstrument]) -> None:
    process = burner()
    system = instrument(process.pid)
    process.kill()
    process.communicate()
    reading = system.sample()
    assert reading.engine_rss_bytes is None and reading.engine_cpu_pct is None


def test_physical_cores() -> None:
    assert 1 <= physical_cores() <= (os.cpu_count() or 1)

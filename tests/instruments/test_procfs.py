"""Parsers of /proc's text, on text as kernels write it."""

from __future__ import annotations

import os
import signal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pagewise.instruments import procfs
from pagewise.instruments.procfs import Mapping

IO = """rchar: 4292
wchar: 0
syscr: 13
syscw: 0
read_bytes: 2147483648
write_bytes: 4096
cancelled_write_bytes: 0
"""
STATUS = """Name:\tpython3 (llama) 9
Umask:\t0022
State:\tR (running)
VmRSS:\t 3145728 kB
RssAnon:\t   66560 kB
RssFile:\t 3079168 kB
RssShmem:\t       0 kB
Threads:\t5
SigQ:\t0/96596
Cpus_allowed_list:\t0-1
"""
STAT = (
    "4121 (weird ) name (x) S 1 4121 4121 0 -1 4194304 1428 0 303 0 1250 75 0 0 20 0 5 0 8816 "
    "2500000000 520000 18446744073709551615 1 1 0 0 0 0 0 16781312 134235649 0 0 0 17 1 0 0 41 0 0 0 0 0 0 0 0 0 0"
)
CPU = """cpu  1000 20 300 8000 700 0 30 5 400 0
cpu0 500 10 150 4000 350 0 15 2 200 0
intr 5
"""
PRESSURE = """some avg10=0.00 avg60=0.05 avg300=0.84 total=8816152
full avg10=0.00 avg60=0.05 avg300=0.81 total=8137008
"""
DISK = " 12345 11 4194304 999 20 0 160 3 0 900 1002 0 0 0 0 5 9\n"
MAPS = """55d0a0000000-55d0a0001000 r--p 00000000 fe:00 131 /usr/bin/python3.11
7f0000000000-7f0080000000 r--s 00000000 fe:00 4242 /models/a model.gguf
7f0080000000-7f0080100000 r--s 40000000 fe:00 4242 /models/a model.gguf (deleted)
7f0090000000-7f0090100000 r--s 00000000 fe:01 4242 /other/disk.gguf
7ffc00000000-7ffc00021000 rw-p 00000000 00:00 0 [stack]
"""


def test_values_of_io() -> None:
    assert procfs.parse_values(IO)["read_bytes"] == 2147483648


def test_kilobytes_become_bytes_and_text_is_left_out() -> None:
    values = procfs.parse_values(STATUS)
    assert values["RssFile"] == 3079168 * 1024
    assert values["Threads"] == 5
    assert "Name" not in values and "State" not in values


def test_values_without_a_colon() -> None:
    assert procfs.parse_values("workingset_refault_file 530432\noom_kill 2\n") == {
        "workingset_refault_file": 530432,
        "oom_kill": 2,
    }


def test_process_stat_survives_brackets_in_the_name() -> None:
    assert procfs.parse_process_stat(STAT) == (303, 1325, 75, 5)


def test_cpu_counts_waiting_for_io_as_idle_and_guests_once() -> None:
    ticks = procfs.parse_cpu(CPU)
    assert ticks.total == 1000 + 20 + 300 + 8000 + 700 + 0 + 30 + 5
    assert ticks.busy == ticks.total - 8000 - 700


def test_pressure_and_disk() -> None:
    assert procfs.parse_pressure(PRESSURE) == 8816152
    assert procfs.parse_sectors_read(DISK) == 4194304 * 512


def test_mappings_are_found_by_device_and_inode() -> None:
    assert procfs.parse_mappings(MAPS, (0xFE, 0), 4242) == (
        Mapping(0x7F0000000000, 0x7F0080000000, 0),
        Mapping(0x7F0080000000, 0x7F0080100000, 0x40000000),
    )


@pytest.mark.parametrize(
    "parse", [procfs.parse_process_stat, procfs.parse_cpu, procfs.parse_pressure, procfs.parse_sectors_read]
)
@given(text=st.text())
def test_any_text_gives_a_value_or_value_error(parse, text: str) -> None:  # type: ignore[no-untyped-def]
    try:
        parse(text)
    except ValueError:
        return


@given(text=st.text())
def test_any_text_has_values(text: str) -> None:
    assert all(isinstance(value, int) for value in procfs.parse_values(text).values())


def test_a_kept_file_is_read_anew() -> None:
    kept = procfs.KeptFile("/proc/self/stat")
    before = procfs.parse_process_stat(kept.read())
    sum(range(20_000_000))
    after = procfs.parse_process_stat(kept.read())
    kept.close()
    kept.close()
    assert after.cpu_ticks > before.cpu_ticks
    with pytest.raises(OSError):
        kept.read()


def test_a_kept_file_of_a_process_that_ended_says_so() -> None:
    pid = os.fork()
    if pid == 0:
        signal.pause()
    kept = procfs.KeptFile(f"/proc/{pid}/stat")
    assert procfs.parse_process_stat(kept.read()).threads == 1
    os.kill(pid, 9)
    os.waitpid(pid, 0)
    with pytest.raises(ProcessLookupError):
        kept.read()

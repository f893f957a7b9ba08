"""Stacks of a real Python process, of a native one, and the reasons why there are none."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pagewise.instruments import stacks
from pagewise.instruments.folded import fold_perf, thread_ids
from pagewise.instruments.stacks import Ground, StacksError, explain, record_stacks, unseen_threads

WORK = """
import ctypes, sys, threading, zlib
data = bytes(1 << 22)
def deflate():
    zlib.compress(data, 6)
def work():
    print("up", flush=True)
    while True:
        deflate()
work()
"""
PERF = """\
llama-server   801
\t          1af854 ggml_vec_dot (/opt/lib/libggml-cpu.so)
\t    7f460d0129c0 ggml_graph_compute+0x1c (/opt/lib/libggml-cpu.so)
\t          22aa11 operator new(unsigned long) (/opt/llama server)

llama-server   801
\t          1af854 ggml_vec_dot (/opt/lib/libggml-cpu.so)
\t    7f460d0129c0 ggml_graph_compute (/opt/lib/libggml-cpu.so)
\t          22aa11 operator new(unsigned long) (/opt/llama server)

my thread   802
\t    7f460d0129c0 [unknown] ([unknown])

sleeper   803

"""
COMMAND = ["/opt/py-spy", "record", "--pid", "12"]


@contextlib.contextmanager
def started(*command: str) -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen(command, stdout=subprocess.PIPE)
    try:
        yield process
    finally:
        process.kill()
        process.wait()
        assert process.stdout is not None
        process.stdout.close()


def may_look() -> bool:
    """Whether py-spy may look into a process that it did not start."""
    with started(sys.executable, "-c", WORK) as process:
        assert process.stdout is not None and process.stdout.readline()
        command = [stacks.find_py_spy() or "py-spy", "dump", "--pid", str(process.pid)]
        return subprocess.run(command, capture_output=True, check=False).returncode == 0


@pytest.mark.skipif(stacks.find_py_spy() is None or not may_look(), reason="this system lets py-spy look at nobody")
async def test_a_python_process_with_its_native_frames() -> None:
    with started(sys.executable, "-c", WORK) as process:
        assert process.stdout is not None and process.stdout.readline()
        profile = await record_stacks(process.pid, 1.0)
    assert (profile.tool, profile.pid, profile.rate_hz) == ("py-spy", process.pid, 100)
    lines = profile.folded.splitlines()
    assert any("work (" in line and "deflate (" in line for line in lines)
    if profile.native:
        assert any("deflate (" in line and line.count("libz") for line in lines)
    assert 0.5 < profile.seconds <= 1.0
    assert profile.unseen_threads == 0 and profile.unseen_cores == 0.0
    assert thread_ids(profile.folded) == {process.pid}


async def test_a_process_that_is_not_there() -> None:
    with started(sys.executable, "-c", "") as process:
        process.wait()
    with pytest.raises(StacksError, match="There is no process"):
        await record_stacks(process.pid, 1.0)


async def test_a_native_process_gets_perf_or_its_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stacks, "RATE_HZ", 100)
    burner = shutil.which("md5sum")
    if burner is None or stacks.find_py_spy() is None:
        pytest.skip("no native program to burn time with")
    with started(burner, "/dev/zero") as process:
        try:
            profile = await record_stacks(process.pid, 1.0)
        except StacksError as error:
            assert "perf record" in error.next or "Install" in error.next or "py-spy" in error.next
        else:
            assert profile.tool == "perf" and "md5sum" in profile.folded


async def test_a_cancelled_recording_leaves_nothing_running() -> None:
    if stacks.find_py_spy() is None:
        pytest.skip("py-spy is not installed")

    def recorders() -> list[int]:
        found = []
        for entry in Path("/proc").iterdir():
            with contextlib.suppress(OSError):
                line = (entry / "cmdline").read_bytes() if entry.name.isdigit() else b""
                if f"--pid\0{process.pid}\0".encode() in line and b"py-spy" in line:
                    found.append(int(entry.name))
        return found

    with started(sys.executable, "-c", WORK) as process:
        assert process.stdout is not None and process.stdout.readline()
        task = asyncio.create_task(record_stacks(process.pid, 60.0))
        end = time.monotonic() + 20
        while not recorders() and not task.done():
            assert time.monotonic() < end
            await asyncio.sleep(0.01)
        task.cancel()
        with pytest.raises((asyncio.CancelledError, StacksError)):
            await task
        assert recorders() == []


def test_perf_stacks_are_folded_root_first() -> None:
    folded = fold_perf(PERF).splitlines()
    assert folded == [
        "thread (801): llama-server;operator new(unsigned long) (/opt/llama server);"
        "ggml_graph_compute (/opt/lib/libggml-cpu.so);ggml_vec_dot (/opt/lib/libggml-cpu.so) 2",
        "thread (802): my thread;[unknown] ([unknown]) 1",
    ]
    assert thread_ids(fold_perf(PERF)) == {801, 802}


@given(st.text(alphabet="ab;( )\t\n0x1+[]", max_size=300))
def test_any_text_folds(text: str) -> None:
    for line in fold_perf(text).splitlines():
        stack, _, number = line.rpartition(" ")
        assert stack and int(number) > 0


def test_threads_that_ran_unseen_are_counted() -> None:
    tick = os.sysconf("SC_CLK_TCK")
    before, after = {1: 0, 2: 10, 3: 5}, {1: tick, 2: 10 + 2 * tick, 3: 5, 4: tick}
    assert unseen_threads(before, after, frozenset({1}), 2.0) == (2, 1.5)
    assert unseen_threads(before, {}, frozenset(), 2.0) == (None, None)


DENIED = "Error: Permission Denied: Try running again with elevated permissions by going 'sudo env ...'"
HERE = Ground("Linux", None, False, True, False)


@pytest.mark.parametrize(
    ("ground", "why", "next"),
    [
        (HERE._replace(yama=1), "ptrace_scope is 1", "sudo sysctl kernel.yama.ptrace_scope=0"),
        (HERE._replace(yama=2), "ptrace_scope is 2", "sudo /opt/py-spy record --pid 12"),
        (HERE._replace(yama=3), "ptrace_scope is 3", "/etc/sysctl.d"),
        (HERE._replace(same_user=False, yama=1), "another user", "sudo /opt/py-spy record --pid 12"),
        (HERE._replace(in_container=True, is_root=True), "container", "--cap-add SYS_PTRACE"),
        (HERE._replace(system="Darwin"), "macOS", "sudo /opt/py-spy record --pid 12"),
        (HERE, "does not allow", "sudo /opt/py-spy record --pid 12"),
    ],
)
def test_a_missing_right_is_named_with_the_command_that_works(ground: Ground, why: str, next: str) -> None:
    error = explain(DENIED, ground, COMMAND)
    assert why in error.why and next in error.next


def test_other_reasons_are_passed_on() -> None:
    gone = explain("Error: Failed to open process 12\nCaused by: No such process", HERE, COMMAND)
    assert "ended" in gone.why
    other = explain("py-spy> Sampling\nError: Unsupported version of Python: 3.99.\n", HERE, COMMAND)
    assert other.why == "py-spy says: Unsupported version of Python: 3.99."

"""Page-ins of a real process, against a known number of bytes."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.instruments.dropped_file import _TOUCHER, Toucher, make_dropped_file

from pagewise.instruments.counters import Counters, rate
from pagewise.instruments.pagecache import Cachestat
from pagewise.instruments.paging import PagingInstrument

MIB = 1 << 20


def test_page_in_is_the_bytes_that_were_read(tmp_path: Path) -> None:
    path = make_dropped_file(tmp_path / "weights", 64 * MIB)
    with Toucher(path) as toucher:
        paging = PagingInstrument(toucher.pid, path)
        toucher.touch(0, 64 * MIB)
        reading = paging.sample()
        paging.close()
    assert reading.page_in_bytes_s is not None
    assert reading.page_in_bytes_s * reading.interval_s == pytest.approx(64 * MIB, rel=1e-3)


def test_stalls_count_pages_that_were_waited_for(tmp_path: Path) -> None:
    path = make_dropped_file(tmp_path / "weights", 16 * MIB)
    with Toucher(path, "random") as toucher:
        counters = Counters(toucher.pid, path)
        before = counters.read()
        toucher.touch(0, 16 * MIB, 64 * 1024)
        after = counters.read()
    assert before.major_faults is not None and after.major_faults is not None
    assert 256 <= after.major_faults - before.major_faults <= 256 + 8


def test_what_is_cached_is_not_paged_in(tmp_path: Path) -> None:
    path = make_dropped_file(tmp_path / "weights", 8 * MIB)
    with Toucher(path) as toucher:
        counters = Counters(toucher.pid, path)
        toucher.touch(0, 8 * MIB)
        before = counters.read()
        toucher.touch(0, 8 * MIB)
        after = counters.read()
    assert before.read_bytes == after.read_bytes


def test_the_disk_under_a_file_is_named(tmp_path: Path) -> None:
    device = tmp_path.stat().st_dev
    if not Path(f"/sys/dev/block/{os.major(device)}:{os.minor(device)}").exists():
        pytest.skip("the temporary folder is not on a block device")
    counters = Counters(os.getpid(), tmp_path)
    assert counters.disk is not None and (Path("/sys/block") / counters.disk).exists()
    assert counters.read().disk_read_bytes is not None


def test_a_process_that_has_ended_gives_none_with_the_reason() -> None:
    process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    counters = Counters(process.pid)
    assert counters.read().major_faults is not None
    process.kill()
    process.communicate()
    gone = counters.read()
    assert gone.read_bytes is None and gone.major_faults is None and gone.cpu_s is None
    assert {entry.metric: entry.why for entry in counters.missing}["read_bytes"] == "the process has ended"


def test_a_process_that_never_was_gives_none_with_the_reason() -> None:
    reading = PagingInstrument(2**22 + 1).sample()
    assert reading.page_in_bytes_s is None and reading.stalls_s is None
    assert {"page_in_bytes_s", "stalls_s"} <= {entry.metric for entry in reading.missing}


def test_rate_knows_what_it_does_not_know() -> None:
    assert rate(None, 5, 1.0) is None
    assert rate(5, 9, 0.0) is None
    assert rate(5, 9, 2.0) == 2.0
    assert rate(9, 5, 2.0) == 0.0


@contextlib.contextmanager
def memory_cgroup(limit: int) -> Iterator[Path]:
    """A memory cgroup of our own, of version 1 or 2; skips the test with the reason where none can be made."""
    first, second = Path("/sys/fs/cgroup/memory"), Path("/sys/fs/cgroup")
    top, name = (first, "memory.limit_in_bytes") if first.is_dir() else (second, "memory.max")
    folder = top / f"pagewise-{uuid.uuid4().hex[:8]}"
    try:
        folder.mkdir()
    except OSError as error:
        pytest.skip(f"no memory cgroup can be made here: {error}")
    try:
        try:
            (folder / name).write_text(str(limit))
        except OSError as error:
            pytest.skip(f"the memory of a cgroup cannot be limited here: {error}")
        yield folder
    finally:
        folder.rmdir()


def test_refaults_of_a_cyclic_scan_in_a_small_cgroup(tmp_path: Path) -> None:
    size = 96 * MIB
    with memory_cgroup(48 * MIB) as folder:
        path = make_dropped_file(tmp_path / "weights", size)
        enter = f"import os; open({str(folder / 'cgroup.procs')!r}, 'w').write(str(os.getpid()))\n"
        process = subprocess.Popen(
            [sys.executable, "-c", enter + _TOUCHER, str(path), "normal"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert process.stdin and process.stdout
        try:
            assert process.stdout.readline() == "ready\n"
            counters = Counters(process.pid, path)
            assert counters.refault_scope == "cgroup"

            def scan() -> None:
                assert process.stdin and process.stdout
                process.stdin.write(f"0 {size} 4096\n")
                process.stdin.flush()
                assert process.stdout.readline() == "touched\n"

            scan()
            before = counters.read()
            scan()
            after = counters.read()
            evicted = Cachestat(path).pages(0, size).reclaimed
        finally:
            process.kill()
            process.communicate()
    assert before.refault_bytes is not None and after.refault_bytes is not None
    assert after.refault_bytes - before.refault_bytes >= size // 2
    assert before.read_bytes is not None and after.read_bytes is not None
    assert after.read_bytes - before.read_bytes >= size // 2
    assert evicted is not None and evicted > 0

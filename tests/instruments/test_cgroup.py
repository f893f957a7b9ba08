"""Finding the memory cgroup in both versions, inside and outside of containers."""

from __future__ import annotations

from pathlib import Path

import pytest

from pagewise.instruments.cgroup import MemoryCgroup, locate, refaulted_pages

V1_MEMBERS = "5:devices:/\n4:memory:/jobs/a\n0::/\n"
V2_MEMBERS = "0::/user.slice/session-3.scope\n"
NO_LIMIT_V1 = "9223372036854771712\n"


def write(folder: Path, **files: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (folder / name.replace("__", ".")).write_text(text)
    return folder


def mounts(kind: str, root: str, where: Path, options: str) -> str:
    tmpfs = "31 23 0:28 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755"
    return f"{tmpfs}\n35 31 0:32 {root} {where} rw,relatime shared:9 - {kind} cgroup rw,{options}\n"


def test_version_1_with_limit_above(tmp_path: Path) -> None:
    write(tmp_path, memory__limit_in_bytes=NO_LIMIT_V1)
    write(tmp_path / "jobs", memory__limit_in_bytes="1073741824\n")
    own = write(
        tmp_path / "jobs" / "a",
        memory__limit_in_bytes=NO_LIMIT_V1,
        memory__oom_control="oom_kill_disable 0\nunder_oom 0\noom_kill 3\n",
        memory__stat="workingset_refault_file 7\ntotal_workingset_refault_file 9\n",
    )
    found = locate(V1_MEMBERS, mounts("cgroup", "/", tmp_path, "memory"))
    assert found == MemoryCgroup(1, own, tmp_path)
    assert found.limit_bytes() == 1073741824
    assert found.oom_kills() == 3
    assert found.refault_source() == own / "memory.stat"
    assert found.pressure_source("io") is None


def test_version_2(tmp_path: Path) -> None:
    own = write(
        tmp_path / "user.slice" / "session-3.scope",
        memory__max="max\n",
        memory__events="low 0\noom 1\noom_kill 1\n",
        memory__stat="workingset_refault_anon 1\nworkingset_refault_file 12\n",
        io__pressure="some avg10=0.00 avg60=0.00 avg300=0.00 total=5\n",
    )
    write(tmp_path / "user.slice", memory__max="2147483648\n")
    found = locate(V2_MEMBERS, mounts("cgroup2", "/", tmp_path, "nsdelegate"))
    assert found == MemoryCgroup(2, own, tmp_path)
    assert found.limit_bytes() == 2147483648
    assert found.oom_kills() == 1
    assert found.pressure_source("io") == own / "io.pressure"
    assert found.pressure_source("memory") is None


def test_container_that_sees_its_own_cgroup_as_the_mount(tmp_path: Path) -> None:
    write(tmp_path, memory__limit_in_bytes="536870912\n")
    found = locate("4:memory:/docker/abc\n", mounts("cgroup", "/docker/abc", tmp_path, "memory"))
    assert found is not None and found.path == tmp_path and found.limit_bytes() == 536870912


def test_path_of_the_outside_that_is_not_there(tmp_path: Path) -> None:
    found = locate("0::/../../elsewhere\n", mounts("cgroup2", "/", tmp_path, "rw"))
    assert found is not None and found.path == tmp_path
    assert found.limit_bytes() is None and found.oom_kills() is None and found.refault_source() is None


def test_no_memory_controller() -> None:
    assert locate("1:cpu:/\n", "31 23 0:28 / /sys/fs/cgroup rw - tmpfs tmpfs rw\n") is None


def test_mount_point_with_a_blank(tmp_path: Path) -> None:
    folder = write(tmp_path / "c group", memory__max="4096\n")
    found = locate("0::/\n", mounts("cgroup2", "/", tmp_path, "rw").replace(str(tmp_path), f"{tmp_path}/c\\040group"))
    assert found is not None and found.path == folder and found.limit_bytes() == 4096


@pytest.mark.parametrize(
    ("text", "pages"),
    [
        ("workingset_refault_file 5\ntotal_workingset_refault_file 8\n", 8),
        ("workingset_refault 4\n", 4),
        ("pgfault 4\n", None),
    ],
)
def test_refaulted_pages(text: str, pages: int | None) -> None:
    assert refaulted_pages(text) == pages

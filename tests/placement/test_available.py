from __future__ import annotations

from pathlib import Path

import pytest

from pagewise.placement.available import Account, memory_accounts, room_for_file

MIB = 1024 * 1024


def group(folder: Path, version: int, limit: str, usage: int, active: int, inactive: int) -> Account:
    names = ("memory.limit_in_bytes", "memory.usage_in_bytes") if version == 1 else ("memory.max", "memory.current")
    folder.mkdir(parents=True, exist_ok=True)
    (folder / names[0]).write_text(f"{limit}\n")
    (folder / names[1]).write_text(f"{usage}\n")
    prefix = "total_" if version == 1 else ""
    text = f"cache 7\n{prefix}active_file {active}\n{prefix}inactive_file {inactive}\n"
    (folder / "memory.stat").write_text(("active_file 1\ninactive_file 1\n" if version == 1 else "") + text)
    return Account(folder, *names)


@pytest.fixture
def meminfo(tmp_path: Path) -> Path:
    path = tmp_path / "meminfo"
    path.write_text("MemTotal:       1048576 kB\nMemFree: 1 kB\nMemAvailable:    917504 kB\nHugePages_Total: 0\n")
    return path


@pytest.mark.parametrize("version", [1, 2])
def test_room_is_the_limit_less_what_is_not_page_cache(tmp_path: Path, meminfo: Path, version: int) -> None:
    account = group(tmp_path / "g", version, str(500 * MIB), 450 * MIB, 300 * MIB, 50 * MIB)
    room = room_for_file((account,), meminfo)
    assert room is not None
    assert 370 * MIB <= room < 400 * MIB


@pytest.mark.parametrize(("version", "unlimited"), [(1, "9223372036854771712"), (2, "max")])
def test_without_a_limit_the_box_decides(tmp_path: Path, meminfo: Path, version: int, unlimited: str) -> None:
    account = group(tmp_path / "g", version, unlimited, 450 * MIB, 0, 0)
    room = room_for_file((account,), meminfo)
    assert room == room_for_file((), meminfo)
    assert room is not None
    assert 600 * MIB <= room < 896 * MIB


@pytest.mark.parametrize("hard", [str(900 * MIB), "max"])
def test_the_soft_limit_of_version_2_counts(tmp_path: Path, meminfo: Path, hard: str) -> None:
    account = group(tmp_path / "g", 2, hard, 450 * MIB, 300 * MIB, 50 * MIB)
    (account.folder / "memory.high").write_text(f"{500 * MIB}\n")
    room = room_for_file((account,), meminfo)
    assert room is not None and 370 * MIB <= room < 400 * MIB
    (account.folder / "memory.high").write_text("max\n")
    assert room_for_file((account,), meminfo) != room


def test_the_tightest_of_nested_groups_decides(tmp_path: Path, meminfo: Path) -> None:
    outer = group(tmp_path / "o", 2, str(200 * MIB), 100 * MIB, 10 * MIB, 0)
    inner = group(tmp_path / "o/i", 2, str(500 * MIB), 100 * MIB, 10 * MIB, 0)
    assert room_for_file((inner, outer), meminfo) == room_for_file((outer,), meminfo)


def test_room_is_never_negative(tmp_path: Path, meminfo: Path) -> None:
    assert room_for_file((group(tmp_path / "g", 2, str(5 * MIB), 5 * MIB, 0, 0),), meminfo) == 0


def test_a_system_that_does_not_say_has_no_room_to_tell(tmp_path: Path) -> None:
    assert room_for_file((), tmp_path / "missing") is None


def test_accounts_of_both_versions_with_those_above(tmp_path: Path) -> None:
    first = memory_accounts("9:pids:/x\n4:cpu,memory:/a/b\n0::/\n", tmp_path)
    top = tmp_path / "memory"
    assert [account.folder for account in first] == [top / "a/b", top / "a", top, tmp_path]
    second = memory_accounts("0::/u/s\n", tmp_path)
    assert [account.folder for account in second] == [tmp_path / "u/s", tmp_path / "u", tmp_path]
    assert second[0].limit_name == "memory.max"
    assert memory_accounts("nonsense\n", tmp_path) == ()

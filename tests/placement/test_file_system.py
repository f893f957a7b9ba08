from __future__ import annotations

import sys
from pathlib import Path

import pytest

from pagewise.placement import file_system
from pagewise.placement.file_system import file_system_number, not_steerable

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="Linux only")
TMPFS, PROC = 0x01021994, 0x9FA0


def test_the_number_of_a_file_system() -> None:
    assert file_system_number(Path("/proc/self/maps")) == PROC
    if Path("/dev/shm").is_dir():
        assert file_system_number(Path("/dev/shm")) == TMPFS
        assert not_steerable(Path("/dev/shm")) == "tmpfs"
    assert file_system_number(Path("/nowhere/at/all")) is None
    assert not_steerable(Path("/nowhere/at/all")) == ""


@pytest.mark.parametrize(("number", "name"), [(0x6969, "NFS"), (0x65735546, "a FUSE file system"), (0xEF53, "")])
def test_network_file_systems_are_named(monkeypatch: pytest.MonkeyPatch, number: int, name: str) -> None:
    monkeypatch.setattr(file_system, "file_system_number", lambda path: number)
    assert not_steerable(Path("/models/a.gguf")) == name

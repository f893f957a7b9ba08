"""Files that have no name until they are whole."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest

from pagewise.unnamed import UnnamedFile, remove_left


@pytest.fixture(params=["without names", "with names"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    if request.param == "with names":
        real = os.open

        def refusing(path: os.PathLike[str] | str, flags: int, *rest: int, **more: int) -> int:
            if flags & os.O_TMPFILE == os.O_TMPFILE and Path(path).is_dir():
                raise OSError(errno.EOPNOTSUPP, "no such files here")
            return real(path, flags, *rest, **more)

        monkeypatch.setattr(os, "open", refusing)
    return str(request.param)


def test_it_gets_its_name_at_the_end(tmp_path: Path, way: str) -> None:
    target = tmp_path / "whole.bin"
    with UnnamedFile(tmp_path, target.name) as file:
        file.path.write_bytes(b"content" * 1000)
        assert not target.exists() and file.bytes >= 7000
        assert all(path.name.endswith(".part") for path in tmp_path.iterdir())
        file.become(target)
    assert target.read_bytes() == b"content" * 1000
    assert [path.name for path in tmp_path.iterdir()] == ["whole.bin"]


def test_a_former_file_is_replaced_in_one_step(tmp_path: Path, way: str) -> None:
    target = tmp_path / "whole.bin"
    target.write_bytes(b"former")
    with UnnamedFile(tmp_path, target.name) as file:
        file.path.write_bytes(b"new")
        file.become(target)
    assert target.read_bytes() == b"new" and len(list(tmp_path.iterdir())) == 1


def test_what_is_given_up_is_gone(tmp_path: Path, way: str) -> None:
    with pytest.raises(KeyError), UnnamedFile(tmp_path, "x") as file:
        file.path.write_bytes(b"half")
        raise KeyError
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_is_not_there(tmp_path: Path, way: str) -> None:
    with pytest.raises(FileNotFoundError):
        UnnamedFile(tmp_path / "nowhere", "x")


PROGRAM = """
import os, signal, sys
from pathlib import Path
if sys.argv[2] == "with names":
    del os.O_TMPFILE
from pagewise.unnamed import UnnamedFile
file = UnnamedFile(Path(sys.argv[1]), "x")
file.path.write_bytes(b"half")
os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.parametrize("named", ["without names", "with names"])
def test_what_a_killed_program_leaves(tmp_path: Path, named: str) -> None:
    program = subprocess.Popen([sys.executable, "-c", PROGRAM, str(tmp_path), named])
    assert program.wait() == -9
    assert len(list(tmp_path.iterdir())) == (named == "with names")
    remove_left(tmp_path / "x", program.pid)
    assert list(tmp_path.iterdir()) == []

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from tests.monitor.holder import held_by
from tests.synthetic import make_model

from pagewise.monitor.processes import Finder, Found, started


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A file of this test's own, under a name that says nothing, as Ollama's have."""
    return Path(shutil.copy(make_model(), tmp_path / "sha256-0123"))


def found(pid: int, finder: Finder | None = None) -> Found | None:
    return next((one for one in (finder or Finder()).look().found if one.id.pid == pid), None)


def test_a_mapping_is_found_whatever_the_file_is_called(model: Path) -> None:
    with held_by("map", model) as process:
        one = found(process.pid)
    assert one is not None
    (holding,) = one.holdings
    assert (holding.file.path, holding.file.state, holding.file.bytes) == (str(model), "present", model.stat().st_size)
    assert "mapping" in holding.found_by
    assert holding.mapped_bytes >= model.stat().st_size


def test_an_open_file_is_found(model: Path) -> None:
    with held_by("open", model) as process:
        one = found(process.pid)
    assert one is not None
    assert [holding.found_by for holding in one.holdings] == [("open file",)]


def test_a_file_that_is_only_written_is_no_model_in_use(model: Path) -> None:
    with held_by("write", model) as process:
        assert found(process.pid) is None


def test_a_model_argument_is_found_and_one_that_is_no_model_is_not(model: Path, tmp_path: Path) -> None:
    text = tmp_path / "notes.gguf"
    text.write_text("not a model")
    with held_by(
        "copy", model, ["--model", str(model), "-m", str(text), "-md", str(tmp_path / "none.gguf")]
    ) as process:
        one = found(process.pid)
    assert one is not None
    assert [(holding.file.path, holding.found_by) for holding in one.holdings] == [(str(model), ("command line",))]


def test_a_relative_model_argument_is_read_from_where_the_process_is(model: Path) -> None:
    with held_by("name", "x", ["-m", model.name], cwd=model.parent) as process:
        one = found(process.pid)
    assert one is not None
    assert one.holdings[0].file.path == str(model)


def test_another_kind_of_file_is_not_taken_for_a_model(tmp_path: Path) -> None:
    other = tmp_path / "data.gguf"
    other.write_bytes(b"ZIP!" + bytes(8192))
    with held_by("map", other) as process:
        assert found(process.pid) is None


def test_a_deleted_file_is_still_held_and_can_still_be_read(model: Path) -> None:
    with held_by("open", model) as process:
        model.unlink()
        one = found(process.pid)
        assert one is not None
        file = one.holdings[0].file
        assert (file.path, file.state) == (str(model), "deleted")
        assert file.readable is not None
        assert file.readable.read_bytes()[:4] == b"GGUF"


@pytest.mark.parametrize("replaced", [False, True])
def test_a_mapped_file_that_was_deleted_is_said_to_be_with_and_without_the_right_to_read_it(
    model: Path, replaced: bool
) -> None:
    named = model.rename(model.with_suffix(".gguf"))
    size = named.stat().st_size
    with held_by("bare", named) as process:
        named.unlink()
        if replaced:
            named.write_bytes(b"GGUF")
        one = found(process.pid)
    assert one is not None
    (holding,) = one.holdings
    assert (holding.file.state, holding.found_by) == ("replaced" if replaced else "deleted", ("mapping",))
    assert holding.file.bytes in (size, None)
    assert holding.mapped_bytes >= size


def test_a_replaced_file_is_not_mistaken_for_the_one_that_took_its_name(model: Path) -> None:
    finder = Finder()
    with held_by("open", model) as process:
        before = found(process.pid, finder)
        new = model.with_name("new")
        new.write_bytes(b"GGUF, another one")
        new.replace(model)
        after = found(process.pid, finder)
        assert before is not None
        assert after is not None
        assert (before.holdings[0].file.state, after.holdings[0].file.state) == ("present", "replaced")
        assert after.holdings[0].file.identity == before.holdings[0].file.identity
        assert after.holdings[0].file.bytes == before.holdings[0].file.bytes


def test_a_process_that_has_ended_is_found_no_more(model: Path) -> None:
    finder = Finder()
    with held_by("map", model) as process:
        one = found(process.pid, finder)
    assert one is not None
    assert found(process.pid, finder) is None
    assert started(process.pid) != one.id.started


def test_a_model_that_is_mapped_later_is_found_by_the_same_finder(model: Path) -> None:
    program = "import mmap,sys; sys.stdin.readline(); f=open(sys.argv[1],'rb'); m=mmap.mmap(f.fileno(),0,prot=1); "
    program += "f.close(); m[0]; print('mapped',flush=True); sys.stdin.read()"
    process = subprocess.Popen(
        [sys.executable, "-c", program, str(model)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdin is not None
    assert process.stdout is not None
    finder = Finder()
    try:
        assert found(process.pid, finder) is None
        process.stdin.write("\n")
        process.stdin.flush()
        process.stdout.readline()
        assert found(process.pid, finder) is not None
    finally:
        process.communicate()


def test_what_launches_a_model_does_not_hold_it(model: Path) -> None:
    launcher = "import subprocess,sys; subprocess.run([sys.executable, *sys.argv[1:]])"
    holder = str(Path(__file__).with_name("holder.py"))
    process = subprocess.Popen(
        [sys.executable, "-c", launcher, holder, "map", str(model), "-m", str(model)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    try:
        assert process.stdout.readline() == "ready\n"
        holders = [one.id.pid for one in Finder().look().found if any(h.file.path == str(model) for h in one.holdings)]
        assert len(holders) == 1
        assert process.pid not in holders
    finally:
        process.communicate()


def test_a_shell_that_passes_the_argument_on_does_not_hold_it(model: Path) -> None:
    command = ["sh", "-c", "echo ready; read x", "sh", "-m", str(model)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as shell:
        assert shell.stdin is not None and shell.stdout is not None
        assert shell.stdout.readline() == "ready\n"
        found = {one.id.pid for one in Finder().look().found}
        shell.stdin.close()
        shell.wait(20)
    assert shell.pid not in found


def test_one_process_that_was_asked_for_is_reported_without_a_model() -> None:
    with held_by("name", "nothing") as process:
        round = Finder(process.pid).look()
    assert [(one.id.pid, one.holdings) for one in round.found] == [(process.pid, ())]


@pytest.mark.skipif(os.geteuid() != 0, reason="becoming another user takes root")
def test_without_rights_the_command_line_still_tells_and_the_right_is_named(model: Path) -> None:
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        readable = Path(shutil.copy(model, folder))
        readable.chmod(0o644)
        with held_by("map", readable, ["-m", str(readable)]) as process:
            ways, missing, why = as_nobody(process.pid)
    assert (ways, missing) == (["command line"], ["mappings", "open files"])
    assert f"sudo pagewise monitor --pid {process.pid}" in why


def as_nobody(pid: int) -> tuple[list[str], list[str], str]:
    """What a user without rights finds of a process: ways, what is missing, and why."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.setgroups([])
            os.setgid(65534)
            os.setuid(65534)
            one = found(pid)
            assert one is not None
            answer = (one.holdings[0].found_by, [entry.metric for entry in one.missing], one.missing[0].why)
            os.write(writer, json.dumps(answer).encode())
        finally:
            os._exit(0)
    os.close(writer)
    with os.fdopen(reader) as answered:
        ways, missing, why = json.load(answered)
    os.waitpid(child, 0)
    return ways, missing, why

"""What is decided before a load, and the load itself."""

from __future__ import annotations

import mmap
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from tests.engine.harness import EngineProcess, profile
from tests.synthetic import make_model

from pagewise.engine import foreseen
from pagewise.engine.dead_pages import drop_copied
from pagewise.engine.foreseen import foresee
from pagewise.engine.llamacpp.model import open_model_file
from pagewise.messages import Streamed
from pagewise.placement.file_system import not_steerable
from pagewise.placement.pages import MappedFile
from pagewise.settings import Keep

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="Linux only")
KEPT = Keep("16MiB")
MIB = 1 << 20


@pytest.fixture(scope="module")
def model() -> Path:
    path = make_model(n_layer=8, n_embd=512, n_ff=2048, n_head=8, n_head_kv=2, n_vocab=1024)
    if not_steerable(path):
        pytest.skip("the temporary folder is on a file system that keeps its pages")
    return path


@pytest.fixture
def own(model: Path, tmp_path: Path) -> Path:
    """A copy that no other engine has mapped; its pages may not be on the disk yet."""
    return Path(shutil.copy(model, tmp_path / "own.gguf"))


def test_a_model_that_fits_is_left_as_it_is(model: Path) -> None:
    wanted = profile(model)
    assert foresee(open_model_file(model), wanted) == (wanted, False, False, False, ())


def test_a_model_that_does_not_fit_is_not_repacked_and_not_read(model: Path) -> None:
    found = foresee(open_model_file(model), profile(model, placement=KEPT, repack="on"))
    assert found.streams and found.unread and not found.locks
    assert found.profile.repack == "off"
    assert any("not repacked" in note for note in found.notes)


def test_of_a_model_that_was_to_be_locked_what_is_kept_is_locked(shared: EngineProcess, model: Path) -> None:
    found = foresee(open_model_file(model), profile(model, placement=KEPT, load_mode="mlock"))
    assert found.streams and found.locks
    assert found.profile.load_mode == "mmap"
    loaded = shared.load(profile(model, placement=KEPT, load_mode="mlock"))
    assert any("what is kept of it is" in note for note in loaded.model.notes)
    ours = shared.generate("hello").ids
    told = [event.streaming for event in shared.seen if isinstance(event, Streamed)]
    assert told[-1].streamed_bytes
    shared.load(profile(model, placement="off"))
    assert shared.generate("hello").ids == ours


def test_a_batch_that_the_profile_names_stays(model: Path) -> None:
    found = foresee(open_model_file(model), profile(model, placement=KEPT, n_ubatch=128))
    assert found.profile.n_ubatch == 128


def test_on_a_network_file_system_nothing_is_streamed_and_it_is_said(
    monkeypatch: pytest.MonkeyPatch, model: Path
) -> None:
    monkeypatch.setattr(foreseen, "not_steerable", lambda path: "NFS")
    found = foresee(open_model_file(model), profile(model, placement=KEPT))
    assert not found.streams
    assert "NFS" in found.notes[0] and "local disk" in found.notes[0]


def test_on_macos_nothing_is_streamed_and_it_is_said(monkeypatch: pytest.MonkeyPatch, model: Path) -> None:
    monkeypatch.setattr(foreseen.sys, "platform", "darwin")
    monkeypatch.setattr(foreseen, "room_for_file", lambda: None)
    found = foresee(open_model_file(model), profile(model, placement=KEPT))
    assert not found.streams
    assert "Linux alone" in found.notes[0]


def test_a_file_that_another_program_holds_is_left_to_the_kernel_and_it_is_said(
    engine: EngineProcess, model: Path
) -> None:
    hold = "import mmap, sys; f = open(sys.argv[1], 'rb'); m = mmap.mmap(f.fileno(), 0, prot=mmap.PROT_READ)\n"
    hold += "sum(m[::4096]); print(flush=True); sys.stdin.read()"
    with subprocess.Popen(
        [sys.executable, "-c", hold, str(model)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as other:
        assert other.stdin is not None and other.stdout is not None
        other.stdout.readline()
        engine.load(profile(model, placement=KEPT))
        ours = engine.generate("hello").ids
        other.stdin.close()
    notices = [event.failure for event in engine.seen if type(event).__name__ == "Notice"]
    said = next(failure for failure in notices if "cannot be streamed" in failure.what)
    assert "another program" in said.why and "End the program" in said.next
    engine.load(profile(model, placement="off"))
    assert engine.generate("hello").ids == ours


def test_a_load_that_is_to_be_streamed_does_not_read_the_file(engine: EngineProcess, own: Path) -> None:
    with own.open("rb") as stream, mmap.mmap(stream.fileno(), 0, prot=mmap.PROT_READ):
        file = MappedFile(own)
        file.steer()
        gone = file.gives_back(0, own.stat().st_size)
        file.close()
    assert gone
    engine.hello()
    engine.load(profile(own, placement=KEPT))
    io = Path(f"/proc/{engine.process.pid}/io").read_text()
    read = next(int(line.split()[1]) for line in io.splitlines() if line.startswith("read_bytes"))
    # The header, and what is to be kept, which is read from then on.
    assert read < KEPT.bytes + 24 * MIB < own.stat().st_size


def test_pages_of_weights_that_were_copied_are_given_back(own: Path) -> None:
    file = open_model_file(own)
    with own.open("rb") as stream:
        os.fsync(stream.fileno())
    with own.open("rb") as stream, mmap.mmap(stream.fileno(), 0, prot=mmap.PROT_READ) as view:
        before = hash(view[:])
        names = [tensor.name for tensor in file.header.tensors]
        homes = {name: "copied" if name.startswith("blk.") else "mapped" for name in names}
        drop_copied(file, homes)  # type: ignore[arg-type]
        mapped = MappedFile(own)
        copied = [tensor for tensor in file.header.tensors if tensor.name.startswith("blk.")]
        size = sum(tensor.bytes for tensor in copied)
        left = mapped.cached(min(t.start for t in copied), max(t.end for t in copied) - min(t.start for t in copied))
        mapped.close()
        assert left < size // 4
        assert hash(view[:]) == before

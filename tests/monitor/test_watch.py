from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.instruments.fake_nvml import FakeNvml
from tests.monitor.fake_server import llama_server, serving
from tests.monitor.holder import held_by
from tests.monitor.sparse import sparse_model
from tests.synthetic import make_model

from pagewise.app.monitor.strip import draw_model
from pagewise.app.monitor.watched import Box
from pagewise.commands.monitor_table import table
from pagewise.instruments.devices import DevicesInstrument, Shares
from pagewise.instruments.nvidia import NvidiaInstrument
from pagewise.instruments.residency import BUDGET_MS_PER_S
from pagewise.models.gguf import GgufError
from pagewise.monitor import watch as watching
from pagewise.monitor.choice import Choice, ChoiceError
from pagewise.monitor.command_line import parse_command_line
from pagewise.monitor.exposition import exposition
from pagewise.monitor.files import GgufFile
from pagewise.monitor.processes import Found, Holding, ProcessId
from pagewise.monitor.watch import Watch
from pagewise.readings import MonitorSample, WatchedModel


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return Path(shutil.copy(make_model(), tmp_path / "some-model.gguf"))


@pytest.fixture(autouse=True)
def others_of_this_box_take_no_place(monkeypatch: pytest.MonkeyPatch) -> None:
    """Larger models that happen to run here must not leave those of a test without full readings."""
    monkeypatch.setattr(watching, "MOST_IN_FULL", 100)


@contextlib.contextmanager
def watched(choice: Choice | None = None) -> Iterator[Watch]:
    watch = Watch(choice or Choice())
    try:
        yield watch
    finally:
        watch.close()


def of(sample: MonitorSample, pid: int | None) -> WatchedModel:
    return next(model for model in sample.models if model.pid == pid)


def why(model: WatchedModel, metric: str) -> str:
    return next((entry.why for entry in model.missing if entry.metric == metric), "")


def test_a_mapped_model_is_read_by_layer(model: Path) -> None:
    with held_by("map", model) as process, watched() as watch:
        watch.sample()
        one = of(watch.sample(), process.pid)
    assert (one.program, one.state, one.models[0].held) == ("llama-server", "running", "mapped")
    assert (one.models[0].name, one.models[0].quant, one.models[0].n_layer) == ("synthetic llama", "F16", 4)
    assert [layer.name for layer in one.residency[0].layers] == ["input", "0", "1", "2", "3", "output"]
    assert {layer.where for layer in one.residency[0].layers} == {"mapped"}
    assert one.rss_bytes is not None
    assert one.file_bytes is not None
    assert one.threads == 1
    assert one.cpu_pct is not None
    assert one.paging is not None


def test_a_copied_model_says_so_and_its_layers_have_no_place_in_the_cache(tmp_path: Path) -> None:
    large = make_model(n_embd=512, n_ff=2048, n_vocab=4096)
    with held_by("copy", large, ["-m", str(large), "--no-mmap"]) as process, watched() as watch:
        one = of(watch.sample(), process.pid)
    assert (one.models[0].held, one.models[0].found_by) == ("copied", ("command line",))
    assert {(layer.where, layer.cached_bytes) for layer in one.residency[0].layers} == {("copied", None)}


def test_how_a_model_is_held_may_stay_unknown(model: Path) -> None:
    large = make_model(n_embd=512, n_ff=2048, n_vocab=4096)
    with held_by("name", large, ["-m", str(large)]) as process, watched() as watch:
        assert of(watch.sample(), process.pid).models[0].held == "unknown"


def test_layers_that_were_unmapped_are_not_called_mapped(tmp_path: Path) -> None:
    program = tmp_path / "half.py"
    large = make_model(n_embd=512, n_ff=2048, n_vocab=4096)
    program.write_text(
        "import mmap,sys\nf=open(sys.argv[2],'rb')\n"
        "half=mmap.mmap(f.fileno(), 1<<20, prot=mmap.PROT_READ)\nprint('ready',flush=True)\nsys.stdin.read()\n"
    )
    with held_by("map", large, script=program) as process, watched() as watch:
        layers = of(watch.sample(), process.pid).residency[0].layers
    assert layers[-1].where == "unknown"


def test_a_process_that_ends_is_said_once_and_then_gone(model: Path) -> None:
    with watched() as watch:
        with held_by("map", model) as process:
            assert of(watch.sample(), process.pid).state == "running"
        ended = of(watch.sample(), process.pid)
        assert (ended.state, ended.models[0].path) == ("ended", str(model))
        assert process.pid not in [one.pid for one in watch.sample().models]


def test_others_that_come_and_go_leave_no_gap_in_what_is_known(model: Path) -> None:
    with held_by("map", model) as process, watched() as watch:
        watch.sample()
        assert of(watch.sample(), process.pid).paging is not None
        with held_by("map", model) as other:
            watch.scan_soon()
            sample = watch.sample()
            assert of(sample, other.pid).state == "running"
            one = of(sample, process.pid)
            assert one.paging is not None and one.paging.page_in_bytes_s is not None
            assert one.residency[0].file_cached_bytes is not None
        watch.scan_soon()
        assert of(watch.sample(), process.pid).paging is not None


def test_a_large_model_gets_more_of_the_time_for_residency_and_none_gets_nothing() -> None:
    file = GgufFile("a", None, None, 9 << 30, "present")
    command = parse_command_line(["llama-server"])
    large = Found(ProcessId(1, 1), 0, 0, command, (Holding(file, (), ()),), (), ())
    small = large._replace(id=ProcessId(2, 1), holdings=(Holding(file._replace(bytes=1 << 30), (), ()),))
    empty = large._replace(id=ProcessId(3, 1), holdings=())
    budgets = watching._budgets([large, small, empty])
    assert sum(budgets.values()) == pytest.approx(BUDGET_MS_PER_S)
    assert budgets[large.id] > 2 * budgets[small.id] > 0 and budgets[empty.id] > 0
    assert watching._budgets([]) == {} and watching._budgets([empty]) == {empty.id: BUDGET_MS_PER_S}


def test_a_process_of_which_only_the_exit_status_is_left_has_ended(model: Path) -> None:
    with held_by("map", model) as process, watched() as watch:
        watch.sample()
        process.kill()
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        assert of(watch.sample(), process.pid).state == "ended"


def test_a_number_that_is_used_again_is_another_process(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with held_by("map", model) as process, watched() as watch:
        first = of(watch.sample(), process.pid)
        (tracked,) = [entry for entry in watch._tracked.values() if entry.found.id.pid == process.pid]
        earlier = tracked.found.id._replace(started=tracked.found.id.started - 1)
        # As if the round had seen the process that had this number before.
        tracked.found = tracked.found._replace(id=earlier)
        gone = of(watch.sample(), process.pid)
        assert (gone.state, gone.started_ticks) == ("ended", earlier.started)
        watch.scan_soon()
        assert of(watch.sample(), process.pid).started_ticks == first.started_ticks


@pytest.mark.parametrize("replaced", [False, True])
def test_a_file_that_was_deleted_or_replaced_is_still_the_one_that_is_read(model: Path, replaced: bool) -> None:
    size = model.stat().st_size
    with held_by("open", model) as process, watched() as watch:
        watch.sample()
        model.unlink()
        if replaced:
            model.write_bytes(b"GGUF" + bytes(100))
        watch.scan_soon()
        one = of(watch.sample(), process.pid)
    held = one.models[0]
    assert (held.file, held.file_bytes) == ("replaced" if replaced else "deleted", size)
    assert "still holds" in held.missing[0].why
    assert one.residency[0].file_bytes == size


def test_a_damaged_header_is_a_reason_and_no_traceback(tmp_path: Path) -> None:
    damaged = tmp_path / "damaged.gguf"
    damaged.write_bytes(b"GGUF\x03\0\0\0" + b"\xff" * 100)
    with held_by("map", damaged) as process, watched() as watch:
        one = of(watch.sample(), process.pid)
    assert one.residency == ()
    assert "damaged" in one.models[0].missing[0].why
    assert "damaged" in why(one, "residency")


def test_the_parts_of_a_split_model_are_one(tmp_path: Path) -> None:
    parts = [Path(shutil.copy(make_model(), tmp_path / f"m-{n:05d}-of-00002.gguf")) for n in (1, 2)]
    program = tmp_path / "both.py"
    program.write_text(
        "import sys\nheld=[open(n,'rb') for n in sys.argv[2:]]\nprint('ready',flush=True)\nsys.stdin.read()\n"
    )
    with held_by("open", parts[0], [str(parts[1])], script=program) as process, watched() as watch:
        one = of(watch.sample(), process.pid)
    assert [held.path for held in one.models] == [str(parts[0])]
    assert one.models[0].file_bytes == sum(part.stat().st_size for part in parts)


def test_many_processes_are_all_shown_and_the_largest_read_in_full(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watching, "MOST_IN_FULL", 3)
    with contextlib.ExitStack() as stack:
        pids = {stack.enter_context(held_by("map", model)).pid for _ in range(6)}
        large = sparse_model(tmp_path / "large.gguf", 1 << 38)
        biggest = stack.enter_context(held_by("map", large)).pid
        descriptors = _files_open()
        watch = stack.enter_context(watched(Choice(file=None)))
        watch.sample()
        sample = watch.sample()
        mine = [one for one in sample.models if one.pid in pids | {biggest}]
        assert len(mine) == 7
        # Others of this box may be among the three, and may have ended or begun meanwhile.
        assert 1 <= sum(one.paging is not None for one in sample.models) <= 3
        assert of(sample, biggest).paging is not None
        (light, *_) = [one for one in mine if one.paging is None]
        assert light.rss_bytes is not None
        assert "--pid" in why(light, "paging")
        watch.close()
        assert _files_open() <= descriptors


def _files_open() -> int:
    """Without sockets: a server of this box may just be asked, in a thread of its own."""
    entries = [entry for entry in Path("/proc/self/fd").iterdir() if entry.is_symlink()]
    return sum(not str(entry.readlink()).startswith("socket:") for entry in entries)


MANY = 200
_FORKING = """
import mmap, os, sys
file = open(sys.argv[2], "rb")
mapping = mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ)
for _ in range(int(sys.argv[3])):
    if os.fork() == 0:
        sys.stdin.read()
        os._exit(0)
print("ready", flush=True)
sys.stdin.read()
for _ in range(int(sys.argv[3])):
    os.wait()
"""


def test_two_hundred_processes_are_shown_and_each_end_is_said_once(model: Path, tmp_path: Path) -> None:
    program = tmp_path / "forking.py"
    program.write_text(_FORKING)
    with watched(Choice(file=model)) as watch:
        with held_by("map", model, [str(MANY)], script=program) as process:
            watch.sample()
            sample = watch.sample()
            pids = {one.pid for one in sample.models}
            assert len(pids) == len(sample.models) == MANY + 1 and process.pid in pids
            assert {one.state for one in sample.models} == {"running"}
            assert sum(one.paging is not None for one in sample.models) == watching.MOST_IN_FULL
            assert all(one.rss_bytes for one in sample.models)
            assert len(table(sample)) > MANY and len(exposition(sample).splitlines()) > MANY
            box = Box()
            box.take(sample)
            assert len([draw_model(one.model, 120) for one in box.watched if one.model]) == MANY + 1
        watch.scan_soon()
        ended = [one for one in watch.sample().models if one.state == "ended"]
        assert {one.pid for one in ended} == pids
        assert not [one for one in watch.sample().models if one.pid is not None]


def test_a_file_that_nobody_holds_is_shown_alone(model: Path) -> None:
    with watched(Choice(file=model)) as watch:
        (one,) = watch.sample().models
    assert (one.pid, one.state, one.models[0].path) == (None, "none", str(model))
    assert one.residency[0].layers
    assert "No process" in why(one, "process")


def test_a_file_chooses_whoever_holds_it(model: Path, tmp_path: Path) -> None:
    other = Path(shutil.copy(model, tmp_path / "other.gguf"))
    link = tmp_path / "link.gguf"
    link.symlink_to(model)
    with held_by("map", model) as mine, held_by("map", other), watched(Choice(file=link)) as watch:
        assert [one.pid for one in watch.sample().models] == [mine.pid]


def test_a_server_is_found_by_what_the_process_listens_on(model: Path) -> None:
    with held_by("serve", model, ["-m", str(model)]) as process, watched(Choice(pid=process.pid)) as watch:
        watch.sample()
        watch.ask_servers(10.0)
        one = of(watch.sample(), process.pid)
    assert one.server is not None
    assert one.server.kind == "llama-server"
    assert one.server.url.startswith("http://127.0.0.1:")


def test_a_program_that_is_no_server_of_models_is_not_asked(model: Path) -> None:
    with held_by("serve", model, name="notebook") as process, watched(Choice(pid=process.pid)) as watch:
        one = of(watch.sample(), process.pid)
    assert one.server is None
    assert "--url http://127.0.0.1:" in why(one, "server")


def test_a_server_of_no_process_here_is_shown_alone() -> None:
    with serving() as server:
        llama_server(server, decoded=3)
        # This very process serves it, and the monitor does not watch itself.
        with watched(Choice(url=server.url)) as watch:
            watch.sample()
            watch.ask_servers(10.0)
            (one,) = watch.sample().models
    assert (one.pid, one.state) == (None, "none")
    assert one.server is not None
    assert one.server.kv_used == 103


def test_what_cannot_be_watched_is_refused(tmp_path: Path) -> None:
    with held_by("name", "x") as process:
        pass
    with pytest.raises(ChoiceError) as raised:
        Choice(pid=process.pid)
    assert str(process.pid) in raised.value.failure.what
    with pytest.raises(ChoiceError):
        Choice(url="gopher://x")
    with pytest.raises(GgufError):
        Choice(file=tmp_path / "none.gguf")


def test_a_verdict_is_given_where_tokens_can_be_counted(model: Path) -> None:
    with serving() as server, held_by("map", model) as process:
        llama_server(server, decoded=10)
        with watched(Choice(pid=process.pid, url=server.url)) as watch:
            watch.sample()
            watch.ask_servers(10.0)
            first = of(watch.sample(), process.pid)
            llama_server(server, decoded=60)
            watch._poller._polled[server.url].due_s = 0.0
            watch.ask_servers(10.0)
            second = of(watch.sample(), process.pid)
    assert first.verdict is None
    assert "Tokens cannot be counted" in why(first, "verdict")
    assert second.server is not None
    assert second.server.decode_rate
    assert second.verdict is not None
    assert second.verdict.reasoning


class Gpu(DevicesInstrument):
    """A device whose driver lists these processes."""

    def __init__(self, listed: dict[int, int | None], computing: set[int]) -> None:
        super().__init__(NvidiaInstrument(FakeNvml()))
        self.listed = Shares(listed, frozenset(computing), told=True)

    def shares(self) -> Shares:
        return self.listed


def on_gpu(monkeypatch: pytest.MonkeyPatch, listed: dict[int, int | None], computing: set[int]) -> None:
    monkeypatch.setattr(watching, "DevicesInstrument", lambda: Gpu(listed, computing))
    monkeypatch.setattr(watching, "_INITIAL_PID_NAMESPACE", str(Path("/proc/self/ns/pid").readlink()))


def test_a_process_that_computes_on_a_gpu_is_found_without_a_file(monkeypatch: pytest.MonkeyPatch) -> None:
    script = "import sys;print('ready',flush=True);sys.stdin.read()"
    with subprocess.Popen([sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None and process.stdout.readline()
        on_gpu(monkeypatch, {process.pid: 3 << 30, os.getppid(): 1 << 20}, {process.pid})
        with watched() as watch:
            one = of(watch.sample(), process.pid)
            assert all(model.pid != os.getppid() for model in watch.sample().models)
        process.communicate()
    assert one.vram_bytes == 3 << 30 and one.models == ()
    assert "no GGUF file" in why(one, "models")


def test_vram_of_each_process_is_the_drivers_word(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with held_by("map", model) as process:
        on_gpu(monkeypatch, {process.pid: 700 << 20}, {process.pid})
        with watched() as watch:
            assert of(watch.sample(), process.pid).vram_bytes == 700 << 20
        on_gpu(monkeypatch, {process.pid: None}, {process.pid})
        with watched() as watch:
            one = of(watch.sample(), process.pid)
            assert one.vram_bytes is None and "does not tell" in why(one, "vram_bytes")
        on_gpu(monkeypatch, {}, set())
        with watched() as watch:
            assert of(watch.sample(), process.pid).vram_bytes == 0

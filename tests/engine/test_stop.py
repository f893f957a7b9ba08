"""Stopping, quitting, and ends that nobody asked for."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
from tests.engine.harness import EngineProcess, profile
from tests.synthetic import make_model

from pagewise.messages import ChatMessage, Event, Finished, Generate, Load, LoadFailed, Prefill, Quit, Stop, Tokens
from pagewise.settings import Sampling

ENDLESS = Sampling(temperature=0.0)
LOOSE_S = 1.0
"""A stop takes 0.1 s on an idle machine; a busy one may need longer, but never as long as the work would have taken."""


def gone(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def wait_until_gone(pid: int) -> None:
    deadline = time.monotonic() + 30
    while not gone(pid):
        assert time.monotonic() < deadline, f"process {pid} is still there"
        time.sleep(0.01)


def family(pid: int) -> list[int]:
    """The process and its template processes."""
    process = psutil.Process(pid)
    return [pid, *(child.pid for child in process.children(recursive=True))]


def slow_prefill() -> Path:
    return make_model(n_layer=12, n_embd=512, n_ff=1536, n_head=8, n_head_kv=8, n_ctx_train=16384)


def test_stop_in_decode_keeps_what_was_written(shared: EngineProcess) -> None:
    shared.load(profile(make_model(), n_ctx=4096, sampling=ENDLESS))
    reply = shared.generate("hello", stop_when=lambda event: getattr(event, "n_output", 0) == 25)
    timing = reply.finished.timing
    assert reply.finished.reason == "stopped" and timing is not None
    assert 25 <= timing.n_output == len(reply.ids) < 4000
    whole = shared.generate("hello", Sampling(temperature=0.0, max_tokens=timing.n_output))
    assert reply.text == whole.text


def test_stop_in_prefill_takes_effect_long_before_it_is_done(shared: EngineProcess) -> None:
    shared.load(profile(slow_prefill(), n_ctx=16384, sampling=ENDLESS))
    question = "the cat sat on the mat. " * 900
    started = time.perf_counter()
    id = shared.next_id()
    shared.send(Generate(id, (ChatMessage("user", question),)))
    progress, _ = shared.until(lambda event: isinstance(event, Prefill) and event.done > 0)
    assert isinstance(progress, Prefill)
    whole_s = (time.perf_counter() - started) * progress.total / progress.done
    stopped = time.perf_counter()
    shared.send(Stop(id))
    finished = shared.first(Finished)
    took = time.perf_counter() - stopped
    assert finished.reason == "stopped" and finished.timing is not None and finished.timing.n_output == 0
    assert finished.timing.kv_used < progress.total
    assert took < min(LOOSE_S, whole_s)
    after = shared.generate(question[:100], Sampling(temperature=0.0, max_tokens=3))
    assert after.finished.reason == "length"


@pytest.mark.parametrize("architecture", ["gemma3", "mamba", "lfm2"])
def test_answers_are_right_after_a_stop_in_prefill(shared: EngineProcess, architecture: str) -> None:
    """Aborting may leave a recurrent state half advanced; it must not be built upon."""
    short = Sampling(temperature=0.0, max_tokens=8)
    settings = profile(make_model(architecture=architecture, n_ctx_train=16384), n_ctx=16384, n_batch=64, n_ubatch=64)
    shared.load(settings)
    question = "the cat sat on the mat. " * 1000
    stopped = shared.generate(
        question, short, stop_when=lambda event: isinstance(event, Prefill) and 0 < event.done < event.total
    )
    assert stopped.finished.reason in ("stopped", "length")
    after = shared.generate(question[:2400], short)
    shared.load(settings)
    assert after.ids == shared.generate(question[:2400], short).ids


def test_a_request_that_waits_can_be_stopped(shared: EngineProcess) -> None:
    shared.load(profile(make_model(), n_ctx=4096, sampling=ENDLESS))
    running, waiting = shared.next_id(), shared.next_id()
    shared.send(Generate(running, (ChatMessage("user", "one"),)))
    shared.send(Generate(waiting, (ChatMessage("user", "two"),)))
    shared.first(Tokens)
    shared.send(Stop(waiting))
    shared.send(Stop(running))
    ends: list[Event] = []
    while len(ends) < 2:
        ends.append(shared.first(Finished))
    assert [(end.id, end.reason) for end in ends if isinstance(end, Finished)] == [
        (running, "stopped"),
        (waiting, "stopped"),
    ]
    assert shared.generate("three", Sampling(temperature=0.0, max_tokens=2)).finished.reason == "length"


def test_a_load_that_waits_can_be_cancelled(shared: EngineProcess) -> None:
    shared.load(profile(make_model(), n_ctx=4096, sampling=ENDLESS))
    running, waiting = shared.next_id(), shared.next_id()
    shared.send(Generate(running, (ChatMessage("user", "one"),)))
    shared.first(Tokens)
    shared.send(Load(waiting, profile(make_model(architecture="gemma3")), "model"))
    shared.send(Stop(waiting))
    shared.send(Stop(running))
    failed = shared.first(LoadFailed)
    assert failed.id == waiting and failed.cancelled


def test_quit_in_mid_reply_ends_in_good_order(engine: EngineProcess) -> None:
    engine.load(profile(make_model(), n_ctx=4096, sampling=ENDLESS))
    processes = family(engine.process.pid)
    engine.send(Generate(engine.next_id(), (ChatMessage("user", "one"),)))
    engine.first(Tokens)
    engine.send(Quit())
    finished = engine.first(Finished)
    assert finished.reason == "stopped"
    assert engine.process.wait(30) == 0
    for pid in processes:
        wait_until_gone(pid)


def test_end_of_the_pipe_ends_the_engine_in_mid_reply(engine: EngineProcess) -> None:
    engine.load(profile(make_model(), n_ctx=4096, sampling=ENDLESS))
    processes = family(engine.process.pid)
    assert len(processes) > 1, "the template process was seen"
    engine.send(Generate(engine.next_id(), (ChatMessage("user", "one"),)))
    engine.first(Tokens)
    assert engine.process.stdin is not None
    engine.process.stdin.close()
    engine.process.wait(30)
    for pid in processes:
        wait_until_gone(pid)


HOST = """
import subprocess, sys, time
engine = subprocess.Popen([sys.executable, "-m", "pagewise.engine"], stdin=subprocess.PIPE, process_group=0)
print(engine.pid, flush=True)
time.sleep(1000)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="a parent's death is only signalled on Linux")
def test_no_orphan_when_the_host_is_killed() -> None:
    """The pipe is kept open by somebody else, as a careless child of the host would."""
    host = subprocess.Popen([sys.executable, "-c", HOST], stdout=subprocess.PIPE, text=False)
    assert host.stdout is not None
    pid = int(host.stdout.readline())
    deadline = time.monotonic() + 30
    while len(family(pid)) < 3:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    processes = family(pid)
    host.send_signal(signal.SIGKILL)
    host.wait()
    for process in processes:
        wait_until_gone(process)
    host.stdout.close()


def test_keyboard_interrupts_are_not_for_the_engine(engine: EngineProcess) -> None:
    engine.load(profile(make_model()))
    os.kill(engine.process.pid, signal.SIGINT)
    assert engine.generate("hello").finished.reason == "length"


def test_bytes_that_are_no_protocol_end_the_engine_with_a_word(engine: EngineProcess) -> None:
    engine.hello()
    assert engine.process.stdin is not None
    os.write(engine.process.stdin.fileno(), b"GET / HTTP/1.1\r\n\r\n")
    notice = engine.event()
    assert "cannot go on" in str(notice)
    assert engine.process.wait(30) == 0


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the OOM score is Linux's")
def test_the_kernel_would_choose_the_engine_first(engine: EngineProcess) -> None:
    engine.hello()
    score = Path(f"/proc/{engine.process.pid}/oom_score_adj").read_text(encoding="ascii")
    own = Path("/proc/self/oom_score_adj").read_text(encoding="ascii")
    assert int(score) > int(own)

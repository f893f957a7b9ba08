from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from tests.synthetic import make_model

PAGEWISE = (sys.executable, "-c", "from pagewise.cli import main; main()")


@pytest.fixture
def home(tmp_path: Path) -> dict[str, str]:
    """An environment in which all of pagewise's folders are new ones."""
    names = ("XDG_CONFIG_HOME", "XDG_DATA_HOME", "XDG_CACHE_HOME", "XDG_STATE_HOME")
    return {**os.environ, **{name: str(tmp_path / name.lower()) for name in names}}


@pytest.fixture(scope="module")
def model() -> str:
    return str(make_model())


def run(home: dict[str, str], *arguments: str, stdin: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    return subprocess.run([*PAGEWISE, *arguments], input=stdin, capture_output=True, env=home, timeout=120)


def block(done: subprocess.CompletedProcess[bytes]) -> str:
    """The error block of a command that failed: what, why and next, and nothing else."""
    text = done.stderr.decode()
    assert done.returncode == 1, text
    assert "Traceback" not in text
    what, why, next = text.splitlines()
    assert what.startswith("pagewise: ")
    assert why.startswith("  why   ")
    assert next.startswith("  next  ")
    return text


def test_the_help_names_the_commands_and_no_inner_parts(home: dict[str, str]) -> None:
    text = run(home, "--help").stdout.decode()
    assert all(name in text for name in ("ask", "inspect", "doctor", "profiles", "--continue", "--theme"))
    assert "engine" not in text


@pytest.mark.parametrize(
    "arguments",
    [
        ("nothing",),
        ("ask",),
        ("ask", ""),
        ("ask", "  \n"),
        ("ask", "x", "--max-tokens", "0"),
        ("inspect",),
        ("--profile", "guide", "inspect", "x"),
        (),
    ],
)
def test_wrong_usage_is_status_2_with_a_hint(home: dict[str, str], arguments: tuple[str, ...]) -> None:
    done = run(home, *arguments)
    assert done.returncode == 2
    assert b"Error: " in done.stderr
    assert b"Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("inspect", "/none.gguf"), "There is no file /none.gguf"),
        (("inspect", "/none\x1b[2J.gguf"), "There is no file"),
        (("inspect", "/"), "no GGUF file in it"),
        (("ask", "x", "--profile", "guid"), "Did you mean guide?"),
        (("ask", "x", "--set", "n_ctxx=1"), "Did you mean n_ctx?"),
        (("ask", "x", "--set", "sampling.temperature=hot"), "a number from 0 to 10"),
        (("ask", "x", "--model", "/none.gguf"), "/none.gguf"),
    ],
)
def test_errors_say_what_why_and_what_next(home: dict[str, str], arguments: tuple[str, ...], words: str) -> None:
    text = block(run(home, *arguments))
    assert words in text
    assert "\x1b" not in text


def test_a_broken_profile_is_named_with_its_line(home: dict[str, str]) -> None:
    folder = Path(home["XDG_CONFIG_HOME"]) / "pagewise" / "profiles"
    folder.mkdir(parents=True)
    (folder / "mine.toml").write_text("\nthread = 3\n")
    assert "mine.toml, line 2" in block(run(home, "ask", "x", "--profile", "mine"))
    listed = run(home, "profiles")
    assert listed.returncode == 0
    assert b"laptop-cpu" in listed.stdout
    assert b"mine.toml, line 2" in listed.stderr
    as_json = json.loads(run(home, "profiles", "--json").stdout)
    assert set(as_json["profiles"]) == {"gpu-full", "guide", "guide-q4", "laptop-cpu"}
    assert "mine.toml" in as_json["failures"][0]["what"]


def test_the_keys_of_a_profile_are_listed_with_what_they_take(home: dict[str, str]) -> None:
    text = run(home, "profiles", "--keys").stdout.decode()
    assert "sampling.top_p" in text
    assert "a number from 0 to 1" in text


def test_inspect_as_json(home: dict[str, str], model: str) -> None:
    found = json.loads(run(home, "inspect", model, "--json").stdout)
    assert found["architecture"] == "llama"
    assert [layer["name"] for layer in found["layers"]] == ["input", "0", "1", "2", "3", "output"]


def ask(home: dict[str, str], model: str, *arguments: str, stdin: bytes = b"") -> dict[str, Any]:
    done = run(home, "ask", *arguments, "--model", model, "--json", stdin=stdin)
    assert done.returncode == 0, done.stderr
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer


def test_an_answer_carries_its_counts_and_times(home: dict[str, str], model: str) -> None:
    answer = ask(home, model, "hello", "--max-tokens", "12", "--set", "sampling.seed=1")
    assert (answer["n_output"], answer["n_reused"], answer["stop_reason"]) == (12, 0, "length")
    assert (answer["model"], answer["profile"], answer["quant"]) == (model, Path(model).stem, "F16")
    assert answer["n_prompt"] > 0
    assert answer["depth"] == answer["n_prompt"]
    split = answer["ttft_split_ms"]
    assert sum(split.values()) <= answer["ttft_ms"] * 1.001
    assert answer["decode_rate"] == pytest.approx(1000 / answer["tpot_ms"])
    assert answer["itl_ms"]["p50"] <= answer["itl_ms"]["p95"] <= answer["itl_ms"]["p99"]
    assert answer["prefill_rate"] == pytest.approx(1000 * answer["n_prompt"] / split["prefill"])
    assert answer["error"] is None


def test_the_same_seed_gives_the_same_text_with_and_without_json(home: dict[str, str], model: str) -> None:
    options = ("--max-tokens", "12", "--set", "sampling.seed=7")
    text = run(home, "ask", "hello", "--model", model, *options).stdout.decode()
    assert text.removesuffix("\n") == ask(home, model, "hello", *options)["text"].removesuffix("\n")


def test_a_question_on_standard_input_may_be_any_bytes(home: dict[str, str], model: str) -> None:
    answer = ask(home, model, "-", "--max-tokens", "3", stdin=b"what is \xff\xfe\0 this\x1b[2J?")
    assert answer["n_output"] == 3


def test_a_question_beyond_the_context_is_told(home: dict[str, str], model: str) -> None:
    done = run(home, "ask", "-", "--model", model, "--set", "n_ctx=256", stdin=b"many words " * 100_000)
    assert "context" in block(done)


@pytest.fixture
def endless(home: dict[str, str], model: str) -> Iterator[subprocess.Popen[bytes]]:
    """An answer that goes on until it is stopped, with its first text already written."""
    command = [*PAGEWISE, "ask", "hello", "--model", model, "--set", "n_ctx=0", "--set", "sampling.seed=1"]
    with subprocess.Popen(command, env=home, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.read(1)
        yield process
        process.kill()


def test_ctrl_c_ends_the_answer_cleanly(endless: subprocess.Popen[bytes]) -> None:
    children = psutil.Process(endless.pid).children(recursive=True)
    endless.send_signal(signal.SIGINT)
    text, errors = endless.communicate(timeout=30)
    assert (endless.returncode, errors) == (130, b"")
    assert text.endswith(b"\n")
    psutil.wait_procs(children, timeout=10)
    assert not any(child.is_running() and child.status() != psutil.STATUS_ZOMBIE for child in children)


def test_an_engine_that_is_killed_ends_the_answer_with_a_reason(endless: subprocess.Popen[bytes]) -> None:
    (host,) = psutil.Process(endless.pid).children()
    (engine,) = host.children()
    engine.kill()
    _, errors = endless.communicate(timeout=60)
    assert endless.returncode == 1
    assert b"  why   " in errors
    assert b"Traceback" not in errors


def test_a_reader_that_goes_away_ends_it_quietly(endless: subprocess.Popen[bytes]) -> None:
    assert endless.stdout is not None
    endless.stdout.close()
    assert endless.stderr is not None
    assert endless.stderr.read() == b""
    assert endless.wait(timeout=30) == 1


def test_the_app_and_the_command_line_import_neither_llama_cpp_nor_numpy() -> None:
    program = """
import importlib, pkgutil, sys
import pagewise.app, pagewise.history, pagewise.profiles, pagewise.guide, pagewise.commands
import pagewise.cli, pagewise.client
for package in (pagewise.app, pagewise.history, pagewise.profiles, pagewise.guide, pagewise.commands):
    for module in pkgutil.walk_packages(package.__path__, package.__name__ + "."):
        importlib.import_module(module.name)
print(sorted({name.partition(".")[0] for name in sys.modules} & {"llama_cpp", "numpy", "pynvml"}))
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_the_help_needs_neither_textual_nor_the_engine() -> None:
    program = "import sys, pagewise.cli; print('textual' in sys.modules, 'asyncio' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "False False\n"

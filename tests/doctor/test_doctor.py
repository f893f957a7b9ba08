from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from pagewise.doctor import build, folders, gpus, machine, permissions, terminal
from pagewise.doctor.findings import Finding
from pagewise.readings import DeviceMemory, Devices


def named(found: list[Finding], name: str) -> Finding:
    return next(finding for finding in found if finding.name == name)


def test_every_finding_that_warns_says_what_to_do() -> None:
    found = [
        *machine.findings(),
        *gpus.findings(gpus.sample()),
        *build.findings(has_gpu=True),
        *terminal.findings({}),
        *permissions.findings(),
        *folders.findings(),
    ]
    assert {finding.area for finding in found} >= {"machine", "llama.cpp", "terminal", "permissions", "folders"}
    for finding in found:
        assert finding.value.isprintable()
        assert finding.fix or finding.state in ("ok", "note"), finding


def test_the_build_is_asked_in_a_process_of_its_own() -> None:
    found = build.findings(has_gpu=False)
    assert "0.3.36" in named(found, "library").value
    assert named(found, "devices").value.startswith("CPU")


@pytest.mark.parametrize(
    ("program", "words"),
    [
        ("raise SystemExit('no llama.cpp: \\x1b[2J')", "exit status 1"),
        ("import os, signal; os.kill(os.getpid(), signal.SIGILL)", "an instruction that this processor lacks"),
        ("print('not a frame' * 100, flush=True); input()", "could not be asked"),
        ("pass", "exit status 0"),
    ],
)
def test_an_engine_that_does_not_answer_is_a_failure_with_its_last_words(program: str, words: str) -> None:
    (finding,) = build.findings(False, (sys.executable, "-c", program))
    assert finding.state == "fail"
    assert words in finding.value
    assert finding.value.isprintable()


def test_an_engine_that_hangs_is_given_up() -> None:
    assert "did not answer" in str(build.ask_engine((sys.executable, "-c", "input(); input()"), timeout_s=0.2))


def test_an_engine_that_is_not_there_is_told() -> None:
    assert "No such file" in str(build.ask_engine(("/none",)))


def test_devices_are_listed_with_what_is_not_known() -> None:
    assert gpus.findings(Devices((), "no driver"))[0].value == "no driver"
    device = DeviceMemory("GPU \x1b", 0, "gpu", 8 << 30, 2 << 30, None, False, None, None, None, None, "NVML")
    finding = gpus.findings(Devices((device,)))[0]
    assert "2.0 / 8.0 GiB" in finding.value
    assert "\x1b" not in finding.value


@pytest.mark.parametrize(
    ("environment", "name", "value"),
    [
        ({"TERM": "xterm", "COLORTERM": "truecolor"}, "colours", "16 million"),
        ({"TERM": "xterm-256color"}, "colours", "256"),
        ({"TERM": "xterm"}, "colours", "16"),
        ({"TERM": "xterm", "NO_COLOR": "1"}, "colours", "none, since NO_COLOR is set"),
        ({"TERM": "tmux", "TMUX": "x", "SSH_CONNECTION": "y"}, "by way of", "tmux, ssh"),
    ],
)
def test_the_terminal_is_judged_by_its_environment(environment: dict[str, str], name: str, value: str) -> None:
    assert named(terminal.findings(environment), name).value == value


def test_a_folder_that_cannot_be_written_to_says_what_is_lost(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("")
    monkeypatch.setattr("platformdirs.user_data_path", lambda name: blocked / name)
    finding = named(folders.findings(), "conversations")
    assert finding.state == "warn"
    assert "memory only" in finding.value


def test_the_command_writes_text_and_json() -> None:
    command = [sys.executable, "-c", "from pagewise.cli import main; main()", "doctor"]
    text = subprocess.run(command, capture_output=True, text=True)
    assert text.returncode == 0, text.stdout + text.stderr
    assert "\nllama.cpp\n" in text.stdout
    found = json.loads(subprocess.run([*command, "--json"], capture_output=True, text=True).stdout)["findings"]
    assert {finding["name"] for finding in found} >= {"CPU", "RAM", "library", "residency"}

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from tests.synthetic import make_model

from pagewise.app.figures import rate
from pagewise.doctor import build, folders, gpus, machine, peaks, permissions, terminal
from pagewise.doctor.findings import Finding
from pagewise.instruments.counters import disk_under
from pagewise.instruments.system import physical_cores
from pagewise.readings import DeviceMemory, Devices
from pagewise.verdict import disk_peak
from pagewise.verdict.disk_peak import known_disk_peak
from pagewise.verdict.roofline import keep_peak, known_peak


def named(found: list[Finding], name: str) -> Finding:
    return next(finding for finding in found if finding.name == name)


def test_every_finding_that_warns_says_what_to_do(own_cache: Path) -> None:
    found = [
        *machine.findings(),
        *gpus.findings(gpus.sample()),
        *build.findings(has_gpu=True),
        *terminal.findings({}),
        *permissions.findings(),
        *peaks.findings(None),
        *folders.findings(),
    ]
    assert {finding.area for finding in found} >= {"machine", "llama.cpp", "terminal", "permissions", "folders"}
    for finding in found:
        assert finding.value.isprintable()
        assert finding.fix or finding.state in ("ok", "note"), finding


@pytest.fixture
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path


def test_peaks_are_measured_and_kept_for_the_verdict(own_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(disk_peak, "_LEAST_BYTES", disk_peak.BLOCK)
    file = own_cache / "model\x1b.gguf"
    file.write_bytes(os.urandom(8 << 20))
    os.sync()
    ram, disk = peaks.findings(file)
    assert ram.state == "ok" and "best of six passes" in ram.value
    kept = known_peak(physical_cores())
    assert kept is not None and ram.value.startswith(rate(kept))
    assert disk.value.isprintable()
    if disk.state == "note":
        pytest.skip(f"no direct reads here: {disk.value}")
    assert "8.0 MiB of model" in disk.value and "direct reads" in disk.value
    assert known_disk_peak(disk_under(file).name) is not None


def test_a_bad_moment_does_not_lower_a_peak(own_cache: Path) -> None:
    keep_peak(physical_cores(), 9e15)
    ram, _ = peaks.findings(None)
    assert known_peak(physical_cores()) == 9e15
    assert "this time" in ram.value


@pytest.mark.parametrize(
    ("file", "words"), [(None, "no model file"), (Path("/none/x.gguf"), "is not there"), (Path("/proc/self/exe"), "")]
)
def test_a_disk_that_cannot_be_measured_says_why(own_cache: Path, file: Path | None, words: str) -> None:
    finding = peaks.findings(file)[1]
    assert finding.state == "note" and finding.value.startswith("n/a") and words in finding.value
    assert "--file" in finding.fix


@pytest.mark.parametrize(
    ("scope", "state", "words"),
    [("", "ok", "no Yama"), ("0", "ok", "0:"), ("1", "note", "only where they allow it"), ("2", "warn", "CAP_SYS")],
)
def test_yama_is_told_with_what_it_means(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, scope: str, state: str, words: str
) -> None:
    file = tmp_path / "scope"
    if scope:
        file.write_text(f"{scope}\n")
    monkeypatch.setattr(permissions, "_SCOPE", file)
    finding = named(permissions.findings(), "ptrace_scope")
    assert finding.state == state and words in finding.value


@pytest.mark.parametrize(
    ("root", "paranoid", "state"), [(False, "2", "ok"), (False, "4", "note"), (True, "4", "ok"), (False, "", "note")]
)
def test_perf_says_what_it_takes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, root: bool, paranoid: str, state: str
) -> None:
    file = tmp_path / "paranoid"
    if paranoid:
        file.write_text(f"{paranoid}\n")
    monkeypatch.setattr(permissions, "_PARANOID", file)
    monkeypatch.setattr("shutil.which", lambda name, **_: f"/usr/bin/{name}")
    monkeypatch.setattr("os.geteuid", lambda: 0 if root else 1000)
    finding = named(permissions.findings(), "perf")
    assert finding.state == state
    monkeypatch.setattr("shutil.which", lambda name, **_: None)
    assert "not installed" in named(permissions.findings(), "perf").value


@pytest.mark.skipif(os.getuid() != 0 or not shutil.which("setpriv"), reason="needs root and setpriv for another user")
def test_another_user_is_told_which_rights_he_lacks() -> None:
    program = (
        "import msgspec;from pagewise.doctor import permissions;"
        "print(msgspec.json.encode(permissions.findings()).decode())"
    )
    done = subprocess.run(
        ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", sys.executable, "-c", program],
        capture_output=True, text=True, cwd="/", env={**os.environ, "HOME": "/nonexistent"},
    )  # fmt: skip
    if done.returncode:
        pytest.skip(f"another user cannot run this interpreter: {done.stderr.splitlines()[-1]}")
    found = {finding["name"]: finding for finding in json.loads(done.stdout)}
    assert "may not" in found["processes"]["value"] and "sudo pagewise monitor" in found["processes"]["fix"]
    assert found["memory cgroup"]["state"] == "note"


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
    command = [sys.executable, "-c", "from pagewise.cli import main; main()", "doctor", "--file", str(make_model())]
    text = subprocess.run(command, capture_output=True, text=True)
    assert text.returncode == 0, text.stdout + text.stderr
    assert "\nllama.cpp\n" in text.stdout
    found = json.loads(subprocess.run([*command, "--json"], capture_output=True, text=True).stdout)["findings"]
    assert {finding["name"] for finding in found} >= {"CPU", "RAM", "library", "residency", "RAM read", "disk read"}

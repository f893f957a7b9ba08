from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from pagewise.profiles.files import resolve


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("CONFIG", "CACHE"):
        monkeypatch.setenv(f"XDG_{name}_HOME", str(tmp_path / name.lower()))
    return tmp_path / "config" / "pagewise" / "profiles"


def pagewise(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", "pagewise", *words], capture_output=True, text=True, check=False)


def test_a_profile_goes_out_and_comes_back(folder: Path) -> None:
    out = pagewise("export", "laptop-cpu", "--to", "llama-server", "--model", "/m/q.gguf", "--set", "n_ctx=512")
    assert out.returncode == 0 and "--ctx-size 512" in out.stdout
    back = pagewise("import", out.stdout, "--name", "mine")
    assert back.returncode == 0 and str(folder / "mine.toml") in back.stdout
    mine = resolve("mine")
    assert (mine.n_ctx, mine.n_batch, mine.model, mine.load_mode) == (512, 512, "/m/q.gguf", "mmap")


def test_what_is_not_taken_over_is_told_and_written_down(folder: Path) -> None:
    words = ("import", "llama-server -m /m/q.gguf --port 8080 -np 4")
    assert "--port 8080" in pagewise(*words).stdout
    assert "#   --port 8080" in (folder / "q.toml").read_text()
    assert "q-2 is saved" in pagewise(*words).stdout
    assert pagewise("profiles").returncode == 0


def test_a_command_line_may_stand_without_quotes(folder: Path) -> None:
    done = pagewise("import", "--name", "bare", "--", "llama-server", "-m", "/m/a b.gguf", "-ngl", "3")
    assert done.returncode == 0 and resolve("bare").model == "/m/a b.gguf"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("export", "nothing", "--to", "ollama"), "There is no profile"),
        (("export", "guide-q4", "--to", "ollama"), "is not made yet"),
        (("import", "llama-server -hf a/b"), "pagewise pull a/b"),
        (("import", "-m /m/q.gguf", "--name", "guide"), "already"),
        (("import", "-m /m/q.gguf", "--name", "../x"), "cannot be the name"),
    ],
)
def test_what_cannot_be_done_says_what_why_and_next(words: tuple[str, ...], said: str) -> None:
    done = pagewise(*words)
    assert done.returncode == 1 and said in done.stderr
    assert "  why   " in done.stderr and "  next  " in done.stderr and "Traceback" not in done.stderr


def test_an_unknown_target_is_wrong_usage() -> None:
    done = pagewise("export", "guide", "--to", "vllm")
    assert done.returncode == 2 and "llama-swap" in done.stderr

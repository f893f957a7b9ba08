"""``pagewise models`` and ``pagewise pull``, run as a person runs them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.models.catalog.models_on_disk import Q4_K, Q8_0, model, put
from tests.models.hub.hub_server import Hub, serving

REPOSITORY = "someone/Model-GGUF"


@pytest.fixture
def home(tmp_path: Path) -> dict[str, str]:
    names = ("CONFIG", "DATA", "STATE", "CACHE")
    own = {f"XDG_{name}_HOME": str(tmp_path / name.lower()) for name in names}
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("HF_", "OLLAMA", "LLAMA"))}
    return {**clean, **own, "HOME": str(tmp_path), "PAGEWISE_MODELS": str(tmp_path / "models")}


@pytest.fixture
def hub() -> Iterator[Hub]:
    files = {"m-Q4_K_M.gguf": model(kind=Q4_K), "m-Q8_0.gguf": model(kind=Q8_0)}
    with serving(Hub(REPOSITORY, files)) as hub:
        yield hub


def run(home: dict[str, str], *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", "from pagewise.cli import main; main()", *arguments]
    return subprocess.run(command, capture_output=True, text=True, env=home, timeout=60)


def test_models_are_shown_sorted_filtered_and_as_json(home: dict[str, str], tmp_path: Path) -> None:
    put(tmp_path / "models/small-Q4_K_M.gguf", model("Small", Q4_K))
    put(tmp_path / "models/small-Q8_0.gguf", model("Small", Q8_0))
    put(tmp_path / "models/big-Q4_K_M.gguf", model("Big", Q4_K, rows=400))
    put(tmp_path / "models/bad\x1b[2J.gguf", b"no")
    text = run(home, "models").stdout
    assert text.index("Big") < text.index("Small")
    assert "~/models/small-Q8_0.gguf" in text and "fits in" in text
    assert "not usable: " in text and "\x1b" not in text
    assert "Small" not in run(home, "models", "--filter", "BIG q4").stdout
    assert "No model is like that" in run(home, "models", "--filter", "nothing").stdout
    read = json.loads(run(home, "models", "--json", "--sort", "size", "--fits").stdout)
    assert [model["name"] for model in read["models"]] == ["Big", "Small"]
    assert [level["quant"] for level in read["models"][1]["levels"]] == ["Q8_0", "Q4_K_M"]
    assert read["unusable"][0]["failure"]["next"]


def test_an_empty_machine_says_what_to_do(home: dict[str, str]) -> None:
    text = run(home, "models").stdout
    assert "pagewise pull org/repo:Q4_K_M" in text and "models.txt" in text


def test_a_model_is_listed_fetched_and_then_found(home: dict[str, str], hub: Hub, tmp_path: Path) -> None:
    home = {**home, **hub.environment(str(tmp_path / "hf"))}
    listed = run(home, "pull", REPOSITORY)
    assert listed.returncode == 0 and "Q8_0" in listed.stdout and f"pagewise pull {REPOSITORY}:" in listed.stdout
    pulled = run(home, "pull", f"{REPOSITORY}:Q8_0")
    path = pulled.stdout.strip()
    assert Path(path).read_bytes() == hub.files["m-Q8_0.gguf"], pulled.stderr
    assert "the checksum is right" in pulled.stderr
    again = json.loads(run(home, "pull", f"{REPOSITORY}:Q8_0", "--json").stdout)
    assert (again["path"], again["fetched_bytes"]) == (path, 0)
    assert "here already" in run(home, "pull", REPOSITORY, "--list").stdout
    found = run(home, "models").stdout
    assert f"Hugging Face: {REPOSITORY}" in found


def test_what_cannot_be_pulled_is_said_in_three_lines(home: dict[str, str], hub: Hub, tmp_path: Path) -> None:
    home = {**home, **hub.environment(str(tmp_path / "hf"))}
    for arguments, words in (
        (("no repository",), "is not the name of a repository"),
        ((f"{REPOSITORY}:Q2_K",), "has no Q2_K"),
        (("someone/else:Q2_K",), "no repository someone/else"),
    ):
        done = run(home, "pull", *arguments)
        assert done.returncode == 1 and words in done.stderr
        assert len(done.stderr.splitlines()) == 3
    offline = run({**home, "HF_HUB_OFFLINE": "1"}, "pull", REPOSITORY)
    assert offline.returncode == 1 and "HF_HUB_OFFLINE is set" in offline.stderr.splitlines()[0]

"""``pagewise plan``, as a person and as a script reads it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from tests.synthetic import make_hollow, make_model

from pagewise.commands.plan import lines
from pagewise.jobs.plan import RAM, Compared, DevicePlan, MemoryPlan, WouldFit
from pagewise.settings import Profile

GIB = 1024**3
MIB = 1024**2
PLAN = MemoryPlan(
    profile=Profile(name="laptop", model="/models/qwen\x1b[2J.gguf"),
    devices=(
        DevicePlan(RAM, "memory of this machine", 0, 512 * MIB, 40 * MIB, 0, 32 * GIB, 20 * GIB, GIB),
        DevicePlan("CUDA0", "a GPU", 7 * GIB, GIB, 300 * MIB, 400 * MIB, 8 * GIB, 6 * GIB),
        DevicePlan("CUDA1", "another", 0, 0, 0, None, None, None),
    ),
    mapped_bytes=3 * GIB,
    copied_bytes=0,
    streamed_bytes=GIB,
    n_ctx=8192,
    offloaded_layers=20,
    n_layer=32,
    fits=False,
    estimate=False,
    margin_bytes=256 * MIB,
    notes=("CUDA0 is too small by 2 970 MiB.",),
    would_fit=(
        WouldFit("n_gpu_layers", "13", "13 layers on GPUs fit."),
        WouldFit("model", "", "The model at Q4_K_M fits."),
    ),
    last=(Compared("CUDA0", 8 * GIB, 9 * GIB, 4096, 20),),
)


def run(state: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "pagewise", "plan", *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env={"PATH": "/usr/bin:/bin", "HOME": str(state), "XDG_STATE_HOME": str(state / "state"), "COLUMNS": "100"},
    )


def test_the_table() -> None:
    text = lines(PLAN, 80)
    assert "\x1b" not in "\n".join(text) and max(map(len, text)) <= 80
    rows = {line.split()[0]: line.split()[1:] for line in text if line}
    assert " ".join(rows["CUDA0"]) == "7.0 GiB 1.0 GiB 300 MiB 400 MiB 8.7 GiB 6.0 GiB -2.7 GiB"
    assert " ".join(rows["CUDA1"]).endswith("n/a 0 B n/a n/a")
    assert "20 of 33 on GPUs" in " ".join(rows["layers"])
    joined = " ".join(" ".join(text).split())
    assert "no, with 256 MiB kept free on each device; 1.0 GiB come back from the present model" in joined
    assert "3.0 GiB mapped, 1.0 GiB of them streamed" in joined
    assert "--set n_gpu_layers=13" in joined and "Q4_K_M fits." in joined
    assert "CUDA0: 8.0 GiB predicted, 9.0 GiB taken" in joined


def test_it_fits(tmp_path: Path) -> None:
    found = run(tmp_path, "--model", str(make_model()), "--set", "n_ctx=512")
    assert found.returncode == 0, found.stderr
    assert "fits      yes" in found.stdout and not found.stderr


def test_it_does_not_fit(tmp_path: Path) -> None:
    model = make_hollow(tmp_path / "large.gguf", n_layer=64, n_embd=1 << 15, n_ff=1 << 18, n_head=64, weights="Q8_0")
    found = run(tmp_path, "--model", str(model), "--set", "load_mode=none", "--json")
    assert found.returncode == 1
    plan = json.loads(found.stdout)
    assert plan["fits"] is False and plan["devices"][0]["device"] == RAM
    assert plan["devices"][0]["weights_bytes"] == plan["copied_bytes"] > 500 * GIB


@pytest.mark.parametrize("arguments", [["nobody"], ["--model", "/nowhere.gguf"], ["--set", "n_gpu_layers=-1"]])
def test_what_cannot_be_planned(tmp_path: Path, arguments: list[str]) -> None:
    found = run(tmp_path, *arguments)
    assert found.returncode == 1 and found.stderr.startswith("pagewise: ") and "Traceback" not in found.stderr

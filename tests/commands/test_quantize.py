"""What ``pagewise quantize`` writes."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from tests.synthetic import make_model

from pagewise.commands.quantize import lines
from pagewise.jobs.quantize import LevelBytes, Quantized, RoundingError

ANSWER = Quantized(
    id=1,
    path="/models/Llama-Q4_K_M.gguf",
    source="/models/Llama-F16.gguf",
    source_level="F16",
    level="Q4_K_M",
    source_bytes=16_000_000_000,
    bytes=4_920_000_000,
    bits_per_weight=4.89,
    types=(LevelBytes("Q4_K", 193, 3_700_000_000), LevelBytes("Q6_K", 33, 1_200_000_000)),
    error=RoundingError(0.0002, 0.063, 0.063),
    free_bytes=80 * 1024**3,
    dry_run=True,
    seconds=0.4,
)


def test_a_dry_run_says_what_would_be() -> None:
    written = lines(ANSWER)
    assert written[0] == "source      /models/Llama-F16.gguf, F16, 14.9 GiB"
    assert written[2] == "size        4.6 GiB, 31 % of it (Q4_K 75 %, Q6_K 24 %)"
    assert written[3] == "error       about 6.3 % of the weights' size (RMS)"
    assert written[-1] == "would be    /models/Llama-Q4_K_M.gguf, 80.0 GiB free there"
    assert max(map(len, written)) <= 80


@pytest.fixture
def source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("STATE", "CACHE", "DATA"):
        monkeypatch.setenv(f"XDG_{name}_HOME", str(tmp_path / name))
    path = tmp_path / "model-F16.gguf"
    path.write_bytes(make_model(n_embd=256, n_ff=512).read_bytes())
    return path


def pagewise(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "pagewise", "quantize", *arguments], capture_output=True, text=True, timeout=60
    )


def test_the_command_makes_the_file_and_says_so_as_json(source: Path) -> None:
    done = pagewise(str(source), "q4_k_m", "--json", "--threads", "1")
    assert done.returncode == 0 and done.stderr == ""
    made = json.loads(done.stdout)
    assert Path(made["path"]) == source.with_name("model-Q4_K_M.gguf")
    assert Path(made["path"]).stat().st_size == made["bytes"] and made["dry_run"] is False


@pytest.mark.parametrize(
    ("arguments", "told"), [(("Q4",), "Q4_K_M"), (("Q9_9",), "llama.cpp makes"), (("IQ1_S",), "--imatrix")]
)
def test_what_it_cannot_do_is_three_lines_and_status_1(source: Path, arguments: tuple[str, ...], told: str) -> None:
    done = pagewise(str(source), *arguments)
    assert done.returncode == 1 and done.stdout == ""
    assert told in done.stderr and len(done.stderr.splitlines()) == 3
    assert [path.name for path in source.parent.glob("*.gguf")] == ["model-F16.gguf"]

"""What plans missed by, from one load to the next plan."""

from __future__ import annotations

from pathlib import Path

import pytest

from pagewise.jobs.plan import RAM, TARGET_BYTES, Compared
from pagewise.profiles.learned import (
    LEAST_MARGIN,
    Learned,
    learn_driver,
    learn_load,
    learned_file,
    model_key,
    read_learned,
)

GIB = 1024**3


def missed(by: int, device: str = RAM) -> Compared:
    return Compared(device, GIB, GIB + by, 4096, 0)


def test_a_model_has_its_own_margin(tmp_path: Path) -> None:
    path = tmp_path / "plans.json"
    assert read_learned(path) == Learned() and Learned().margin("a:1") == LEAST_MARGIN
    learn_load("a:1", (missed(GIB), missed(-5, "CUDA0")), path)
    learn_load("b:2", (missed(7),), path)
    learned = read_learned(path)
    assert learned.margin("a:1") == GIB and learned.margin("b:2") == LEAST_MARGIN
    assert learned.margin("new:3") == GIB, "a model that is new gets what others missed"
    assert learned.last("a:1") == (missed(GIB), missed(-5, "CUDA0")) and learned.last("new:3") == ()


def test_old_loads_and_old_models_go(tmp_path: Path) -> None:
    path = tmp_path / "plans.json"
    learn_load("a:1", (missed(2 * GIB),), path)
    for _ in range(8):
        learn_load("a:1", (missed(0),), path)
    assert read_learned(path).margin("a:1") == LEAST_MARGIN
    for number in range(260):
        learn_load(f"m:{number}", (missed(0),), path)
    models = read_learned(path).models
    assert len(models) == 256 and "a:1" not in models and "m:259" in models


def test_the_drivers_share(tmp_path: Path) -> None:
    path = tmp_path / "plans.json"
    assert read_learned(path).driver("CUDA0") is None
    learn_driver("CUDA0", 400_000_000, path)
    learn_load("a:1", (missed(0),), path)
    learned = read_learned(path)
    assert learned.driver("CUDA0") == 400_000_000 and learned.driver(RAM) is None


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"[]", b'{"models": {"a": [{"devices": 1}]}}', b"\xff\xfe", b"[" * 100_000, b'{"drivers": 7}'],
)
def test_a_damaged_file_is_as_none(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "plans.json"
    path.write_bytes(content)
    assert read_learned(path) == Learned()
    learn_load("a:1", (missed(1),), path)
    assert read_learned(path).last("a:1") == (missed(1),)


def test_a_folder_that_cannot_be_written_to(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("", encoding="ascii")
    learn_load("a:1", (missed(1),), tmp_path / "file" / "plans.json")
    assert read_learned(tmp_path / "file" / "plans.json") == Learned()


def test_the_file_is_this_machines(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("platform.node", lambda: "a/../b c")
    assert learned_file().name == "plans-a_.._b_c.json"


def test_a_model_is_known_after_it_was_moved() -> None:
    assert model_key("/one/m.gguf", 5) == model_key("/other/m.gguf", 5) != model_key("/one/m.gguf", 6)


def test_the_target_is_the_larger_of_two() -> None:
    small, large = 100 * 1024**2, 100 * GIB
    assert Compared(RAM, 0, small, 1, 0).within_target
    assert not Compared(RAM, 0, TARGET_BYTES + 1, 1, 0).within_target
    assert Compared(RAM, large, large + 3 * GIB, 1, 0).within_target
    assert not Compared(RAM, large, large + 4 * GIB, 1, 0).within_target

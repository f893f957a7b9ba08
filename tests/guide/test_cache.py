from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.namespace import run_in_small_disk, why_not

from pagewise.guide.cache import provide
from pagewise.guide.files import QUANTS, GuideError, check_quant


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "guide-f16.gguf"
    path.write_bytes(b"GGUF, the guide" * 1000)
    return path


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "cache"


class Quantizer:
    """Writes a file that says what it was made of; counts how often it is asked."""

    def __init__(self) -> None:
        self.calls: list[str] = []

    def __call__(self, source: Path, target: Path, quant: str) -> None:
        self.calls.append(quant)
        target.write_bytes(source.read_bytes()[:100] + quant.encode())


def never(source: Path, target: Path, quant: str) -> None:
    raise AssertionError("not to be made")


def raising(error: Exception) -> Callable[[Path, Path, str], None]:
    def quantize(source: Path, target: Path, quant: str) -> None:
        target.write_bytes(b"half")
        raise error

    return quantize


@pytest.mark.parametrize("quant", [None, "F16", "f16"])
def test_the_shipped_level_is_the_shipped_file(source: Path, cache: Path, quant: str | None) -> None:
    assert provide(quant, never, cache, source) == (source, "")
    assert not cache.exists()


def test_a_level_is_made_once(source: Path, cache: Path) -> None:
    quantize = Quantizer()
    path, note = provide("Q4_K_M", quantize, cache, source)
    assert note == ""
    assert path.parent == cache
    assert path.read_bytes().endswith(b"Q4_K_M")
    assert provide("q4_k_m", quantize, cache, source) == (path, "")
    assert quantize.calls == ["Q4_K_M"]
    assert provide("Q8_0", quantize, cache, source)[0] != path


def test_another_release_of_the_guide_gets_levels_of_its_own(source: Path, cache: Path) -> None:
    quantize = Quantizer()
    old, _ = provide("Q8_0", quantize, cache, source)
    source.write_bytes(b"GGUF, a newer guide" * 1000)
    new, note = provide("Q8_0", quantize, cache, source)
    assert new != old
    assert note == ""
    assert quantize.calls == ["Q8_0", "Q8_0"]


@pytest.mark.parametrize("damage", ["flipped", "cut", "no checksum", "other checksum", "checksum is no text"])
def test_a_damaged_level_is_made_again_and_that_is_said(source: Path, cache: Path, damage: str) -> None:
    quantize = Quantizer()
    path, _ = provide("Q8_0", quantize, cache, source)
    whole, sidecar = path.read_bytes(), path.with_suffix(".sha256")
    if damage == "flipped":
        path.write_bytes(b"X" + whole[1:])
    elif damage == "cut":
        path.write_bytes(whole[:10])
    elif damage == "no checksum":
        sidecar.unlink()
    elif damage == "other checksum":
        sidecar.write_text("0" * 64)
    else:
        sidecar.write_bytes(b"\xff\0")
    again, note = provide("Q8_0", quantize, cache, source)
    assert again == path
    assert "made again" in note
    assert path.read_bytes() == whole
    assert provide("Q8_0", never, cache, source) == (path, "")


def test_a_level_that_cannot_be_made_gives_the_shipped_file_and_the_reason(source: Path, cache: Path) -> None:
    path, note = provide("Q8_0", raising(RuntimeError("status 1")), cache, source)
    assert path == source
    assert "status 1" in note
    assert not [entry for entry in cache.iterdir() if entry.suffix != ".lock"]


def test_an_empty_result_is_not_kept(source: Path, cache: Path) -> None:
    path, note = provide("Q8_0", lambda source, target, quant: None, cache, source)
    assert path == source
    assert "empty" in note


def test_a_full_disk_while_it_is_made_gives_the_shipped_file(source: Path, cache: Path) -> None:
    path, note = provide("Q8_0", raising(OSError(28, "No space left on device")), cache, source)
    assert path == source
    assert "the disk is full" in note


def test_a_cache_that_is_a_file_gives_the_shipped_file(source: Path, cache: Path) -> None:
    cache.write_text("")
    path, note = provide("Q8_0", never, cache, source)
    assert path == source
    assert str(cache) in note


def test_what_a_killed_program_left_half_made_is_swept_away(source: Path, cache: Path) -> None:
    quantize = Quantizer()
    path, _ = provide("Q8_0", quantize, cache, source)
    left = [cache / f".{path.stem}-abc.part", cache / f"..{path.stem}-abc.part.def.part"]
    for part in left:
        part.write_bytes(b"half")
    provide("Q8_0", never, cache, source)
    assert not any(part.exists() for part in left)


def test_an_unknown_level_names_those_that_there_are(source: Path, cache: Path) -> None:
    with pytest.raises(GuideError) as raised:
        provide("Q9\x1b", never, cache, source)
    assert "Q4_K_M" in raised.value.failure.why
    assert raised.value.failure.what.isprintable()


def test_all_levels_are_accepted_in_any_case() -> None:
    assert [check_quant(quant.lower()) for quant in QUANTS] == list(QUANTS)


def test_two_processes_make_a_level_once(source: Path, cache: Path, tmp_path: Path) -> None:
    program = """
import os, sys
from pathlib import Path
from pagewise.guide.cache import provide

def quantize(source, target, quant):
    with open(sys.argv[3], "a") as calls:
        calls.write("x")
    target.write_bytes(source.read_bytes() * 20)

print(provide("Q8_0", quantize, Path(sys.argv[2]), Path(sys.argv[1])))
"""
    calls = tmp_path / "calls"
    command = [sys.executable, "-c", program, str(source), str(cache), str(calls)]
    processes = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(4)]
    answers = {process.communicate(timeout=60)[0] for process in processes}
    assert len(answers) == 1
    assert calls.read_text() == "x"


ON_DISK = """
import subprocess, sys
from pathlib import Path
from pagewise.guide.cache import provide

folder = Path(sys.argv[1])
source = folder / "guide.gguf"
source.write_bytes(b"G" * 1000)

def quantize(source, target, quant):
    with target.open("wb", buffering=0) as file:
        for _ in range(int(sys.argv[2]) if len(sys.argv) > 2 else 1000):
            file.write(bytes(4096))

print(provide("Q8_0", quantize, folder / "cache", source))
print(sorted(path.suffix for path in (folder / "cache").iterdir()))
subprocess.run(["mount", "-o", "remount,ro", str(folder)], check=True)
print(provide("Q8_0", quantize, folder / "cache", source))
"""


@pytest.mark.skipif(bool(why_not()), reason=why_not())
def test_a_really_full_and_a_really_read_only_disk(tmp_path: Path) -> None:
    full, left, read_only = run_in_small_disk(ON_DISK, tmp_path).splitlines()
    assert "guide.gguf'" in full
    assert "the disk is full" in full
    assert left == "['.lock']"
    assert "the folder cannot be written to" in read_only


def test_every_level_of_the_shipped_guide_can_be_made_by_llama_cpp(cache: Path) -> None:
    from pagewise.engine.llamacpp import library
    from pagewise.engine.llamacpp.quantize import quantize
    from pagewise.guide.files import guide_path
    from pagewise.models.inspect import inspect

    library.start()
    sizes = []
    for quant in QUANTS:
        path, note = provide(quant, quantize, cache)
        assert note == ""
        found = inspect(path)
        assert found.quant == quant
        sizes.append(found.file_bytes)
    assert sizes == sorted(sizes, reverse=True)
    assert path != guide_path()

from __future__ import annotations

import builtins
import os
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.models.catalog.models_on_disk import (
    F16,
    Q4_0,
    Q4_K,
    Q6_K,
    Q8_0,
    model,
    put,
    put_in_hub,
    put_in_ollama,
)
from tests.models.gguf_bytes import gguf

from pagewise.jobs.catalog import Catalog
from pagewise.models.catalog.facts import NotUsable, read_facts
from pagewise.models.catalog.index import Index
from pagewise.models.catalog.ollama import read_manifest
from pagewise.models.catalog.places import Root
from pagewise.models.catalog.scan import scan


def look(tmp_path: Path, *roots: Root | Path) -> Catalog:
    places = [root if isinstance(root, Root) else Root("folder", root) for root in roots]
    return scan(places or [Root("folder", tmp_path / "models")], Index(tmp_path / "index.bin"))


def levels(catalog: Catalog) -> list[tuple[str, list[str]]]:
    return [(model.name, [level.quant for level in model.levels]) for model in catalog.models]


def reasons(catalog: Catalog) -> str:
    return " | ".join(f"{unusable.failure.what}: {unusable.failure.why}" for unusable in catalog.unusable)


def test_files_are_grouped_by_model_and_ordered_by_bits(tmp_path: Path) -> None:
    put(tmp_path / "models/a-Q4_K_M.gguf", model("Small Model 1B", Q4_K))
    put(tmp_path / "models/elsewhere/small-model-1b.Q8_0.gguf", model("small-model-1b", Q8_0))
    put(tmp_path / "models/b.gguf", model("Another", Q6_K))
    found = look(tmp_path)
    assert levels(found) == [("Another", ["Q6_K"]), ("small-model-1b", ["Q8_0", "Q4_K_M"])]
    level = found.models[1].levels[1]
    assert level.bits_per_weight == pytest.approx(4.5)
    assert [(part.type, part.bytes) for part in level.mix] == [("Q4_K", 16 * 144)]
    assert level.kv_bytes == 2 * 4096 * 2 * 256 * 2
    assert (found.models[1].n_params, found.models[1].n_ctx_train) == (4096, 8192)


def test_the_level_is_that_of_the_tensors_whatever_name_and_header_say(tmp_path: Path) -> None:
    put(tmp_path / "models/lie-Q8_0.gguf", model("A", Q4_0, stated=7))
    put(tmp_path / "models/true-Q4_K_M.gguf", model("B", Q4_K))
    found = look(tmp_path)
    assert levels(found) == [("A", ["Q4_0"]), ("B", ["Q4_K_M"])]
    assert found.models[0].levels[0].note == "Its name says Q8_0, but its tensors are Q4_0."
    assert found.models[1].levels[0].note == ""


def test_the_hubs_cache_names_models_by_repository_and_counts_each_blob_once(tmp_path: Path) -> None:
    files = {"sub/m-Q4_K_M.gguf": model(), "m-Q8_0.gguf": model(kind=Q8_0)}
    put_in_hub(tmp_path / "hub", "org/Some-GGUF", files)
    put_in_hub(tmp_path / "hub", "org/Some-GGUF", files, commit="f" * 40)
    found = look(tmp_path, Root("Hugging Face", tmp_path / "hub"))
    assert levels(found) == [("Small Model", ["Q8_0", "Q4_K_M"])]
    level = found.models[0].levels[0]
    assert (level.source, level.name) == ("Hugging Face", "org/Some-GGUF")
    assert [(copy.name, copy.takes_space) for copy in level.copies] == [("org/Some-GGUF", False)]


def test_ollamas_models_have_the_names_of_their_manifests(tmp_path: Path) -> None:
    root = tmp_path / "ollama"
    put_in_ollama(root, "small:1b", {"model": model(), "license": b"MIT", "projector": model(general_type="mmproj")})
    put_in_ollama(root, "someone/tuned:latest", {"model": model("", Q8_0)})
    put_in_ollama(root, "gone:1b", {"model": model("gone")})
    (next(iter(root.glob("manifests/*/library/gone/1b")))).with_name("2b").write_text("{]")
    lost = read_manifest(next(iter(root.glob("manifests/*/library/gone/1b"))))
    (root / "blobs" / lost.model[0]).unlink()
    found = look(tmp_path, Root("Ollama", root, "ollama"))
    assert levels(found) == [("Small Model", ["Q4_K_M"]), ("tuned-latest", ["Q8_0"])]
    assert [level.name for model in found.models for level in model.levels] == ["small:1b", "someone/tuned:latest"]
    assert [(other.kind, other.name) for other in found.others] == [("projector", "small:1b")]
    assert "gone:1b cannot be used: The file that its manifest names is not there." in reasons(found)
    assert "gone:2b cannot be used: Its manifest is damaged" in reasons(found)


def test_parts_of_a_split_file_are_one_and_a_missing_one_is_said(tmp_path: Path) -> None:
    for number in range(3):
        put(tmp_path / f"models/big-{number + 1:05d}-of-00003.gguf", model("Big", part=(number, 3)))
    found = look(tmp_path)
    level = found.models[0].levels[0]
    assert (level.parts, level.path) == (3, str(tmp_path / "models/big-00001-of-00003.gguf"))
    assert level.bytes == sum(path.stat().st_size for path in (tmp_path / "models").iterdir())
    (tmp_path / "models/big-00002-of-00003.gguf").rename(tmp_path / "away.gguf")
    found = look(tmp_path)
    assert not found.models
    assert "big-00001-of-00003.gguf is one part of 3, and 1 is missing" in reasons(found)
    (tmp_path / "away.gguf").rename(tmp_path / "models/big-00002-of-00003.gguf")
    assert look(tmp_path).models[0].levels[0] == level


def test_what_was_learned_while_a_part_was_missing_is_not_kept(tmp_path: Path) -> None:
    first = put(tmp_path / "models/big-00001-of-00002.gguf", model("Big", part=(0, 2)))
    look(tmp_path)
    put(first.with_name("big-00002-of-00002.gguf"), model("Big", part=(1, 2)))
    assert look(tmp_path).models[0].levels[0].kv_bytes is not None


def test_copies_are_told_from_other_names_of_one_file(tmp_path: Path) -> None:
    one = put(tmp_path / "models/m.gguf", model(fill=b"weights"))
    put(tmp_path / "models/copy/m.gguf", model(fill=b"weights"))
    (tmp_path / "models/hard.gguf").hardlink_to(one)
    # The same header and size, but other weights: no copy.
    put(tmp_path / "models/tuned.gguf", model(fill=b"tuned!!"))
    found = look(tmp_path)
    first, second = found.models[0].levels
    assert {first.path, second.path} == {str(tmp_path / "models/hard.gguf"), str(tmp_path / "models/tuned.gguf")}
    kept = next(level for level in (first, second) if level.copies)
    assert sorted((Path(copy.path).name, copy.takes_space) for copy in kept.copies) == [
        ("m.gguf", False),
        ("m.gguf", True),
    ]


def test_projectors_adapters_and_importance_matrices_are_told_apart(tmp_path: Path) -> None:
    folder = tmp_path / "models"
    put(folder / "m-Q4_K_M.gguf", model())
    put(folder / "mmproj-m.gguf", model(general_type="mmproj"))
    put(folder / "clip.gguf", model(architecture="clip"))
    put(folder / "lora.gguf", model(general_type="adapter"))
    put(folder / "m.imatrix.gguf", model(general_type="imatrix"))
    put(folder / "m-imatrix.dat", b"the older format, which says nothing of itself")
    put(folder / "vocab.gguf", gguf({"general.architecture": "llama"}))
    found = look(tmp_path)
    assert levels(found) == [("Small Model", ["Q4_K_M"])]
    assert sorted((other.kind, Path(other.path).name) for other in found.others) == [
        ("adapter", "lora.gguf"),
        ("imatrix", "m-imatrix.dat"),
        ("imatrix", "m.imatrix.gguf"),
        ("projector", "clip.gguf"),
        ("projector", "mmproj-m.gguf"),
        ("vocabulary", "vocab.gguf"),
    ]


def test_a_name_that_says_nothing_is_replaced_by_that_of_file_or_folder(tmp_path: Path) -> None:
    put(tmp_path / "models/nice-7B-Q6_K.gguf", model("", Q6_K))
    put(tmp_path / "models/folder/model.gguf", model("model", Q8_0))
    assert {model.name for model in look(tmp_path).models} == {"nice-7B", "folder"}


def test_bad_files_are_listed_with_their_reason(tmp_path: Path) -> None:
    folder = tmp_path / "models"
    whole = put(folder / "whole.gguf", model())
    put(folder / "short.gguf", whole.read_bytes()[:-100])
    put(folder / "empty.gguf", b"")
    put(folder / "page.gguf", b"<html>404</html>")
    put(folder / "old.gguf", b"ggjt" + bytes(100))
    put(folder / "big-endian.gguf", b"GGUF\0\0\0\3" + bytes(100))
    put(folder / "esc\x1b[31m.gguf", b"no")
    (folder / "dangling.gguf").symlink_to(folder / "nowhere")
    (folder / "pipe.gguf").mkdir()
    os.mkfifo(folder / "fifo.gguf")
    found = look(tmp_path)
    assert levels(found) == [("Small Model", ["Q4_K_M"])]
    told = reasons(found)
    for words in ("short.gguf is cut short", "empty.gguf is empty", "page.gguf is not a GGUF file", "older than GGUF"):
        assert words in told
    assert "dangling.gguf is a link to a file that is gone" in told
    assert "\x1b" not in told
    assert len(found.unusable) == 7


def test_loops_of_links_and_folders_in_folders_are_walked_once(tmp_path: Path) -> None:
    folder = tmp_path / "models"
    put(folder / "a/m.gguf", model())
    (folder / "a/loop").symlink_to(folder)
    (folder / "self").symlink_to(folder / "self")
    found = look(tmp_path, folder, folder / "a", folder / "a/loop")
    assert levels(found) == [("Small Model", ["Q4_K_M"])]
    assert found.models[0].levels[0].copies == ()


@pytest.mark.skipif(os.geteuid() == 0, reason="nothing is unreadable to root")
def test_a_folder_that_cannot_be_read_is_said(tmp_path: Path) -> None:
    put(tmp_path / "models/closed/m.gguf", model())
    (tmp_path / "models/closed").chmod(0)
    found = look(tmp_path)
    (tmp_path / "models/closed").chmod(0o700)
    assert "closed cannot be read: Permission denied" in found.places[0].why


def test_a_folder_whose_list_fails_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put(tmp_path / "models/closed/m.gguf", model())
    put(tmp_path / "models/open/m.gguf", model())
    listed = os.scandir

    def refuse(path: Any) -> Any:
        if str(path).endswith("closed"):
            raise PermissionError(13, "Permission denied", path)
        return listed(path)

    monkeypatch.setattr(os, "scandir", refuse)
    found = look(tmp_path)
    assert levels(found) == [("Small Model", ["Q4_K_M"])]
    assert "closed cannot be read: Permission denied" in found.places[0].why


def test_other_files_in_large_folders_are_never_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "models"
    put(folder / "m.gguf", model())
    for number in range(10_000):
        (folder / f"{number}.safetensors").touch()
    opened = count_opens(monkeypatch)
    found = look(tmp_path)
    assert levels(found) == [("Small Model", ["Q4_K_M"])]
    assert {Path(path).suffix for path in opened if str(folder) in path} == {".gguf"}


def count_opens(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    opened: list[str] = []
    open_ = builtins.open

    def counting(file: Any, *arguments: Any, **keywords: Any) -> Any:
        opened.append(str(file))
        return open_(file, *arguments, **keywords)

    monkeypatch.setattr(builtins, "open", counting)
    monkeypatch.setattr("io.open", counting)
    return opened


def test_the_second_look_opens_no_model_and_finds_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put_in_hub(tmp_path / "hub", "org/a", {f"m{number}.gguf": model(f"M{number}") for number in range(20)})
    put_in_ollama(tmp_path / "ollama", "small:1b", {"model": model("S", Q6_K)})
    put(tmp_path / "models/bad.gguf", b"no")
    places = (
        Root("Hugging Face", tmp_path / "hub"),
        Root("Ollama", tmp_path / "ollama", "ollama"),
        tmp_path / "models",
    )
    first = look(tmp_path, *places)
    assert first.read == 22
    opened = count_opens(monkeypatch)
    second = look(tmp_path, *places)
    assert opened == [str(tmp_path / "index.bin")]
    assert (second.read, second.models, second.unusable) == (0, first.models, first.unusable)


def test_a_file_that_changed_is_read_again(tmp_path: Path) -> None:
    path = put(tmp_path / "models/m.gguf", model(kind=Q4_0))
    assert levels(look(tmp_path)) == [("Small Model", ["Q4_0"])]
    before = path.stat()
    put(tmp_path / "new.gguf", model(kind=Q4_K)).rename(path)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert path.stat().st_size == before.st_size or sys.platform == "darwin"
    found = look(tmp_path)
    assert (levels(found), found.read) == ([("Small Model", ["Q4_K_M"])], 1)


@pytest.mark.parametrize("damage", ["cut", "flip", "empty", "other", "folder"])
def test_a_damaged_index_is_made_again(tmp_path: Path, damage: str) -> None:
    put(tmp_path / "models/m.gguf", model())
    first = look(tmp_path)
    index = tmp_path / "index.bin"
    content = bytearray(index.read_bytes())
    if damage == "folder":
        index.unlink()
        index.mkdir()
    elif damage == "flip":
        content[-10] ^= 1
        index.write_bytes(content)
    else:
        index.write_bytes({"cut": content[:-5], "empty": b"", "other": b"PWC1" + bytes(40)}[damage])
    again = look(tmp_path)
    assert (again.models, again.read) == (first.models, 1)
    assert look(tmp_path).read == (1 if damage == "folder" else 0)


@given(noise=st.binary(max_size=400), at=st.integers(0, 300))
@settings(max_examples=60, deadline=None)
def test_whatever_a_file_holds_it_is_told_and_never_raised(
    noise: bytes, at: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    content = model(kind=F16)
    path = tmp_path_factory.mktemp("noise") / "m.gguf"
    path.write_bytes(content[:at] + noise + content[at + len(noise) :])
    told = read_facts(str(path))
    if isinstance(told, NotUsable):
        assert told.what.isprintable() and told.why
    else:
        assert told.name.isprintable() and told.architecture.isprintable()


@given(content=st.binary(max_size=200) | st.recursive(st.none() | st.text(), st.lists).map(lambda v: repr(v).encode()))
@settings(max_examples=60, deadline=None)
def test_whatever_a_manifest_holds_it_is_told_and_never_raised(
    content: bytes, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.mktemp("manifest") / "tag"
    path.write_bytes(content)
    read_manifest(path)

from __future__ import annotations

from pathlib import Path

import pytest
from tests.models.gguf_bytes import Array, T, gguf
from tests.synthetic import make_model

from pagewise.commands.inspect import run
from pagewise.models.gguf import GgufError, read_header
from pagewise.models.inspect import inspect


def test_a_models_facts_are_those_of_its_header() -> None:
    path = make_model(weights="Q8_0")
    found = inspect(path)
    header = read_header(path)
    assert found.files == (str(path),)
    assert found.file_bytes == path.stat().st_size
    assert (found.architecture, found.n_layer, found.n_ctx_train, found.n_vocab) == ("llama", 4, 4096, 1024)
    assert (found.n_head, found.n_head_kv, found.n_embd, found.quant) == (4, 2, 128, "Q8_0")
    assert found.chat_template
    assert found.n_params == sum(tensor.n_weights for tensor in header.tensors)
    assert sum(share.bytes for share in found.types) == found.tensor_bytes
    assert sum(layer.bytes for layer in found.layers) == found.tensor_bytes
    assert found.bits_per_weight == pytest.approx(8.5, abs=0.05)
    assert [layer.name for layer in found.layers] == ["input", "0", "1", "2", "3", "output"]
    assert found.kv is not None
    assert found.kv.bytes_per_token_f16 == 4 * 2 * 2 * 32 * 2


def split(folder: Path, missing: int | None = None) -> list[Path]:
    paths = [folder / f"big-{number:05d}-of-00003.gguf" for number in (1, 2, 3)]
    for number, path in enumerate(paths):
        metadata = {"split.no": number, "split.count": 3}
        if number == 0:
            metadata |= {"general.architecture": "llama", "llama.block_count": 2}
        tensors = [T(f"blk.{number // 2}.part{number}.weight", 0, (8,), 32)]
        if number != missing:
            path.write_bytes(gguf(metadata, tensors))
    return paths


def test_a_split_model_is_one_whichever_part_is_named(tmp_path: Path) -> None:
    paths = split(tmp_path)
    found = inspect(paths[0])
    assert found.files == tuple(map(str, paths))
    assert found.file_bytes == sum(path.stat().st_size for path in paths)
    assert [(layer.name, layer.bytes) for layer in found.layers] == [("0", 64), ("1", 32)]
    assert [entry.file for entry in found.layers[0].ranges] == [0, 1]
    assert inspect(paths[2]) == found


def test_a_missing_part_is_named(tmp_path: Path) -> None:
    paths = split(tmp_path, missing=1)
    with pytest.raises(GgufError) as raised:
        inspect(paths[0])
    assert "big-00002-of-00003.gguf" in raised.value.why


@pytest.mark.parametrize("count", [3, 10**9])
def test_a_part_under_another_name_is_told(tmp_path: Path, count: int) -> None:
    path = tmp_path / "renamed.gguf"
    path.write_bytes(gguf({"split.count": count}))
    with pytest.raises(GgufError, match="one part of"):
        inspect(path)


def test_what_a_header_does_not_say_is_not_made_up(tmp_path: Path) -> None:
    path = tmp_path / "bare.gguf"
    path.write_bytes(gguf({}))
    found = inspect(path)
    assert (found.n_layer, found.n_ctx_train, found.kv, found.bits_per_weight, found.n_vocab) == (None,) * 5
    assert found.kv_unknown
    assert "n/a" in run(path, json=False)


def test_control_characters_of_a_header_do_not_reach_the_terminal(tmp_path: Path) -> None:
    evil = "\x1b[2J\x9b31m\u202e"
    path = tmp_path / "evil.gguf"
    metadata = {"general.architecture": evil, "general.name": evil, "tokenizer.ggml.model": evil}
    path.write_bytes(gguf({**metadata, "tokenizer.ggml.tokens": Array(8, ["a"])}, [T(evil, 0, (8,), 32)]))
    for json in (False, True):
        shown = run(path, json)
        assert all(character.isprintable() or character == "\n" for character in shown)

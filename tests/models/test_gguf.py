from __future__ import annotations

import struct
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.models.gguf_bytes import Array, T, gguf, text
from tests.synthetic import make_model

from pagewise.models.gguf import GgufError, GgufHeader, Skipped, read_header
from pagewise.models.layers import layer_ranges

SOUND = gguf(
    {
        "general.architecture": "llama",
        "llama.block_count": 2,
        "llama.attention.head_count_kv": Array(4, [1, 2]),
        "llama.rope.freq_base": 10000.5,
        "flag": True,
        "negative": -3,
        "tokenizer.ggml.tokens": Array(8, ["a", "bc", ""]),
        "nested": Array(9, [Array(4, [1]), Array(4, [2, 3])]),
    },
    [T("token_embd.weight", 0, (8, 2), 64), T("blk.0.attn_q.weight", 2, (64, 2), 72), T("output.weight", 1, (8,), 16)],
)


def write(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "model.gguf"


def error_of(path: Path) -> GgufError:
    with pytest.raises(GgufError) as raised:
        read_header(path)
    error = raised.value
    assert all(part and part.isprintable() for part in (error.what, error.why, error.next))
    return error


def test_every_kind_of_value_is_read(path: Path) -> None:
    header = read_header(write(path, SOUND))
    assert header.architecture == "llama"
    assert header.number("block_count") == 2
    assert header.number("attention.head_count_kv") == 2
    assert header.metadata["llama.attention.head_count_kv"] == (1, 2)
    assert header.metadata["llama.rope.freq_base"] == 10000.5
    assert header.metadata["flag"] is True
    assert header.metadata["negative"] == -3
    assert header.metadata["nested"] == ((1,), (2, 3))
    tokens = header.metadata["tokenizer.ggml.tokens"]
    assert isinstance(tokens, Skipped)
    assert tokens.entries == 3
    assert SOUND[tokens.start : tokens.end] == text("a") + text("bc") + text("")


def test_tensors_lie_where_their_data_is(path: Path) -> None:
    header = read_header(write(path, SOUND))
    assert [tensor.name for tensor in header.tensors] == ["token_embd.weight", "blk.0.attn_q.weight", "output.weight"]
    assert [tensor.bytes for tensor in header.tensors] == [64, 72, 16]
    assert [tensor.start - header.data_start for tensor in header.tensors] == [0, 64, 160]
    assert header.data_start % 32 == 0
    assert header.file_bytes == len(SOUND)


@pytest.mark.parametrize("version", [1, 4, 0x03000000])
def test_other_versions_are_named(path: Path, version: int) -> None:
    assert "cannot be used" in error_of(write(path, gguf({}, version=version))).what


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "is empty"),
        (b"GG", "is not a GGUF file"),
        (b"PK\x03\x04 a zip file", "is not a GGUF file"),
        (b"ggjt" + bytes(100), "older than GGUF"),
        (b"GGUF" + struct.pack("<IQQ", 3, 1 << 60, 0), "is damaged"),
        (b"GGUF" + struct.pack("<IQQ", 3, 0, 1 << 60), "is damaged"),
        (b"GGUF" + struct.pack("<IQQ", 3, 0, 1) + struct.pack("<Q", 1 << 62), "is damaged"),
        (gguf({"general.alignment": 24}), "is damaged"),
        (gguf({"general.alignment": 0}), "is damaged"),
        (gguf({"a": Array(8, ["x"])})[:-40], "is damaged"),
        (gguf({}, [T("t", 99, (4,), 0)]), "tensor type"),
        (gguf({}, [T("t", 0, (1 << 40, 1 << 40), 0)]), "is damaged"),
        (gguf({}, [T("t", 0, (4,) * 5, 0)]), "is damaged"),
        (gguf({}, [T("t", 0, (1 << 30,), 0)]), "is cut short"),
    ],
)
def test_what_is_wrong_with_a_file_is_said(path: Path, content: bytes, words: str) -> None:
    assert words in error_of(write(path, content)).what


@pytest.mark.parametrize("kind", [4, 8, 9])
def test_arrays_of_absurd_length_are_refused_at_once(path: Path, kind: int) -> None:
    start = b"GGUF" + struct.pack("<IQQ", 3, 0, 1) + text("a") + struct.pack("<IIQ", 9, kind, 1 << 61)
    assert "is damaged" in error_of(write(path, start + bytes(1000))).what


def test_arrays_nested_without_end_are_refused(path: Path) -> None:
    nest = struct.pack("<IQ", 9, 1) * 1000
    assert (
        "is damaged"
        in error_of(write(path, b"GGUF" + struct.pack("<IQQ", 3, 0, 1) + text("a") + struct.pack("<I", 9) + nest)).what
    )


def test_a_file_cut_short_says_how_much_is_missing(path: Path) -> None:
    error = error_of(write(path, SOUND[:-40]))
    assert "is cut short" in error.what
    assert "missing" in error.why
    assert read_header(path, complete=False).architecture == "llama"


def test_a_missing_file_a_folder_and_a_pipe_are_told(tmp_path: Path) -> None:
    assert "There is no file" in error_of(tmp_path / "none.gguf").what
    assert "no GGUF file in it" in error_of(tmp_path).why
    write(tmp_path / "a.gguf", SOUND)
    assert "a.gguf" in error_of(tmp_path).why


def test_a_hugging_face_model_is_recognised(tmp_path: Path) -> None:
    weights = write(tmp_path / "model.safetensors", struct.pack("<Q", 8) + b"{}      ")
    assert "convert_hf_to_gguf" in error_of(weights).next
    assert "Hugging Face" in error_of(tmp_path).what


def test_control_characters_of_names_do_not_reach_a_message(tmp_path: Path) -> None:
    error_of(write(tmp_path / "evil\x1b[2J.gguf", b"nothing"))
    error_of(write(tmp_path / "evil.gguf", gguf({}, [T("\x1b[2J", 99, (4,), 0)])))


def test_a_real_model_is_read_whole(tmp_path: Path) -> None:
    header = read_header(make_model())
    ranges = [entry for layer in layer_ranges(header) for entry in layer.ranges]
    assert header.architecture == "llama"
    assert max(end for _, end in ranges) == max(tensor.end for tensor in header.tensors)
    assert max(end for _, end in ranges) <= header.file_bytes


def header_or_error(folder: Path, content: bytes) -> GgufHeader | None:
    """Any bytes are a header, or a GgufError that can be shown."""
    path = write(folder / "any.gguf", content)
    try:
        header = read_header(path)
    except GgufError as error:
        assert all(part and part.isprintable() for part in (error.what, error.why, error.next))
        return None
    assert sum(layer.bytes for layer in layer_ranges(header)) == sum(tensor.bytes for tensor in header.tensors)
    return header


@given(st.binary(max_size=300))
def test_any_bytes_give_a_header_or_an_error(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    folder = tmp_path_factory.getbasetemp()
    header_or_error(folder, content)
    header_or_error(folder, b"GGUF\x03\0\0\0" + content)


@given(st.lists(st.tuples(st.integers(0, len(SOUND) - 1), st.integers(0, 255)), min_size=1, max_size=6))
def test_a_sound_file_with_flipped_bytes_gives_a_header_or_an_error(
    tmp_path_factory: pytest.TempPathFactory, flips: list[tuple[int, int]]
) -> None:
    content = bytearray(SOUND)
    for at, byte in flips:
        content[at] = byte
    header_or_error(tmp_path_factory.getbasetemp(), bytes(content))


@given(st.integers(0, len(SOUND)))
def test_a_sound_file_cut_anywhere_is_an_error(tmp_path_factory: pytest.TempPathFactory, end: int) -> None:
    header = header_or_error(tmp_path_factory.getbasetemp(), SOUND[:end])
    assert header is None or end > len(SOUND) - 32


names = st.text(max_size=12) | st.integers(0, 10**30).map(lambda number: f"blk.{number}.x")


@given(
    st.lists(
        st.builds(T, names, st.integers(0, 45), st.lists(st.integers(0, 2**63), max_size=4).map(tuple), st.just(0))
    )
)
def test_any_tensor_directory_gives_a_header_or_an_error(
    tmp_path_factory: pytest.TempPathFactory, tensors: list[T]
) -> None:
    header_or_error(tmp_path_factory.getbasetemp(), gguf({}, tensors))

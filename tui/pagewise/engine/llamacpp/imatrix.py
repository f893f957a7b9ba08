"""Importance matrices: how much each input of a matrix matters, as llama-imatrix wrote it down.

Both formats are read as llama.cpp's own quantize tool reads them: GGUF, and the older .dat.
"""

from __future__ import annotations

import ctypes
import struct
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from llama_cpp import llama_cpp

from pagewise.engine.failures import Failed, from_gguf
from pagewise.models.gguf import MAGIC, GgufError, GgufHeader, Skipped, Tensor, printable, read_header

_SUMS, _COUNTS = ".in_sum2", ".counts"
_MAX_ENTRIES = 1_000_000
_MAX_NAME = 4096
_SAMPLES = 3

Importance = npt.NDArray[np.float32]


class Imatrix(NamedTuple):
    """Mean squares of the inputs by tensor name: one number for each column, of a mixture for each expert's columns."""

    path: Path
    entries: dict[str, Importance]
    dataset: str
    chunks: int


def load_imatrix(path: Path) -> Imatrix:
    """The importance matrix at ``path``. Raises Failed."""
    try:
        with path.open("rb") as file:
            start = file.read(len(MAGIC))
        loaded = _from_gguf(path) if start == MAGIC else _from_dat(path)
    except GgufError as error:
        raise from_gguf(error) from error
    except OSError as error:
        raise Failed(
            f"The importance matrix {printable(path.name)} cannot be read",
            f"The system says: {error.strerror or error}.",
            "Check the path and the permissions of the file.",
        ) from error
    if not all(np.isfinite(values).all() for values in loaded.entries.values()):
        raise _unusable(path, "Some of its values are no numbers.")
    return loaded


def check_imatrix(imatrix: Imatrix, tensors: Iterable[Tensor]) -> str:
    """Which of ``tensors`` (those that are to be quantized) it says nothing of, in a sentence; empty if of none.

    Raises Failed where it was made for another model.
    """
    missing = []
    n = 0
    for tensor in tensors:
        n += 1
        values = imatrix.entries.get(tensor.name)
        experts = tensor.shape[2] if len(tensor.shape) > 2 else 1
        if values is None:
            missing.append(tensor.name)
        elif values.size != tensor.shape[0] * experts and tensor.name != "token_embd.weight":
            raise _unusable(
                imatrix.path,
                f"It has {values.size:,} values for {printable(tensor.name)}, which has {tensor.shape[0] * experts:,} "
                "columns: it was made for another model.",
            )
    if n and len(missing) == n:
        raise _unusable(imatrix.path, "None of its tensors are in this model: it was made for another one.")
    # Of embedding and output llama-imatrix gathers nothing.
    telling = [name for name in missing if name not in ("token_embd.weight", "output.weight")]
    if not telling:
        return ""
    listed = ", ".join(map(printable, telling[:_SAMPLES])) + (", …" if len(telling) > _SAMPLES else "")
    return f"The importance matrix says nothing of {len(telling)} of {n} matrices: {listed}."


def as_array(imatrix: Imatrix) -> Any:
    """llama_model_imatrix_data[], ended by an empty one; ``imatrix`` must live as long."""
    array = (llama_cpp.llama_model_imatrix_data * (len(imatrix.entries) + 1))()
    for entry, (name, values) in zip(array, imatrix.entries.items(), strict=False):
        entry.name = name.encode("utf-8", errors="surrogateescape")
        entry.data = values.ctypes.data_as(ctypes.POINTER(ctypes.c_float))
        entry.size = values.size
    return array


def _from_gguf(path: Path) -> Imatrix:
    header = read_header(path)
    tensors = {tensor.name: tensor for tensor in header.tensors}
    chunks = header.metadata.get("imatrix.chunk_count")
    if not isinstance(chunks, int) or "imatrix.chunk_size" not in header.metadata:
        raise _unusable(path, "It lacks the metadata of one.")
    entries = {}
    for name, tensor in tensors.items():
        if not name.endswith(_SUMS):
            continue
        counted = tensors.get(name.removesuffix(_SUMS) + _COUNTS)
        if counted is None or {tensor.type.name, counted.type.name} != {"F32"}:
            raise _unusable(path, f"The entry {printable(name)} is not whole.")
        entries[name.removesuffix(_SUMS)] = _mean(_floats(path, tensor), _floats(path, counted), path)
    if not entries:
        raise _unusable(path, "There are no entries in it.")
    return Imatrix(path, entries, _first_dataset(header), chunks)


def _mean(sums: Importance, counts: Importance, path: Path) -> Importance:
    counts = np.rint(counts)
    if not counts.size or sums.size % counts.size:
        raise _unusable(path, "Its sums and counts do not go together.")
    rows = sums.reshape(counts.size, -1)
    seen = counts > 0
    # An expert that no text has reached weighs all of its columns alike.
    mean = np.ones_like(rows)
    mean[seen] = rows[seen] / counts[seen, None]
    return np.ascontiguousarray(mean.reshape(-1))


def _floats(path: Path, tensor: Tensor) -> Importance:
    return np.fromfile(path, np.dtype("<f4"), tensor.n_weights, offset=tensor.start).astype(np.float32)


def _first_dataset(header: GgufHeader) -> str:
    value = header.metadata.get("imatrix.datasets")
    if not isinstance(value, Skipped) or not value.entries:
        return ""
    with header.path.open("rb") as file:
        file.seek(value.start)
        (length,) = struct.unpack("<Q", file.read(8))
        return file.read(min(length, _MAX_NAME)).decode("utf-8", errors="replace")


def _from_dat(path: Path) -> Imatrix:
    raw = memoryview(path.read_bytes())
    at = 0

    def number() -> int:
        nonlocal at
        if at + 4 > len(raw):
            raise _unusable(path, "It ends in the middle of an entry, or is no importance matrix at all.")
        (value,) = struct.unpack_from("<i", raw, at)
        at += 4
        return int(value)

    def piece(length: int, limit: int) -> memoryview:
        nonlocal at
        if not 0 <= length <= limit or at + length > len(raw):
            raise _unusable(path, "It ends in the middle of an entry, or is no importance matrix at all.")
        at += length
        return raw[at - length : at]

    n_entries = number()
    if not 0 < n_entries <= _MAX_ENTRIES:
        raise _unusable(path, "There are no entries in it, or it is no importance matrix at all.")
    entries = {}
    for _ in range(n_entries):
        name = bytes(piece(number(), _MAX_NAME)).decode("utf-8", errors="surrogateescape")
        calls, n_values = number(), number()
        if n_values < 1:
            raise _unusable(path, f"The entry {printable(name)} is empty.")
        values = np.frombuffer(piece(4 * n_values, len(raw)), np.dtype("<f4")).astype(np.float32)
        entries[name] = values / np.float32(calls) if calls > 0 else values
    chunks, dataset = 0, ""
    if at < len(raw):
        chunks = number()
        if at < len(raw):
            dataset = bytes(piece(number(), _MAX_NAME)).decode("utf-8", errors="replace")
    return Imatrix(path, entries, dataset, chunks)


def _unusable(path: Path, why: str) -> Failed:
    return Failed(
        f"{printable(path.name)} cannot be used as an importance matrix",
        why,
        "Take the imatrix that was made for this very model, or make one with llama.cpp's llama-imatrix.",
    )

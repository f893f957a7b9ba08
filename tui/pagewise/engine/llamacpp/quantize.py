"""Making another quant of a model, and saying beforehand what it will weigh."""

from __future__ import annotations

import ctypes
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from llama_cpp import llama_cpp

from pagewise.engine.failures import Failed, from_gguf
from pagewise.engine.llamacpp.cores import physical_cores
from pagewise.engine.llamacpp.imatrix import Imatrix, as_array
from pagewise.engine.llamacpp.log import log
from pagewise.models.gguf import GgufError, GgufHeader, Tensor, printable
from pagewise.models.level_names import LevelError, level_named
from pagewise.models.quant import FILE_TYPE_BY_NAME, TENSOR_TYPES, TensorType, tensor_bytes
from pagewise.models.split import read_parts
from pagewise.unnamed import UnnamedFile

_ALIGNMENT = 32
"""llama.cpp pads the tensors of what it writes to this, whatever the source says."""
_TENSOR = re.compile(r"^\[\s*\d+/\s*\d+\] (?P<name>.*?)\s+- \[.*\], type = +(?P<type>\S+),")
_TO = re.compile(r"^size = .*\((?P<type>\S+)\)\s*$")
_TYPES = {kind.name: kind for kind in TENSOR_TYPES.values()}
_NEEDS_IMATRIX = "will require an imatrix"
_INTEGER, _TEXT = 0, 3
"""llama_model_kv_override_type."""
_TEXT_ROOM = 127
_UINT32 = 4
_DROPPED = {"split.no": 2, "split.count": 2, "split.tensors.count": 4}
"""Metadata of splitting, which the result does not have, with the bytes of their values."""


class Recipe(NamedTuple):
    """What is to be made of what."""

    source: tuple[GgufHeader, ...]
    """All parts of it."""
    level: str
    imatrix: Imatrix | None = None
    threads: int = 0
    pure: bool = False

    @property
    def tensors(self) -> list[Tensor]:
        """Those of all parts."""
        return [tensor for part in self.source for tensor in part.tensors]


class Prediction(NamedTuple):
    """What a recipe will come to, found by llama.cpp's own dry run."""

    types: dict[str, TensorType]
    """Of each tensor of the result."""
    bytes: int
    """Of the whole file."""
    needs_imatrix: bool

    def tensor_bytes(self, tensor: Tensor) -> int:
        """Bytes that ``tensor`` (of the source) will take."""
        return tensor_bytes(self.types[tensor.name], tensor.shape)


class Progress(NamedTuple):
    """``done`` bytes of the result are on the disk, and ``tensor`` is next: number ``number`` of ``tensors``."""

    done: int
    tensor: str
    number: int
    tensors: int


def recipe_for(
    source: Path, level: str, imatrix: Imatrix | None = None, threads: int = 0, pure: bool = False
) -> Recipe:
    """The recipe, with the level's name and the file's header checked. Raises Failed."""
    try:
        return Recipe(read_parts(source), level_named(level), imatrix, threads, pure)
    except GgufError as error:
        raise from_gguf(error) from error
    except LevelError as error:
        raise Failed(error.failure.what, error.failure.why, error.failure.next) from error


def predict(recipe: Recipe) -> Prediction:
    """Have llama.cpp go through the recipe without reading or writing weights. Raises Failed."""
    types: dict[str, TensorType] = {}
    name = ""

    def follow(line: str) -> None:
        nonlocal name
        if found := _TENSOR.match(line):
            name = found["name"]
            _take(types, name, found["type"])
        elif found := _TO.match(line):
            _take(types, name, found["type"])

    mark = log.mark()
    with log.followed(follow):
        _run(recipe, "", dry_run=True)
    expected = {tensor.name for tensor in recipe.tensors}
    if types.keys() != expected:
        raise Failed(
            f"The size of {recipe.level} could not be predicted",
            f"llama.cpp's dry run told of {len(types)} tensors; the file has {len(expected)}.",
            "This is a fault of pagewise: please report it.",
        )
    weights = sum(_padded(tensor_bytes(types[tensor.name], tensor.shape)) for tensor in recipe.tensors)
    needs_imatrix = any(_NEEDS_IMATRIX in line for line in log.since(mark))
    return Prediction(types, _header_bytes(recipe) + weights, needs_imatrix)


def quantize(source: Path, target: Path, quant: str, progress: Callable[[Progress], None] | None = None) -> None:
    """Write ``source`` as ``quant`` (such as ``Q4_K_M``) to ``target``, which appears only when it is whole.

    Raises Failed, and OSError where the folder cannot be written to.
    """
    recipe = recipe_for(source, quant)
    make(recipe, predict(recipe), target, progress)


def make(
    recipe: Recipe, prediction: Prediction, target: Path, progress: Callable[[Progress], None] | None = None
) -> None:
    """Write the file, check it against the prediction, and only then give it the name ``target``.

    ``progress`` is called before each tensor and at the end, on this thread. Raises Failed and OSError.
    """
    number, tensors = 0, len(recipe.tensors)
    with UnnamedFile(target.parent, target.name) as file:

        def follow(line: str) -> None:
            nonlocal number
            found = _TENSOR.match(line)
            if found and progress is not None:
                number += 1
                progress(Progress(min(file.bytes, prediction.bytes), found["name"], number, tensors))

        with log.followed(follow):
            _run(recipe, os.fsdecode(file.path))
        _check(recipe, prediction, file)
        file.become(target)
    if progress is not None:
        progress(Progress(prediction.bytes, "", tensors, tensors))


def _take(types: dict[str, TensorType], name: str, kind: str) -> None:
    known = _TYPES.get(kind.upper())
    if known is not None:
        types[name] = known


def _run(recipe: Recipe, target: str, *, dry_run: bool = False) -> None:
    params = llama_cpp.llama_model_quantize_default_params()
    params.ftype = FILE_TYPE_BY_NAME[recipe.level]
    params.nthread = recipe.threads or physical_cores()
    params.pure = recipe.pure
    params.dry_run = dry_run
    # Whether it is wise is for the caller to say; llama.cpp would refuse even from Q8_0.
    params.allow_requantize = True
    arrays: tuple[Any, ...] = ()
    if recipe.imatrix is not None:
        arrays = (as_array(recipe.imatrix), _provenance(recipe.imatrix))
        params.imatrix, params.kv_overrides = arrays
    mark = log.mark()
    source = os.fsencode(recipe.source[0].path)
    result = llama_cpp.llama_model_quantize(source, os.fsencode(target), ctypes.byref(params))
    del arrays
    if result != 0:
        raise _failure(recipe, log.reason(mark) or f"code {result}")


def _failure(recipe: Recipe, reason: str) -> Failed:
    name = printable(recipe.source[0].path.name)
    what = f"{name} could not be quantized to {recipe.level}"
    if "requires an imatrix" in reason or "importance matrix" in reason:
        return Failed(
            what,
            "This level needs an importance matrix, which tells which weights matter.",
            "Give one with --imatrix FILE, or choose a level that needs none, such as Q3_K_M.",
        )
    if "unknown model architecture" in reason:
        return Failed(what, f"llama.cpp says: {reason}.", "Newer versions of llama.cpp know more architectures.")
    return Failed(what, f"llama.cpp says: {reason}.", "Check that the source is whole, and that the disk has room.")


def _check(recipe: Recipe, prediction: Prediction, file: UnnamedFile) -> None:
    """llama.cpp does not notice a disk that fills (its stream sets the bit it does not look at): look ourselves."""
    what = f"{recipe.level} of {printable(recipe.source[0].path.name)} was not written as it should be"
    try:
        (made,) = read_parts(file.path)
    except GgufError as error:
        raise Failed(what, f"Read again, the file is not whole. {error.why}", "Is the disk full? Try again.") from error
    if {tensor.name: tensor.type for tensor in made.tensors} != prediction.types:
        raise Failed(what, "It holds other tensors than were asked for.", "Try again; please report it.")


def _provenance(imatrix: Imatrix) -> Any:
    """What llama.cpp's own tool writes into the file about the importance matrix, as llama_model_kv_override[]."""
    values: list[tuple[str, int | str]] = [("quantize.imatrix.file", imatrix.path.name)]
    if imatrix.dataset:
        values.append(("quantize.imatrix.dataset", imatrix.dataset))
    values.append(("quantize.imatrix.entries_count", len(imatrix.entries)))
    if imatrix.chunks > 0:
        values.append(("quantize.imatrix.chunks_count", imatrix.chunks))
    array = (llama_cpp.llama_model_kv_override * (len(values) + 1))()
    for entry, (key, value) in zip(array, values, strict=False):
        entry.key = key.encode()
        if isinstance(value, int):
            entry.tag, entry.value.val_i64 = _INTEGER, value
        else:
            entry.tag, entry.value.val_str = _TEXT, _cut(value)
    return array


def _cut(text: str) -> bytes:
    raw = text.encode("utf-8", errors="replace")[:_TEXT_ROOM]
    return raw.decode("utf-8", errors="ignore").encode()


def _header_bytes(recipe: Recipe) -> int:
    """Of the result: the source's, with the keys that llama.cpp sets and without those of a split."""
    first = recipe.source[0]
    total = first.header_bytes
    for part in recipe.source[1:]:
        total += sum(_directory_bytes(tensor) for tensor in part.tensors)
    for key, size in _DROPPED.items():
        if key in first.metadata:
            total -= _entry_bytes(key, size)
    written: list[tuple[str, int]] = [("general.quantization_version", _UINT32), ("general.file_type", _UINT32)]
    if recipe.imatrix is not None:
        written += [
            (entry.key.decode(), _UINT32 if entry.tag == _INTEGER else 8 + len(entry.value.val_str))
            for entry in _provenance(recipe.imatrix)[:-1]
        ]
    for key, size in written:
        former = first.metadata.get(key)
        if former is None:
            total += _entry_bytes(key, size)
        elif isinstance(former, str):
            total += size - 8 - len(former.encode())
    return _padded(total, first.alignment)


def _entry_bytes(key: str, value: int) -> int:
    return 8 + len(key) + 4 + value


def _directory_bytes(tensor: Tensor) -> int:
    return 8 + len(tensor.name.encode()) + 4 + 8 * len(tensor.shape) + 4 + 8


def _padded(size: int, alignment: int = _ALIGNMENT) -> int:
    return -(-size // alignment) * alignment

"""LoRA adapters: checked, loaded beside a model's weights, and set on its context."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from llama_cpp import llama_cpp

from pagewise.engine.failures import Failed
from pagewise.engine.llamacpp.context import Context
from pagewise.engine.llamacpp.log import log
from pagewise.engine.llamacpp.model import Model, ModelFile
from pagewise.models.gguf import GgufError, GgufHeader, printable, read_header
from pagewise.settings import Lora

_HALVES = (".lora_a", ".lora_b")
_ELSEWHERE = "token_embd.weight"
"""Its adapter is applied to looked-up rows: both halves lie the other way round, and llama.cpp alone checks them."""


class AdapterFile(NamedTuple):
    """An adapter that was found to fit a model. ``identity``: path, bytes and time of change."""

    path: Path
    bytes: int
    identity: tuple[str, int, int]


def check_adapters(lora: Sequence[Lora], file: ModelFile) -> tuple[AdapterFile, ...]:
    """The files that ``lora`` names, each seen to be an adapter for the model in ``file``. Raises Failed."""
    return tuple(_checked(Path(entry.path).expanduser(), file) for entry in lora)


def _checked(path: Path, file: ModelFile) -> AdapterFile:
    name = printable(path.name)
    try:
        header = read_header(path)
        status = path.stat()
    except GgufError as error:
        raise Failed(
            f"The LoRA adapter {name} cannot be used",
            f"{error.what}. {error.why}",
            "Correct `lora` in the profile, or get the file again.",
        ) from error
    except OSError as error:
        raise Failed(
            f"The LoRA adapter {name} cannot be used",
            f"The system says: {error.strerror or error}.",
            "Correct `lora` in the profile.",
        ) from error
    why = _no_adapter(header) or _misfit(header, file)
    if why:
        raise Failed(
            f"The LoRA adapter {name} cannot be used",
            why,
            "Take an adapter that was made from this very model, as GGUF (llama.cpp's convert_lora_to_gguf.py).",
        )
    return AdapterFile(path, status.st_size, (str(path.resolve()), status.st_size, status.st_mtime_ns))


def _no_adapter(header: GgufHeader) -> str:
    kind = header.text("general.type")
    if kind != "adapter":
        return f"The file is {'a whole model' if kind in ('', 'model') else printable(repr(kind))}, not an adapter."
    if (adapter := header.text("adapter.type")) != "lora":
        return f"It is an adapter of the kind {printable(repr(adapter))}; only LoRA can be applied."
    if header.metadata.get("adapter.alora.invocation_tokens"):
        return "It is an activated LoRA, which acts only behind certain words; pagewise would apply it everywhere."
    if not header.tensors:
        return "There is nothing in it."
    return ""


def _misfit(header: GgufHeader, file: ModelFile) -> str:
    if header.architecture != file.header.architecture:
        return (
            f"It was made for the architecture {printable(repr(header.architecture))}; "
            f"this model is {printable(repr(file.header.architecture))}."
        )
    base = {tensor.name: tensor for part in file.headers for tensor in part.tensors}
    halves = {tensor.name: tensor for tensor in header.tensors}
    for name, tensor in halves.items():
        if not name.endswith(_HALVES):
            return f"It holds {printable(repr(name))}, which is no part of a LoRA."
        target, half = name[: -len(_HALVES[0])], name[-len(_HALVES[0]) :]
        other = halves.get(target + _HALVES[1 - _HALVES.index(half)])
        if other is None:
            return f"Half of the pair for {printable(repr(target))} is missing."
        if target not in base:
            return f"It changes {printable(repr(target))}, which this model does not have."
        wanted = base[target].shape
        if target == _ELSEWHERE or half == _HALVES[1] or len(wanted) < 2:
            continue
        if tensor.shape[0] != wanted[0] or other.shape[1] != wanted[1] or tensor.shape[1] != other.shape[0]:
            return (
                f"For {printable(repr(target))} it has {_shape(tensor.shape)} and {_shape(other.shape)}, "
                f"which do not go with the model's {_shape(wanted)}."
            )
    return ""


def _shape(shape: Sequence[int]) -> str:
    return " x ".join(map(str, shape))


class Adapters:
    """The adapters on one model. Freed with it."""

    def __init__(self, model: Model) -> None:
        self._model = model
        self._loaded: dict[tuple[str, int, int], int] = {}
        self._files: tuple[AdapterFile, ...] = ()
        self.lora: tuple[Lora, ...] = ()
        """What is to act."""

    @property
    def made(self) -> tuple[tuple[str, int, int, float], ...]:
        """What a KV cache that is computed now depends on, beside the weights."""
        return tuple((*file.identity, entry.scale) for file, entry in zip(self._files, self.lora, strict=True))

    def load(self, lora: Sequence[Lora]) -> Callable[[], None]:
        """Have all of these in memory, to act in the next context. What undoes it, until ``drop_others``.

        Raises Failed; then what acts is as it was.
        """
        former = self._files, self.lora
        files = check_adapters(lora, self._model.file)
        for file in files:
            if file.identity not in self._loaded:
                self._loaded[file.identity] = self._read(file)
        self._files, self.lora = files, tuple(lora)

        def undo() -> None:
            self._files, self.lora = former

        return undo

    def rescale(self, lora: Sequence[Lora]) -> None:
        """The same adapters with other scales."""
        self.lora = tuple(lora)

    def set_on(self, context: Context) -> None:
        """Have them act in this context, from the next token on."""
        count = len(self.lora)
        pointers = (ctypes.c_void_p * count)(*(self._loaded[file.identity] for file in self._files))
        scales = (ctypes.c_float * count)(*(entry.scale for entry in self.lora))
        if _set(context.pointer, pointers, count, scales) != 0:
            raise Failed(
                "The LoRA adapters could not be set", "llama.cpp refused them.", "Take them out of the profile."
            )

    def drop_others(self) -> None:
        """Give back the memory of those that no longer act. No context may have them set."""
        kept = {file.identity for file in self._files}
        for identity in [identity for identity in self._loaded if identity not in kept]:
            address = self._loaded.pop(identity)
            llama_cpp.llama_adapter_lora_free(ctypes.cast(address, llama_cpp.llama_adapter_lora_p_ctypes))

    def _read(self, file: AdapterFile) -> int:
        mark = log.mark()
        pointer = llama_cpp.llama_adapter_lora_init(self._model.pointer, os.fsencode(file.path))
        if not pointer:
            reason = log.reason(mark)
            raise Failed(
                f"The LoRA adapter {printable(file.path.name)} could not be loaded",
                f"llama.cpp says: {reason}." if reason else "llama.cpp gave no reason; its log has the rest.",
                "Take an adapter that was made from this very model.",
            )
        address = ctypes.cast(pointer, ctypes.c_void_p).value
        assert address is not None
        return address


def _set(context: int, pointers: Any, count: int, scales: Any) -> int:
    result: int = llama_cpp.llama_set_adapters_lora(
        context, ctypes.cast(pointers, ctypes.POINTER(llama_cpp.llama_adapter_lora_p_ctypes)), count, scales
    )
    return result

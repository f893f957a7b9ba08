"""Where llama.cpp put each tensor of the file: in the mapping, in a copy, or on a device."""

from __future__ import annotations

from pagewise.engine.llamacpp import library
from pagewise.engine.llamacpp.model import Model
from pagewise.engine.llamacpp.placement import where_of
from pagewise.engine.llamacpp.tensor import layout_is_known, tensor_at
from pagewise.readings import LayerPlacement, Where


def homes(model: Model, layers: tuple[LayerPlacement, ...]) -> dict[str, Where]:
    """By the name of the tensor. Without ggml's word, by its layer's place where all of a layer is in one."""
    names = [tensor.name for header in model.file.headers for tensor in header.tensors]
    needed = (library.model_tensor, library.buffer_type_of, library.buffer_type_device)
    if any(function is None for function in needed) or not layout_is_known():
        only = {layer.where for layer in layers}
        return dict.fromkeys(names, only.pop()) if len(only) == 1 else {}
    kinds: dict[int, Where] = {}
    found: dict[str, Where] = {}
    for name in names:
        pointer = library.model_tensor(model.pointer, name.encode())
        buffer = tensor_at(pointer).buffer if pointer else None
        if not buffer:
            continue
        if buffer not in kinds:
            kinds[buffer] = where_of(library.buffer_name(buffer).decode(errors="replace"), _on_device(buffer))
        found[name] = kinds[buffer]
    return found


def _on_device(buffer: int) -> bool:
    device = library.buffer_type_device(library.buffer_type_of(buffer))
    own_memory = bool(device) and library.device_kind(device) in library.OWN_MEMORY
    return own_memory and not library.buffer_is_host(buffer)

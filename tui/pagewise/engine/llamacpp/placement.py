"""Where llama.cpp put each layer's weights, read from the buffers of the tensors themselves."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import NamedTuple, Protocol

from pagewise.engine.llamacpp import library
from pagewise.engine.llamacpp.buffers import buffer_lines
from pagewise.engine.llamacpp.model import Model, ModelFile
from pagewise.engine.llamacpp.tensor import layout_is_known, tensor_at
from pagewise.models.gguf import Tensor
from pagewise.models.layers import INPUT, OUTPUT, layer_of
from pagewise.readings import BufferBytes, LayerPlacement, Where

_ROUNDING = 0.02
"""Padding of tensors in a buffer, and the log's rounding."""


class Placement(NamedTuple):
    """Layers with where they are, and the weights' buffers. ``note`` says what could not be had."""

    layers: tuple[LayerPlacement, ...]
    buffers: tuple[BufferBytes, ...]
    note: str = ""


class _Home(NamedTuple):
    device: str
    buffer: str
    where: Where


class Weights(Protocol):
    """A model that llama.cpp has built, with memory or without."""

    @property
    def pointer(self) -> int: ...
    @property
    def file(self) -> ModelFile: ...
    @property
    def n_layer(self) -> int: ...


def placement(model: Weights, load_lines: list[str], *, maps: bool = False) -> Placement:
    """Where the weights of ``model`` are; ``load_lines`` is the log of its load, used where ggml cannot be asked.

    ``maps``: of a model built without memory, what lies in plain RAM counts as mapped, as it will be.
    """
    if not _can_ask():
        return _from_log(model, load_lines)
    homes: dict[int, _Home] = {}
    layers: dict[str, Counter[_Home]] = {}
    buffers: Counter[tuple[str, str]] = Counter()
    for tensor in _tensors(model):
        pointer = library.model_tensor(model.pointer, tensor.name.encode())
        buffer = tensor_at(pointer).buffer if pointer else None
        if not buffer:
            continue
        home = homes.get(buffer)
        if home is None:
            home = homes[buffer] = _home(buffer, maps)
        layers.setdefault(layer_of(tensor.name), Counter())[home] += tensor.bytes
        buffers[home.device, home.buffer] += tensor.bytes
    if not layers:
        return _from_log(model, load_lines)
    for home, size in _unnamed(buffers, load_lines, homes.values()):
        layers.setdefault(OUTPUT, Counter())[home] += size
        buffers[home.device, home.buffer] += size
    names = [INPUT, *map(str, range(model.n_layer)), OUTPUT]
    return Placement(
        tuple(_layer(name, layers[name]) for name in names if name in layers),
        tuple(
            BufferBytes(device=device, buffer=buffer, kind="weights", bytes=size)
            for (device, buffer), size in buffers.items()
        ),
    )


def _unnamed(counted: Counter[tuple[str, str]], lines: list[str], homes: Iterable[_Home]) -> list[tuple[_Home, int]]:
    """What device buffers hold beside the tensors of the file: a copy of tied embeddings, made for the output."""
    told: Counter[str] = Counter()
    for line in buffer_lines(lines):
        if line.kind == "weights":
            told[line.buffer] += line.bytes
    extra = []
    for home in homes:
        more = told[home.buffer] - counted[home.device, home.buffer]
        if home.where == "device" and more > _ROUNDING * told[home.buffer]:
            extra.append((home, more))
    return extra


def _tensors(model: Weights) -> list[Tensor]:
    return [tensor for header in model.file.headers for tensor in header.tensors]


def _can_ask() -> bool:
    needed = (library.model_tensor, library.buffer_type_of, library.buffer_type_device)
    if any(function is None for function in needed):
        return False
    return layout_is_known()


def _home(buffer: int, maps: bool) -> _Home:
    name = library.buffer_name(buffer).decode(errors="replace")
    kind = library.buffer_type_of(buffer)
    device = library.buffer_type_device(kind)
    device_name = library.device_name(device).decode(errors="replace") if device else "CPU"
    on_device = (
        bool(device) and library.device_kind(device) in library.OWN_MEMORY and not library.buffer_is_host(buffer)
    )
    where: Where = "mapped" if maps and library.buffer_is_host(buffer) else where_of(name, on_device)
    return _Home("CPU" if not on_device else device_name, name, where)


def where_of(buffer: str, on_device: bool) -> Where:
    """``device``, ``mapped`` or ``copied`` for a buffer by its name, such as ``CPU_Mapped`` or ``CPU_REPACK``."""
    if on_device:
        return "device"
    return "mapped" if buffer.endswith("_Mapped") else "copied"


def _layer(name: str, homes: Counter[_Home]) -> LayerPlacement:
    by_where: Counter[Where] = Counter()
    for home, size in homes.items():
        by_where[home.where] += size
    largest = homes.most_common(1)[0][0]
    return LayerPlacement(
        name=name,
        device=largest.device,
        where=largest.where,
        mapped_bytes=by_where["mapped"],
        copied_bytes=by_where["copied"],
        device_bytes=by_where["device"],
    )


def _from_log(model: Weights, lines: list[str]) -> Placement:
    """Without ggml's word: buffers from the log; the layers' place is known only if there is but one."""
    told = [line for line in buffer_lines(lines) if line.kind == "weights"]
    gpu = any(device.kind in ("gpu", "igpu") for device in library.devices())
    buffers = tuple(
        BufferBytes(device="unknown" if gpu else "CPU", buffer=t.buffer, kind="weights", bytes=t.bytes) for t in told
    )
    sizes: Counter[str] = Counter()
    for tensor in _tensors(model):
        sizes[layer_of(tensor.name)] += tensor.bytes
    only = where_of(told[0].buffer, False) if len(told) == 1 and not gpu else "unknown"
    layers = tuple(
        LayerPlacement(
            name=name,
            device="CPU" if not gpu else "unknown",
            where=only,
            mapped_bytes=sizes[name] if only == "mapped" else 0,
            copied_bytes=sizes[name] if only == "copied" else 0,
            device_bytes=0,
        )
        for name in [INPUT, *map(str, range(model.n_layer)), OUTPUT]
        if name in sizes
    )
    return Placement(
        layers, buffers, "This llama.cpp build does not tell where each layer is; buffers are from its log."
    )


def offloaded(placement: Placement) -> int:
    """Layers on accelerators, counted as llama.cpp does: the output is one, the input none."""
    return sum(layer.where == "device" for layer in placement.layers if layer.name != INPUT)


def repacked(placement: Placement) -> bool:
    """Whether weights were copied into another layout, such as ``CPU_REPACK`` or ``AMX``."""
    return any(
        buffer.device == "CPU" and buffer.buffer != "CPU" and not buffer.buffer.endswith(("_Mapped", "_Host"))
        for buffer in placement.buffers
    )


def bytes_per_token(model: Model) -> int:
    """Weights that one token reads, in bytes: the embedding by rows, experts by those routed. Without the KV cache."""
    tensors = _tensors(model)
    experts = max(1, model.file.number("expert_count", 1))
    routed = min(experts, max(1, model.file.number("expert_used_count", 1)))
    tied = not any(tensor.name == "output.weight" for tensor in tensors)
    total = 0
    for tensor in tensors:
        if tensor.name == "token_embd.weight" and not tied:
            total += tensor.bytes // max(1, tensor.shape[-1])
        elif "_exps." in tensor.name:
            total += tensor.bytes * routed // experts
        else:
            total += tensor.bytes
    return total

"""What a model and its context will take, by having llama.cpp build both without memory."""

from __future__ import annotations

import ctypes
import os
import sys
from collections import Counter
from pathlib import Path
from typing import Any, NamedTuple

from llama_cpp import llama_cpp

from pagewise.engine.failures import Failed
from pagewise.engine.llamacpp import library
from pagewise.engine.llamacpp.breakdown import breakdown
from pagewise.engine.llamacpp.buffers import buffer_lines, cache_bytes, device_of
from pagewise.engine.llamacpp.context import context_failure, context_params
from pagewise.engine.llamacpp.log import log
from pagewise.engine.llamacpp.model import ModelFile, load_failure, model_params
from pagewise.engine.llamacpp.overrides import compiled
from pagewise.engine.llamacpp.placement import offloaded, placement
from pagewise.models.gguf import Skipped, printable
from pagewise.models.offload import RAM, Home, layer_homes, weights_by_home
from pagewise.readings import LayerPlacement
from pagewise.settings import Profile

CPU = "CPU"
RAM_MARGIN = 256 * 1024 * 1024
_GIB = 1024**3
_NO_MAPPING = 0
_INTEGER, _TEXT = 0, 3
_LARGE_VOCABULARY = 16_384
"""Building a vocabulary of 150 000 tokens takes 120 ms and changes nothing of the memory on devices."""


class Parts(NamedTuple):
    """Bytes on one device. In RAM ``weights`` are all of them, mapped ones too."""

    weights: int
    kv: int
    compute: int

    @property
    def total(self) -> int:
        return self.weights + self.kv + self.compute


class Sizes(NamedTuple):
    """What one profile takes. ``devices``: by ggml's name; RAM is ``CPU``, and is always there."""

    devices: dict[str, Parts]
    copied_bytes: int
    """Of the weights in RAM: in private memory or locked, so that they cannot be evicted."""
    layers: tuple[LayerPlacement, ...]
    n_ctx: int
    n_layer: int
    offloaded_layers: int
    estimate: bool

    @property
    def ram(self) -> Parts:
        """What lies in RAM."""
        return self.devices[CPU]

    @property
    def mapped_bytes(self) -> int:
        """Weights that are read through the page cache."""
        return self.ram.weights - self.copied_bytes


class ContextPlan(NamedTuple):
    """Bytes of RAM (not of a device) that a context takes."""

    cache: int
    compute: int


class _Weightless(NamedTuple):
    """A model that was built without memory, as far as its placement is concerned."""

    pointer: int
    file: ModelFile
    n_layer: int


def measure(file: ModelFile, profile: Profile) -> Sizes:
    """What ``profile``, with its layers in figures, takes. Raises Failed where llama.cpp would not load it either."""
    with log.unwritten():
        return _measured(file, profile)


def maps(profile: Profile) -> bool:
    """Whether weights in RAM are pages of the file that can be evicted."""
    return profile.load_mode in ("auto", "mmap")


def plan_context(file: ModelFile, profile: Profile) -> ContextPlan | None:
    """The RAM that a context under ``profile`` takes; None if it cannot be built."""
    try:
        ram = measure(file, profile).ram
    except Failed:
        return None
    return ContextPlan(ram.kv, ram.compute)


def check_context(file: ModelFile, profile: Profile, sizes: Sizes, available: int) -> None:
    """Refuse a context that RAM cannot hold: allocating it would succeed, and end in the OOM killer.

    ``available``: bytes that may be taken. Raises Failed.
    """
    cache, compute = sizes.ram.kv, sizes.ram.compute
    # A margin larger than what is asked for would refuse small contexts on small machines.
    if cache + compute + min(RAM_MARGIN, available // 2) <= available:
        return
    room = max(0, available - compute - RAM_MARGIN)
    fits = room * sizes.n_ctx // max(1, cache) // 256 * 256
    raise Failed(
        f"A context of {sizes.n_ctx:,} tokens does not fit into memory",
        f"{printable(file.path.name)} needs {cache / _GIB:.1f} GiB of KV cache and "
        f"{compute / _GIB:.1f} GiB of compute buffers for it; {available / _GIB:.1f} GiB are available.",
        f"Set n_ctx to {fits:,} or less, or"
        + ("" if fits else " close other programs, or")
        + ' use cache_type_k = "q8_0" and cache_type_v = "q8_0".',
    )


def check_weights(file: ModelFile, profile: Profile, sizes: Sizes, available: int) -> None:
    """Refuse weights that are to be copied or locked into RAM and do not fit; mapped ones need not. Raises Failed."""
    streams = profile.placement != "off" and sys.platform.startswith("linux")
    if profile.load_mode not in ("none", "direct", *(() if streams else ("mlock",))):
        # Of locked weights what does not fit is streamed, and the rest is locked.
        return
    needed = sizes.copied_bytes
    if needed + RAM_MARGIN <= available:
        return
    raise Failed(
        f"{printable(file.path.name)} does not fit into memory",
        f'load_mode = "{profile.load_mode}" keeps all of its {needed / _GIB:.1f} GiB in RAM; '
        f"{available / _GIB:.1f} GiB are available.",
        'Set load_mode = "mmap", which reads from disk what does not fit, or take a smaller quant.',
    )


# ---- building without memory -----------------------------------------------------------------------------------------


def _measured(file: ModelFile, profile: Profile) -> Sizes:
    mark = log.mark()
    model = _load(file, profile)
    if not model:
        raise load_failure(file, log.reason(mark))
    context = 0
    try:
        params = context_params(profile, llama_cpp.llama_model_n_ctx_train(model), file.bytes)
        mark = log.mark()
        context = llama_cpp.llama_init_from_model(model, params)
        if not context:
            raise context_failure(profile, params.n_ctx, log.reason(mark))
        return _sizes(file, profile, model, context, log.since(mark))
    finally:
        if context:
            llama_cpp.llama_free(context)
        llama_cpp.llama_model_free(model)


def _load(file: ModelFile, profile: Profile) -> int:
    """A model without memory and, if that works, without a vocabulary; 0 where llama.cpp refuses."""
    params, keep_alive = model_params(profile)
    params.no_alloc = True
    params.load_mode = _NO_MAPPING
    bare = _without_vocabulary(file)
    pointer = 0
    if bare is not None:
        params.kv_overrides = ctypes.cast(bare, type(params.kv_overrides))
        pointer = llama_cpp.llama_model_load_from_file(os.fsencode(file.path), params) or 0
        params.kv_overrides = type(params.kv_overrides)()
    if not pointer:
        pointer = llama_cpp.llama_model_load_from_file(os.fsencode(file.path), params) or 0
    del keep_alive
    return pointer


def _without_vocabulary(file: ModelFile) -> Any:
    tokens = file.header.metadata.get("tokenizer.ggml.tokens")
    key = f"{file.header.architecture}.vocab_size".encode()
    if not isinstance(tokens, Skipped) or tokens.entries < _LARGE_VOCABULARY or len(key) > 120:
        return None
    overrides = (llama_cpp.llama_model_kv_override * 3)()
    overrides[0].tag, overrides[0].key, overrides[0].value.val_str = _TEXT, b"tokenizer.ggml.model", b"none"
    overrides[1].tag, overrides[1].key, overrides[1].value.val_i64 = _INTEGER, key, tokens.entries
    return overrides


def _sizes(file: ModelFile, profile: Profile, model: int, context: int, lines: list[str]) -> Sizes:
    n_layer = llama_cpp.llama_model_n_layer(model)
    places = placement(_Weightless(model, file, n_layer), [], maps=maps(profile))
    parts = breakdown(context)
    weights: Counter[str] = Counter()
    kv: Counter[str] = Counter()
    compute: Counter[str] = Counter()
    if parts is not None and not places.note:
        for part in parts:
            device = device_of(library.buffer_type_name(part.buffer_type).decode(errors="replace"))
            weights[device] += part.weights
            kv[device] += part.kv
            compute[device] += part.compute
    else:
        weights, kv = _by_formula(file, profile, n_layer, lines)
        for line in buffer_lines(lines):
            if line.kind == "compute":
                compute[device_of(line.buffer)] += line.bytes
    _add_adapters(profile, weights)
    names = (CPU, *sorted({*weights, *kv, *compute} - {CPU}))
    copied = weights[CPU]
    if maps(profile):
        copied = 0 if places.note else sum(layer.copied_bytes for layer in places.layers)
    return Sizes(
        {name: Parts(weights[name], kv[name], compute[name]) for name in names},
        min(copied, weights[CPU]),
        places.layers,
        llama_cpp.llama_n_ctx(context),
        n_layer,
        offloaded(places),
        parts is None or bool(places.note),
    )


def _add_adapters(profile: Profile, weights: Counter[str]) -> None:
    """LoRA adapters are copied to where the tensors are that they change: counted where most of the weights are."""
    most = weights.most_common(1)[0][0] if weights else CPU
    for adapter in profile.lora:
        try:
            weights[most] += Path(adapter.path).expanduser().stat().st_size
        except OSError:
            # It is gone: the load says so.
            continue


def _by_formula(file: ModelFile, profile: Profile, n_layer: int, lines: list[str]) -> tuple[Counter[str], Counter[str]]:
    """(weights, KV cache) by device where llama.cpp gives no account: our own placement of the header's tensors."""
    gpus = library.accelerators()
    names: dict[Home, str] = {RAM: CPU, **{index: device.name for index, device in enumerate(gpus)}}
    n_gpu = profile.n_gpu_layers if isinstance(profile.n_gpu_layers, int) else n_layer + 1
    shares = [*profile.tensor_split, *[0.0] * len(gpus)][: len(gpus)] if profile.tensor_split else [1.0] * len(gpus)
    homes = layer_homes(n_layer, n_gpu, shares)
    numbers = {name: index for index, name in names.items()}
    overrides = [(pattern, numbers.get(device_of(buffer))) for pattern, buffer in compiled(profile.tensor_overrides)]
    tensors = [tensor for header in file.headers for tensor in header.tensors]
    found = weights_by_home(tensors, n_layer, homes, overrides)
    weights = Counter({names[home]: size for home, size in found.items()})
    total = cache_bytes(lines)
    kv: Counter[str] = Counter()
    for home in homes[:n_layer]:
        kv[names[home]] += round(total / max(1, n_layer))
    return weights, kv

"""What a context will take, before it is made."""

from __future__ import annotations

import os
import sys
from typing import NamedTuple

from llama_cpp import llama_cpp

from pagewise.engine.failures import Failed
from pagewise.engine.llamacpp import library
from pagewise.engine.llamacpp.buffers import cache_bytes, compute_bytes
from pagewise.engine.llamacpp.context import context_params, n_ctx_of
from pagewise.engine.llamacpp.log import log
from pagewise.engine.llamacpp.model import ModelFile, model_params
from pagewise.models.gguf import printable
from pagewise.models.kv_cache import kv_cache
from pagewise.settings import Profile

_GIB = 1024**3
_MARGIN = 256 * 1024 * 1024
_NO_MAPPING = 0


class ContextPlan(NamedTuple):
    """Bytes of RAM (not of a device) that a context takes."""

    cache: int
    compute: int


def check_context(file: ModelFile, profile: Profile, available: int) -> None:
    """Refuse a context that RAM cannot hold: allocating it would succeed, and end in the OOM killer.

    ``available``: bytes that may be taken. Raises Failed. Nothing is measured where a coarse bound shows room enough.
    """
    n_ctx = n_ctx_of(profile, file.number("context_length", 0))
    if _coarse_bytes(file, profile, n_ctx) < available // 2:
        return
    plan = plan_context(file, profile)
    if plan is None or plan.cache + plan.compute + _MARGIN <= available:
        return
    room = max(0, available - plan.compute - _MARGIN)
    fits = room * n_ctx // max(1, plan.cache) // 256 * 256
    raise Failed(
        f"A context of {n_ctx:,} tokens does not fit into memory",
        f"{printable(file.path.name)} needs {plan.cache / _GIB:.1f} GiB of KV cache and "
        f"{plan.compute / _GIB:.1f} GiB of compute buffers for it; {available / _GIB:.1f} GiB are available.",
        f"Set n_ctx to {fits:,} or less, or"
        + ("" if fits else " close other programs, or")
        + ' use cache_type_k = "q8_0" and cache_type_v = "q8_0".',
    )


def check_weights(file: ModelFile, profile: Profile, available: int) -> None:
    """Refuse weights that are to be copied or locked into RAM and do not fit; mapped ones need not. Raises Failed."""
    streams = profile.placement != "off" and sys.platform.startswith("linux")
    if profile.load_mode not in ("none", "direct", *(() if streams else ("mlock",))):
        # Of locked weights what does not fit is streamed, and the rest is locked.
        return
    needed = int(file.bytes * _share_in_ram(profile, file))
    if needed + _MARGIN <= available:
        return
    raise Failed(
        f"{printable(file.path.name)} does not fit into memory",
        f'load_mode = "{profile.load_mode}" keeps all of its {needed / _GIB:.1f} GiB in RAM; '
        f"{available / _GIB:.1f} GiB are available.",
        'Set load_mode = "mmap", which reads from disk what does not fit, or take a smaller quant.',
    )


def _coarse_bytes(file: ModelFile, profile: Profile, n_ctx: int) -> int:
    known = kv_cache(file.header)
    if isinstance(known, str):
        return n_ctx * file.number("block_count", 1) * file.number("embedding_length", 1) * 8
    return known.bytes_at(
        n_ctx, profile.cache_type_k, profile.cache_type_v, n_ubatch=profile.n_ubatch, swa_full=profile.swa_full
    )


def plan_context(file: ModelFile, profile: Profile) -> ContextPlan | None:
    """The RAM that a context under ``profile`` takes, by building it without memory; None if it cannot be built."""
    params, keep_alive = model_params(profile)
    params.no_alloc = True
    params.load_mode = _NO_MAPPING
    model = llama_cpp.llama_model_load_from_file(os.fsencode(file.path), params)
    del keep_alive
    if not model:
        return None
    mark = log.mark()
    context = llama_cpp.llama_init_from_model(
        model, context_params(profile, llama_cpp.llama_model_n_ctx_train(model), file.bytes)
    )
    try:
        if not context:
            return None
        lines = log.since(mark)
        return ContextPlan(int(cache_bytes(lines) * _share_in_ram(profile, file)), compute_bytes(context, lines))
    finally:
        if context:
            llama_cpp.llama_free(context)
        llama_cpp.llama_model_free(model)


def _share_in_ram(profile: Profile, file: ModelFile) -> float:
    """A layer's KV cache lies where the layer is; the last ones are offloaded first, the output counts as one."""
    if not any(device.kind in ("gpu", "igpu") for device in library.devices()):
        return 1.0
    n_layer = max(1, file.number("block_count", 1))
    if profile.n_gpu_layers == "all":
        return 0.0
    return max(0, n_layer + 1 - profile.n_gpu_layers) / (n_layer + 1)

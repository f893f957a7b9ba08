"""llama.cpp's own fit, ``common_fit_params`` of libllama-common, where that library was installed beside the binding.

It looks at what is free on the devices now, changes only what is at its default, and is not safe beside another
thread that loads. What it finds is measured by us before it is taken.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec
from llama_cpp import llama_cpp

from pagewise.engine.llamacpp import library
from pagewise.engine.llamacpp.context import context_params
from pagewise.engine.llamacpp.log import log
from pagewise.engine.llamacpp.model import ModelFile, Override, model_params
from pagewise.settings import Profile

_NAME = (
    "_Z17common_fit_paramsPKcP18llama_model_paramsP20llama_context_paramsPf"
    "P32llama_model_tensor_buft_overridePmjPK22common_fit_extra_model14ggml_log_level"
)
_SUCCESS = 0
_ERRORS_ALONE = 4


def _function() -> Any:
    package = Path(llama_cpp.__file__).parent
    for folder in (package / "lib", package.parent / "lib"):
        for suffix in ("so", "dylib"):
            path = folder / f"libllama-common.{suffix}"
            if not path.exists():
                continue
            try:
                found = getattr(ctypes.CDLL(str(path)), _NAME)
            except (OSError, AttributeError):
                # Another version, or one that misses a library of its own: ours does the search.
                continue
            found.restype = ctypes.c_int
            found.argtypes = [
                ctypes.c_char_p,
                ctypes.c_void_p,
                ctypes.c_void_p,
                ctypes.c_void_p,
                ctypes.c_void_p,
                ctypes.c_void_p,
                ctypes.c_uint32,
                ctypes.c_void_p,
                ctypes.c_int,
            ]
            return found
    return None


def fixes_nothing(profile: Profile) -> bool:
    """Whether the profile leaves all that upstream's fit decides to it; else it would give up without a word."""
    return not profile.tensor_split and not profile.tensor_overrides and profile.split_mode == "layer"


def upstream_fit(file: ModelFile, profile: Profile, margins: Mapping[str, int], n_ctx_train: int) -> Profile | None:
    """The profile with layers, split and overrides as llama.cpp chooses them; None where it cannot be asked or fails.

    ``margins``: bytes to be left free, by device in llama.cpp's order. The context stays as it is.
    """
    function = _function()
    if function is None:
        return None
    n_devices = max(llama_cpp.llama_max_devices(), len(margins))
    params, keep_alive = model_params(msgspec.structs.replace(profile, n_gpu_layers="all"))
    context = context_params(profile, n_ctx_train, file.bytes)
    split = (ctypes.c_float * n_devices)()
    overrides = (Override * (llama_cpp.llama_max_tensor_buft_overrides() + 1))()
    wanted = (ctypes.c_size_t * n_devices)(*margins.values())
    with log.unwritten():
        result = function(
            os.fsencode(file.path),
            ctypes.byref(params),
            ctypes.byref(context),
            split,
            overrides,
            wanted,
            context.n_ctx,
            None,
            _ERRORS_ALONE,
        )
    del keep_alive
    log.install()
    if result != _SUCCESS:
        return None
    texts = []
    for entry in overrides:
        if not entry.pattern:
            break
        name = library.buffer_type_name(entry.buffer_type).decode(errors="replace")
        texts.append(f"{entry.pattern.decode(errors='replace')}={name}")
    shares = tuple(split[: len(margins)])
    return msgspec.structs.replace(
        profile,
        n_gpu_layers="all" if params.n_gpu_layers < 0 else params.n_gpu_layers,
        tensor_split=shares if any(shares) else (),
        tensor_overrides=tuple(texts),
    )

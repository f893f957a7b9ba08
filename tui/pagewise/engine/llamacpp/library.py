"""The shared libraries: started once, with the symbols that the Python binding leaves out, each of them optional."""

from __future__ import annotations

import ctypes
from pathlib import Path
from typing import Any, NamedTuple

import llama_cpp as package
from llama_cpp import llama_cpp

from pagewise.engine.llamacpp.log import log

EvalCallback = ctypes.CFUNCTYPE(ctypes.c_bool, ctypes.c_void_p, ctypes.c_bool, ctypes.c_void_p)
"""``ggml_backend_sched_eval_callback``: (tensor, ask, user data) → whether the node is wanted, or whether to go on."""
_DEVICE_KINDS = {0: "cpu", 1: "gpu", 2: "igpu", 3: "accelerator", 4: "gpu"}
"""ggml_backend_dev_type; 4 stands for several GPUs that share each tensor."""
OWN_MEMORY = (1, 2, 4)
"""Those whose weights do not lie in RAM as the CPU sees it."""
_FOLDER = Path(package.__file__).parent / "lib"


class Device(NamedTuple):
    """A compute device as ggml names it."""

    name: str
    description: str
    kind: str


def _library(name: str) -> ctypes.CDLL | None:
    for suffix in ("so", "dylib", "dll"):
        path = _FOLDER / f"lib{name}.{suffix}"
        if path.exists():
            return ctypes.CDLL(str(path))
    return None


_base = _library("ggml-base")
_ggml = _library("ggml")


def _symbol(library: ctypes.CDLL | None, name: str, result: Any, *arguments: Any) -> Any:
    """The C function, or None where this build does not export it."""
    if library is None:
        return None
    try:
        function = getattr(library, name)
    except AttributeError:
        return None
    function.restype = result
    function.argtypes = list(arguments)
    return function


_POINTER, _TEXT, _SIZE = ctypes.c_void_p, ctypes.c_char_p, ctypes.c_size_t
model_tensor = _symbol(llama_cpp._lib, "_ZNK11llama_model10get_tensorEPKc", _POINTER, _POINTER, _TEXT)
context_scheduler = _symbol(llama_cpp._lib, "_ZNK13llama_context9get_schedEv", _POINTER, _POINTER)
set_eval_callback = _symbol(_base, "ggml_backend_sched_set_eval_callback", None, _POINTER, EvalCallback, _POINTER)
n_backends = _symbol(_base, "ggml_backend_sched_get_n_backends", ctypes.c_int, _POINTER)
backend_at = _symbol(_base, "ggml_backend_sched_get_backend", _POINTER, _POINTER, ctypes.c_int)
compute_buffer_type = _symbol(_base, "ggml_backend_sched_get_buffer_type", _POINTER, _POINTER, _POINTER)
compute_buffer_bytes = _symbol(_base, "ggml_backend_sched_get_buffer_size", _SIZE, _POINTER, _POINTER)
tensor_name = _symbol(_base, "ggml_get_name", _TEXT, _POINTER)
tensor_bytes = _symbol(_base, "ggml_nbytes", _SIZE, _POINTER)
tensor_read = _symbol(_base, "ggml_backend_tensor_get", None, _POINTER, _POINTER, _SIZE, _SIZE)
operator_name = _symbol(_base, "ggml_op_desc", _TEXT, _POINTER)
type_name = _symbol(_base, "ggml_type_name", _TEXT, ctypes.c_int)
tensor_overhead = _symbol(_base, "ggml_tensor_overhead", _SIZE)
buffer_type_of = _symbol(_base, "ggml_backend_buffer_get_type", _POINTER, _POINTER)
buffer_name = _symbol(_base, "ggml_backend_buffer_name", _TEXT, _POINTER)
buffer_is_host = _symbol(_base, "ggml_backend_buffer_is_host", ctypes.c_bool, _POINTER)
buffer_type_name = _symbol(_base, "ggml_backend_buft_name", _TEXT, _POINTER)
buffer_type_device = _symbol(_base, "ggml_backend_buft_get_device", _POINTER, _POINTER)
device_name = _symbol(_base, "ggml_backend_dev_name", _TEXT, _POINTER)
device_description = _symbol(_base, "ggml_backend_dev_description", _TEXT, _POINTER)
device_kind = _symbol(_base, "ggml_backend_dev_type", ctypes.c_int, _POINTER)
device_properties = _symbol(_base, "ggml_backend_dev_get_props", None, _POINTER, _POINTER)
device_buffer_type = _symbol(_base, "ggml_backend_dev_buffer_type", _POINTER, _POINTER)
device_host_buffer_type = _symbol(_base, "ggml_backend_dev_host_buffer_type", _POINTER, _POINTER)
device_count = _symbol(_ggml, "ggml_backend_dev_count", _SIZE)
device_at = _symbol(_ggml, "ggml_backend_dev_get", _POINTER, _SIZE)


def start() -> None:
    """Initialise llama.cpp and take over its log. Devices are opened by this: it may take a second with a GPU."""
    log.install()
    llama_cpp.llama_backend_init()


def version() -> str:
    """llama.cpp's version and the binding's."""
    return f"{llama_cpp.llama_version().decode()} (llama-cpp-python {package.__version__})"


def system_info() -> str:
    """Instruction sets and features that this build uses, as llama.cpp lists them."""
    return str(llama_cpp.llama_print_system_info().decode("utf-8", errors="replace")).strip()


def device_pointers() -> list[int]:
    """ggml's devices in its order; empty where this build does not say."""
    if device_count is None or device_at is None:
        return []
    return [device_at(index) for index in range(device_count())]


def devices() -> tuple[Device, ...]:
    """Every compute device that this build found."""
    return tuple(
        Device(
            _decoded(device_name(pointer)),
            _decoded(device_description(pointer)),
            _DEVICE_KINDS.get(device_kind(pointer), "accelerator"),
        )
        for pointer in device_pointers()
    )


def accelerators() -> tuple[Device, ...]:
    """Devices that llama.cpp puts layers on, in its order: GPUs, or those within the processor if there is none."""
    found = devices()
    gpus = tuple(device for device in found if device.kind == "gpu")
    return gpus or tuple(device for device in found if device.kind == "igpu")


def buffer_types() -> dict[str, int]:
    """Buffer types that tensors may be overridden to, by name."""
    found: dict[str, int] = {}
    for pointer in device_pointers():
        for kind in (device_buffer_type(pointer), device_host_buffer_type(pointer)):
            if kind:
                found.setdefault(_decoded(buffer_type_name(kind)), kind)
    return found


def _decoded(text: bytes | None) -> str:
    return (text or b"").decode("utf-8", errors="replace")

"""Loading a model's weights."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from llama_cpp import llama_cpp

from pagewise.engine.failures import Cancelled, Failed, from_gguf
from pagewise.engine.llamacpp import library
from pagewise.engine.llamacpp.log import log
from pagewise.engine.llamacpp.vocabulary import Vocabulary
from pagewise.models.gguf import GgufError, GgufHeader, printable
from pagewise.models.split import read_parts
from pagewise.settings import Profile

LOAD_MODES = {"auto": -1, "none": 0, "mmap": 1, "mlock": 3, "direct": 4}
SPLIT_MODES = {"none": 0, "layer": 1, "row": 2, "tensor": 3}


class ModelFile(NamedTuple):
    """A GGUF file, or all parts of a split one, with headers that were read and found whole."""

    path: Path
    headers: tuple[GgufHeader, ...]
    identity: tuple[tuple[str, int, int], ...]
    """Equal as long as the files are the same and unchanged: path, bytes and time of change of each part."""

    @property
    def header(self) -> GgufHeader:
        """The first part's header, which has the metadata."""
        return self.headers[0]

    @property
    def bytes(self) -> int:
        """Size of all parts."""
        return sum(header.file_bytes for header in self.headers)

    def number(self, key: str, default: int) -> int:
        """An integer of the architecture's own metadata."""
        value = self.header.number(key)
        return default if value is None else value


def open_model_file(path: Path) -> ModelFile:
    """The model file at ``path``, or all parts of a split one of which it is the first or any other.

    Raises Failed, also for what is GGUF but not a model that writes text.
    """
    try:
        headers = read_parts(path)
    except GgufError as error:
        raise from_gguf(error) from error
    kind = _not_a_writer(headers[0])
    if kind:
        raise Failed(
            f"{printable(path.name)} is not a model that can chat",
            f"It holds {kind}.",
            "Choose the GGUF file of the language model itself.",
        )
    return ModelFile(headers[0].path, headers, tuple(_identity(header) for header in headers))


def _identity(header: GgufHeader) -> tuple[str, int, int]:
    try:
        changed_ns = header.path.stat().st_mtime_ns
    except OSError:
        # It has gone since its header was read; loading it will say so.
        changed_ns = 0
    return str(header.path.resolve()), header.file_bytes, changed_ns


def _not_a_writer(header: GgufHeader) -> str:
    kind = header.text("general.type")
    if header.architecture == "clip" or kind == "mmproj":
        return "the image part (mmproj) of a model"
    if kind == "adapter":
        return "a LoRA adapter, which only changes another model"
    if kind == "imatrix" or header.architecture == "imatrix":
        return "an importance matrix for quantizing"
    if not header.tensors:
        return "a vocabulary without weights"
    if header.text("tokenizer.ggml.model") in ("", "none"):
        return "weights without a tokenizer"
    return ""


class Model:
    """Weights in memory. ``free`` it when done; contexts on it must be freed before."""

    def __init__(self, pointer: int, file: ModelFile, load_mode: str) -> None:
        self.pointer = pointer
        self.load_mode = load_mode
        self.file = file
        self.vocabulary = Vocabulary(pointer, file.header)
        self.n_layer: int = llama_cpp.llama_model_n_layer(pointer)
        self.n_ctx_train: int = llama_cpp.llama_model_n_ctx_train(pointer)
        self.n_swa: int = llama_cpp.llama_model_n_swa(pointer)
        self.recurrent: bool = llama_cpp.llama_model_is_recurrent(pointer)
        self.hybrid: bool = llama_cpp.llama_model_is_hybrid(pointer)
        self.n_params: int = llama_cpp.llama_model_n_params(pointer)

    @property
    def chat_template(self) -> str | None:
        """The GGUF's own chat template, if it has one."""
        raw = llama_cpp.llama_model_chat_template(self.pointer, None)
        return raw.decode("utf-8", errors="replace") if raw else None

    @property
    def not_a_chat_model(self) -> str:
        """What kind of model it is, if it is none that writes text token by token; else nothing."""
        if not llama_cpp.llama_model_has_decoder(self.pointer):
            return "an encoder, for embeddings or classification"
        if llama_cpp.llama_model_has_encoder(self.pointer):
            return "an encoder with a decoder, which this program does not run"
        if llama_cpp.llama_model_is_diffusion(self.pointer):
            return "a diffusion model, which this program does not run"
        return ""

    def free(self) -> None:
        """Give the memory back. The object is of no use afterwards."""
        if self.pointer:
            llama_cpp.llama_model_free(self.pointer)
            self.pointer = 0


def load_model(
    file: ModelFile, profile: Profile, *, progress: Callable[[float], bool], cancelled: Callable[[], bool]
) -> Model:
    """Load the weights. ``progress`` gets the share done (0 to 1) and answers whether to go on.

    Raises Failed, and Cancelled where ``cancelled`` says that this was the reason.
    """
    params, keep_alive = model_params(profile)
    callback = llama_cpp.llama_progress_callback(lambda share, _data: progress(share))
    params.progress_callback = callback
    mark = log.mark()
    pointer = llama_cpp.llama_model_load_from_file(os.fsencode(file.path), params)
    del keep_alive
    if pointer:
        model = Model(pointer, file, profile.load_mode)
        if kind := model.not_a_chat_model:
            model.free()
            raise Failed(
                f"{printable(file.path.name)} is not a model that can chat",
                f"It is {kind}.",
                "Choose a model that writes text from left to right: one whose name has Chat, Instruct or it in it.",
            )
        return model
    if cancelled():
        raise Cancelled
    raise load_failure(file, log.reason(mark))


def model_params(profile: Profile) -> tuple[Any, tuple[Any, ...]]:
    """llama_model_params for a profile, and arrays they point to, which must live as long. Raises Failed.

    ``fit`` has been turned into figures before.
    """
    params = llama_cpp.llama_model_default_params()
    params.n_gpu_layers = profile.n_gpu_layers if isinstance(profile.n_gpu_layers, int) else -1
    params.split_mode = SPLIT_MODES[profile.split_mode]
    params.main_gpu = profile.main_gpu
    params.load_mode = LOAD_MODES[profile.load_mode]
    # A repacked copy cannot be evicted, stands beside the mapped file, and is not always faster: "auto" leaves it off.
    # (On virtual machines that announce AMX but do not let it work, it ends the process with an illegal instruction.)
    params.use_extra_bufts = profile.repack == "on"
    split = _tensor_split(profile)
    if split is not None:
        params.tensor_split = ctypes.cast(split, ctypes.POINTER(ctypes.c_float))
    overrides = parse_overrides(profile.tensor_overrides)
    if overrides is not None:
        params.tensor_buft_overrides = ctypes.cast(overrides, ctypes.c_void_p)
    return params, (split, overrides)


def lock_note(lines: list[str]) -> str:
    """What the person should know where memory was to be locked and could not be."""
    if not any("failed to mlock" in line for line in lines):
        return ""
    return "The weights could not be locked in RAM: the limit on locked memory (ulimit -l) is too low."


def load_failure(file: ModelFile, reason: str) -> Failed:
    """Why llama.cpp did not load the model, and what to do; ``reason`` is its last error."""
    name = printable(file.path.name)
    if "unknown model architecture" in reason:
        architecture = printable(file.header.architecture)
        return Failed(
            f"{name} cannot be run",
            f"Its architecture is {architecture!r}, which this llama.cpp ({library.version()}) does not know.",
            "Choose another model, or update pagewise: newer versions of llama.cpp know more architectures.",
        )
    lowered = reason.lower()
    if any(word in lowered for word in ("regular expression", "regex", "bracket expression", "sub-expression")):
        return Failed(
            f"{name} could not be loaded with these tensor overrides",
            f"llama.cpp cannot read the regular expression of one: {reason}.",
            "Correct tensor_overrides in the profile.",
        )
    if any(word in lowered for word in ("out of memory", "unable to allocate", "failed to allocate")):
        return Failed(
            f"{name} does not fit into memory",
            f"llama.cpp says: {reason}.",
            "Take a smaller quant, put fewer layers on the GPU (n_gpu_layers), or free memory.",
        )
    return Failed(
        f"{name} could not be loaded",
        f"llama.cpp says: {reason}." if reason else "llama.cpp gave no reason; its log has the rest.",
        "Check the file (size and checksum) and the profile; another quant of the model may work.",
    )


def _tensor_split(profile: Profile) -> Any:
    if not profile.tensor_split:
        return None
    room = max(llama_cpp.llama_max_devices(), len(profile.tensor_split))
    return (ctypes.c_float * room)(*profile.tensor_split)


class Override(ctypes.Structure):
    """llama_model_tensor_buft_override."""

    _fields_ = [("pattern", ctypes.c_char_p), ("buffer_type", ctypes.c_void_p)]


def parse_overrides(overrides: tuple[str, ...]) -> Any:
    """The C array for ``REGEX=BUFFER TYPE`` entries, ended by an empty one; None for no entries. Raises Failed."""
    if not overrides:
        return None
    known = library.buffer_types()
    limit = llama_cpp.llama_max_tensor_buft_overrides() - 1
    if len(overrides) > limit:
        raise Failed("There are too many tensor overrides", f"llama.cpp takes {limit} of them.", "Join some patterns.")
    array = (Override * (len(overrides) + 1))()
    for entry, text in zip(array, overrides, strict=False):
        pattern, equals, name = text.rpartition("=")
        if not equals or not pattern or name not in known:
            raise Failed(
                f"The tensor override {printable(text)!r} cannot be used",
                f"It must read REGEX=BUFFER, with one of these buffers: {', '.join(known) or 'none is known'}.",
                "Correct tensor_overrides in the profile.",
            )
        entry.pattern = pattern.encode()
        entry.buffer_type = known[name]
    return array

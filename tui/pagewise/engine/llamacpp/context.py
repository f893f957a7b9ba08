"""A context on a loaded model: KV cache, compute buffers, threads."""

from __future__ import annotations

import ctypes
from typing import Any, NamedTuple

from llama_cpp import llama_cpp

from pagewise.engine.failures import Failed
from pagewise.engine.llamacpp import library
from pagewise.engine.llamacpp.cores import physical_cores
from pagewise.engine.llamacpp.log import log
from pagewise.engine.llamacpp.model import Model
from pagewise.settings import Profile

KV_TYPES = {"f32": 0, "f16": 1, "q4_0": 2, "q4_1": 3, "q5_0": 6, "q5_1": 7, "q8_0": 8, "iq4_nl": 20, "bf16": 30}
_FLASH_ATTENTION = {"auto": -1, "off": 0, "on": 1}
_NO_LIMIT = 1 << 31
_OUTPUTS = 16
"""Rows of logits of one batch: one is needed, drafted tokens will need some. The default is one for each token, which
for a vocabulary of 150 000 takes 300 MB of compute buffer."""
_WEIGHTS_PER_THREAD = 16 * 1024 * 1024
_FLASH_ON = ("Flash Attention enabled", "Flash Attention was auto, set to enabled")


class Threads(NamedTuple):
    """Threads for decode and for prefill."""

    decode: int
    batch: int


def threads_of(profile: Profile, weights: int) -> Threads:
    """What the profile asks for; 0 is one thread for each physical core, fewer for few bytes of ``weights``.

    Threads meet after every node of the graph. Where each has next to nothing to do in between, more of them are
    slower, and a core that another program uses as well costs a time slice a node.
    """
    decode = profile.threads or min(physical_cores(), max(1, weights // _WEIGHTS_PER_THREAD))
    return Threads(decode, profile.threads_batch or decode)


def n_ctx_of(profile: Profile, n_ctx_train: int) -> int:
    """Tokens of context: what the profile asks for (0: all), at most what the model was trained for."""
    wanted = profile.n_ctx or n_ctx_train
    return min(wanted, n_ctx_train) if n_ctx_train else wanted


def context_params(profile: Profile, n_ctx_train: int, weights: int, outputs: int = _OUTPUTS) -> Any:
    """llama_context_params for one sequence under ``profile``. ``outputs``: rows of logits of one batch."""
    params = llama_cpp.llama_context_default_params()
    params.n_ctx = n_ctx_of(profile, n_ctx_train)
    params.n_batch = max(profile.n_batch, profile.n_ubatch)
    params.n_ubatch = profile.n_ubatch
    params.n_seq_max = 1
    params.n_outputs_max = min(outputs, params.n_batch)
    params.n_threads, params.n_threads_batch = threads_of(profile, weights)
    params.flash_attn_type = _FLASH_ATTENTION[profile.flash_attention]
    params.type_k = KV_TYPES[profile.cache_type_k]
    params.type_v = KV_TYPES[profile.cache_type_v]
    params.swa_full = profile.swa_full
    params.no_perf = True
    return params


class Context:
    """A llama_context with one sequence. ``free`` it before its model."""

    def __init__(
        self,
        model: Model,
        profile: Profile,
        stop_flag: ctypes.Array[ctypes.c_char],
        follower: Any = None,
        outputs: int = _OUTPUTS,
    ) -> None:
        """``stop_flag``: memory whose first byte is not 0 once decoding is to be aborted. Raises Failed.

        ``follower`` is an EvalCallback that is asked about every node of every graph; it must outlive the context.
        """
        self.model = model
        self.followed = follower is not None
        self.notes: list[str] = []
        if profile.n_ctx > model.n_ctx_train > 0:
            self.notes.append(
                f"The profile asks for {profile.n_ctx:,} tokens of context; the model was trained for "
                f"{model.n_ctx_train:,}, and gets that."
            )
        self.threads = threads_of(profile, model.file.bytes)
        params = context_params(profile, model.n_ctx_train, model.file.bytes, outputs)
        if follower is not None:
            params.cb_eval = ctypes.cast(follower, type(params.cb_eval))
        mark = log.mark()
        self.pointer = llama_cpp.llama_init_from_model(model.pointer, params)
        if not self.pointer:
            raise context_failure(profile, params.n_ctx, log.reason(mark))
        self.memory = llama_cpp.llama_get_memory(self.pointer)
        self.n_ctx: int = min(llama_cpp.llama_n_ctx(self.pointer), model.n_ctx_train or _NO_LIMIT)
        self.n_batch: int = llama_cpp.llama_n_batch(self.pointer)
        self.n_ubatch: int = llama_cpp.llama_n_ubatch(self.pointer)
        self.lines = log.since(mark)
        self.flash_attention = _flash_attention(profile, self.lines)
        self.swa_full = profile.swa_full
        self.cache_type_k, self.cache_type_v = profile.cache_type_k, profile.cache_type_v
        self._stop_flag = stop_flag
        self._set_abort_callback(stop_flag)

    def _set_abort_callback(self, stop_flag: ctypes.Array[ctypes.c_char]) -> None:
        # llama.cpp asks after every node of the graph: a Python callback there costs a millisecond a token on a large
        # model. strlen(flag) is the same question, answered in native code: not 0 once the first byte is set.
        strlen = ctypes.cast(ctypes.CDLL(None).strlen, llama_cpp.ggml_abort_callback)
        llama_cpp.llama_set_abort_callback(self.pointer, strlen, ctypes.cast(stop_flag, ctypes.c_void_p))

    def set_threads(self, threads: Threads) -> None:
        """From the next token on."""
        self.threads = threads
        llama_cpp.llama_set_n_threads(self.pointer, threads.decode, threads.batch)

    def free(self) -> None:
        """Give the memory back. The object is of no use afterwards."""
        if self.pointer:
            llama_cpp.llama_free(self.pointer)
            self.pointer = 0


def scheduler_of(context: int) -> int | None:
    """ggml's scheduler of the context at this address, where the build lets us have it."""
    if library.context_scheduler is None:
        return None
    scheduler: int | None = library.context_scheduler(context)
    return scheduler


def _flash_attention(profile: Profile, lines: list[str]) -> bool:
    if profile.flash_attention != "auto":
        return profile.flash_attention == "on"
    return any(phrase in line for line in lines for phrase in _FLASH_ON)


def context_failure(profile: Profile, n_ctx: int, reason: str) -> Failed:
    """Why llama.cpp made no context, and what to do."""
    quantized_v = profile.cache_type_v not in ("f32", "f16", "bf16")
    if quantized_v and profile.flash_attention == "off":
        return Failed(
            "The context could not be made",
            f"A V cache of type {profile.cache_type_v} needs flash attention, and the profile turns it off.",
            'Set flash_attention = "auto", or cache_type_v = "f16".',
        )
    return Failed(
        f"The context of {n_ctx:,} tokens could not be made",
        f"llama.cpp says: {reason}." if reason else "llama.cpp gave no reason; its log has the rest.",
        "Choose a smaller n_ctx, a KV cache of type q8_0, or a smaller n_ubatch.",
    )


def state_bytes(context: Context) -> int:
    """Size of a copy of what the KV cache holds."""
    return int(llama_cpp.llama_state_seq_get_size(context.pointer, 0))


def copy_state(context: Context, state: Any) -> bool:
    """Copy what the KV cache holds. False where it cannot be had."""
    size = ctypes.sizeof(state)
    return bool(llama_cpp.llama_state_seq_get_data(context.pointer, state, size, 0) == size)


def restore_state(context: Context, state: Any) -> bool:
    """Put a KV cache back. False where this context cannot take it; then the sequence is empty."""
    size = ctypes.sizeof(state)
    if llama_cpp.llama_state_seq_set_data(context.pointer, state, size, 0) == size:
        return True
    llama_cpp.llama_memory_clear(context.memory, True)
    return False

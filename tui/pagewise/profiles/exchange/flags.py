"""The options of llama-server that say what a profile's keys say.

Read from common/arg.cpp of the llama.cpp that llama-cpp-python 0.3.36 carries.
"""

from __future__ import annotations

from typing import NamedTuple


class Flag(NamedTuple):
    """One option: the name that is written, the others that are understood, and its environment variable."""

    key: str
    """Of the profile, dotted."""
    name: str
    also: tuple[str, ...] = ()
    env: str = ""

    @property
    def ini(self) -> str:
        """As the router's presets have it."""
        return self.name.lstrip("-")


FLAGS = (
    Flag("model", "--model", ("-m",), "LLAMA_ARG_MODEL"),
    Flag("n_gpu_layers", "--n-gpu-layers", ("-ngl", "--gpu-layers"), "LLAMA_ARG_N_GPU_LAYERS"),
    Flag("split_mode", "--split-mode", ("-sm",), "LLAMA_ARG_SPLIT_MODE"),
    Flag("main_gpu", "--main-gpu", ("-mg",), "LLAMA_ARG_MAIN_GPU"),
    Flag("tensor_split", "--tensor-split", ("-ts",), "LLAMA_ARG_TENSOR_SPLIT"),
    Flag("tensor_overrides", "--override-tensor", ("-ot",), "LLAMA_ARG_OVERRIDE_TENSOR"),
    Flag("load_mode", "--load-mode", ("-lm",), "LLAMA_ARG_LOAD_MODE"),
    Flag("n_ctx", "--ctx-size", ("-c",), "LLAMA_ARG_CTX_SIZE"),
    Flag("n_batch", "--batch-size", ("-b",), "LLAMA_ARG_BATCH"),
    Flag("n_ubatch", "--ubatch-size", ("-ub",), "LLAMA_ARG_UBATCH"),
    Flag("threads", "--threads", ("-t",), "LLAMA_ARG_THREADS"),
    Flag("threads_batch", "--threads-batch", ("-tb",)),
    Flag("cache_type_k", "--cache-type-k", ("-ctk",), "LLAMA_ARG_CACHE_TYPE_K"),
    Flag("cache_type_v", "--cache-type-v", ("-ctv",), "LLAMA_ARG_CACHE_TYPE_V"),
    Flag("flash_attention", "--flash-attn", ("-fa",), "LLAMA_ARG_FLASH_ATTN"),
    Flag("lora", "--lora-scaled", ("--lora",)),
    Flag("idle_unload", "--sleep-idle-seconds"),
    Flag("sampling.temperature", "--temperature", ("--temp",), "LLAMA_ARG_TEMPERATURE"),
    Flag("sampling.top_k", "--top-k", (), "LLAMA_ARG_TOP_K"),
    Flag("sampling.top_p", "--top-p", (), "LLAMA_ARG_TOP_P"),
    Flag("sampling.min_p", "--min-p", (), "LLAMA_ARG_MIN_P"),
    Flag("sampling.repeat_penalty", "--repeat-penalty", (), "LLAMA_ARG_REPEAT_PENALTY"),
    Flag("sampling.repeat_last_n", "--repeat-last-n"),
    Flag("sampling.seed", "--seed", ("-s",)),
    Flag("sampling.max_tokens", "--n-predict", ("-n", "--predict"), "LLAMA_ARG_N_PREDICT"),
    Flag("sampling.stop", "--reverse-prompt", ("-r",)),
)
BY_KEY = {flag.key: flag for flag in FLAGS}
BY_NAME = {name: flag for flag in FLAGS for name in (flag.name, *flag.also)}
BY_ENV = {flag.env: flag for flag in FLAGS if flag.env}

LOAD_MODES = {"auto": "auto", "mmap": "mmap", "mlock": "mmap+mlock", "none": "none", "direct": "dio"}
"""A profile's ``load_mode`` in llama-server's words."""
EXPERTS = r"\.ffn_(up|down|gate|gate_up)_(ch|)exps"
DENSE = r"\.ffn_(up|down|gate)\."
"""The tensors that --cpu-moe and --n-cpu-ffn mean."""
_ESCAPES = {"\\": "\\\\", "\n": "\\n", "\r": "\\r", "\t": "\\t"}
_BACK = {"n": "\n", "r": "\r", "t": "\t", "'": "'", '"': '"', "\\": "\\"}


def escaped(text: str) -> str:
    """A stop text as llama.cpp reads it back: backslashes doubled, what cannot be seen by the bytes of its UTF-8."""
    return "".join(_ESCAPES.get(letter) or (letter if letter.isprintable() else _by_bytes(letter)) for letter in text)


def _by_bytes(letter: str) -> str:
    return "".join(f"\\x{byte:02x}" for byte in letter.encode("utf-8"))


def unescaped(text: str) -> str:
    """What llama.cpp makes of a stop text (string_process_escapes)."""
    out = bytearray()
    at = 0
    while at < len(text):
        letter, follows = text[at], text[at + 1 : at + 2]
        if letter != "\\" or not follows:
            out += letter.encode("utf-8", errors="replace")
            at += 1
        elif follows in _BACK:
            out += _BACK[follows].encode()
            at += 2
        elif follows == "x" and _is_hex(text[at + 2 : at + 4]):
            out.append(int(text[at + 2 : at + 4], 16))
            at += 4
        else:
            out += (letter + follows).encode("utf-8", errors="replace")
            at += 2
    return out.decode("utf-8", errors="replace")


def _is_hex(digits: str) -> bool:
    return len(digits) == 2 and all(digit in "0123456789abcdefABCDEF" for digit in digits)

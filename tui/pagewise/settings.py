"""What a profile says, as a validated value. Reading and writing the TOML files is profiles/'s work.

Stands beside messages.py because a profile travels in messages; imports nothing but msgspec.
"""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta, Struct

KvType = Literal["f32", "f16", "bf16", "q8_0", "q5_1", "q5_0", "q4_1", "q4_0", "iq4_nl"]
MemoryBytes = Annotated[str, Meta(pattern=r"^[0-9]{1,6}(\.[0-9]{1,3})? ?[MG]iB$")]
LoadMode = Literal["auto", "mmap", "mlock", "none", "direct"]
Count = Annotated[int, Meta(ge=1, le=16_777_216)]
Share = Annotated[float, Meta(ge=0.0, le=1.0)]
Duration = Annotated[str, Meta(pattern=r"^[1-9][0-9]{0,4} ?(s|min|m|h)$")]
_SECONDS = {"s": 1, "m": 60, "min": 60, "h": 3600}


def memory_bytes(text: MemoryBytes) -> int:
    """``12GiB`` or ``800MiB`` as a number."""
    unit = 1024**3 if text.endswith("GiB") else 1024**2
    return int(float(text[:-3]) * unit)


class Sampling(Struct, frozen=True, forbid_unknown_fields=True):
    """How the next token is chosen."""

    temperature: Annotated[float, Meta(ge=0.0, le=10.0)] = 0.7
    """0 is greedy: always the most probable token."""
    top_k: Annotated[int, Meta(ge=0, le=1_000_000)] = 40
    """Only the so many most probable tokens are drawn from; 0: all of them."""
    top_p: Share = 0.95
    """Only the most probable tokens that together reach this probability; 1: all of them."""
    min_p: Share = 0.05
    """Only tokens at least so probable as this share of the most probable one; 0: all of them."""
    repeat_penalty: Annotated[float, Meta(ge=0.5, le=5.0)] = 1.0
    """How much less probable what was written already becomes; 1: not at all."""
    repeat_last_n: Annotated[int, Meta(ge=0, le=1_000_000)] = 64
    """How many of the last tokens the penalty looks at; 0: none."""
    seed: Annotated[int, Meta(ge=0, le=4_294_967_294)] | None = None
    """None: another one for each reply."""
    max_tokens: Count | None = None
    """Longest reply in tokens; None: until the model ends or the context is full."""
    stop: tuple[str, ...] = ()
    """The reply ends before the first of these texts."""


class Keep(Struct, frozen=True, forbid_unknown_fields=True):
    """How much of a mapped model may stay in memory."""

    keep: MemoryBytes
    """Such as ``12GiB`` or ``800MiB``."""

    @property
    def bytes(self) -> int:
        """The same as a number."""
        return memory_bytes(self.keep)

    def __str__(self) -> str:
        return f"keep {self.keep}"


class Lora(Struct, frozen=True, forbid_unknown_fields=True):
    """A LoRA adapter: a small file that changes what a model's weights do."""

    path: Annotated[str, Meta(min_length=1)]
    """A GGUF file made for the very same base model."""
    scale: Annotated[float, Meta(ge=-100.0, le=100.0)] = 1.0
    """How strongly it acts: 0 not at all, 1 as it was trained."""


class Profile(Struct, frozen=True, forbid_unknown_fields=True):
    """Which model, where its layers live, its context and its sampling. Every field has a working default."""

    name: str
    """How it is called; without it, the file's name."""
    description: str = ""
    """A line that is shown in the list of profiles."""
    model: str = "guide"
    """``guide`` or the path of a GGUF file (the first part of a split one)."""
    quant: str | None = None
    """A quant level of the model; None: the file as it is. The guide's are made on first use; of another model, the
    file of that level beside it or among those that `pagewise quantize` has made."""
    n_gpu_layers: Annotated[int, Meta(ge=0, le=100_000)] | Literal["all", "fit"] = "all"
    """Layers on accelerators: the last ones first, the output counts as one. ``all`` without a GPU means none.

    ``fit``: as many as leave ``fit_margin`` free; of a mixture the experts go to RAM first.
    """
    fit_margin: MemoryBytes = "1GiB"
    """What ``n_gpu_layers = "fit"`` leaves free on each accelerator, such as ``512MiB``."""
    split_mode: Literal["none", "layer", "row", "tensor"] = "layer"
    """Over several GPUs: none (one alone), whole layers on each, or each matrix in rows or by tensor parallelism."""
    main_gpu: Annotated[int, Meta(ge=0, le=64)] = 0
    """The GPU that is used where the model is not split, counted from 0."""
    tensor_split: tuple[Annotated[float, Meta(ge=0.0)], ...] = ()
    """How much of the model each GPU takes, in proportion, such as 3, 1; empty: by their free memory."""
    tensor_overrides: tuple[str, ...] = ()
    """Each ``REGEX=BUFFER TYPE``, such as ``ffn_.*_exps=CPU``; the first that matches a tensor's name wins."""
    load_mode: LoadMode = "auto"
    """How weights come into RAM: mapped from the file, mapped and locked, or copied (none; direct: past the cache)."""
    placement: Literal["auto", "off"] | Keep = "auto"
    """Of a mapped model larger than memory: keep what fits and stream the rest; ``off`` leaves it to the kernel."""
    repack: Literal["auto", "on", "off"] = "auto"
    """Copy weights into a layout of the processor's own; ``auto`` is off until it was measured to be faster here."""
    n_ctx: Annotated[int, Meta(ge=0, le=16_777_216)] = 4096
    """Tokens of context; 0: as many as the model was trained for; never more than that."""
    n_batch: Count = 2048
    """Tokens of a prompt that are handed over at a time."""
    n_ubatch: Count = 512
    """Tokens that are computed at a time: more is faster in prefill and needs larger compute buffers."""
    threads: Annotated[int, Meta(ge=0, le=1024)] = 0
    """Threads for decode; 0: one for each physical core, fewer for a model so small that they would only wait."""
    threads_batch: Annotated[int, Meta(ge=0, le=1024)] = 0
    """Threads for prefill; 0: as ``threads``."""
    cache_type_k: KvType = "f16"
    """Type of the keys in the KV cache: q8_0 halves them."""
    cache_type_v: KvType = "f16"
    """Type of the values in the KV cache; a quantized one needs flash attention."""
    flash_attention: Literal["auto", "on", "off"] = "auto"
    """Attention without its large buffers; auto: where the device can."""
    swa_full: bool = False
    """Of a model with a sliding window: keep all of its past, not the window alone."""
    lora: tuple[Lora, ...] = ()
    """Adapters on top of the weights. Another scale takes effect at once, other files with a new context."""
    keep: bool = False
    """Hold the model in memory while another profile is in force, where both fit: switching back is then instant."""
    idle_unload: Duration | None = None
    """Such as ``10m``: give the memory back after so long without use; the next message loads the model again."""
    system_prompt: str = ""
    """What the model is told before the conversation; empty: nothing."""
    sampling: Sampling = Sampling()
    probe_every: Annotated[int, Meta(ge=0, le=100_000)] = 16
    """The layer clock samples one output token in this many; 0: never."""
    source: str = ""
    """The file it was read from; not a key of the file."""

    @property
    def idle_unload_s(self) -> float | None:
        """``idle_unload`` in seconds."""
        if self.idle_unload is None:
            return None
        digits = self.idle_unload.rstrip("hmins ")
        return float(digits) * _SECONDS[self.idle_unload[len(digits) :].strip()]

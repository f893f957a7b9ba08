"""What a profile says, as a validated value. Reading and writing the TOML files is profiles/'s work.

Stands beside messages.py because a profile travels in messages; imports nothing but msgspec.
"""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta, Struct

KvType = Literal["f32", "f16", "bf16", "q8_0", "q5_1", "q5_0", "q4_1", "q4_0", "iq4_nl"]
KeptBytes = Annotated[str, Meta(pattern=r"^[0-9]{1,6}(\.[0-9]{1,3})? ?[MG]iB$")]
LoadMode = Literal["auto", "mmap", "mlock", "none", "direct"]
Count = Annotated[int, Meta(ge=1, le=16_777_216)]
Share = Annotated[float, Meta(ge=0.0, le=1.0)]


class Sampling(Struct, frozen=True, forbid_unknown_fields=True):
    """How the next token is chosen."""

    temperature: Annotated[float, Meta(ge=0.0, le=10.0)] = 0.7
    """0 is greedy: always the most probable token."""
    top_k: Annotated[int, Meta(ge=0, le=1_000_000)] = 40
    top_p: Share = 0.95
    min_p: Share = 0.05
    repeat_penalty: Annotated[float, Meta(ge=0.5, le=5.0)] = 1.0
    repeat_last_n: Annotated[int, Meta(ge=0, le=1_000_000)] = 64
    seed: Annotated[int, Meta(ge=0, le=4_294_967_294)] | None = None
    """None: another one for each reply."""
    max_tokens: Count | None = None
    """Longest reply in tokens; None: until the model ends or the context is full."""
    stop: tuple[str, ...] = ()


class Keep(Struct, frozen=True, forbid_unknown_fields=True):
    """How much of a mapped model may stay in memory."""

    keep: KeptBytes
    """Such as ``12GiB`` or ``800MiB``."""

    @property
    def bytes(self) -> int:
        """The same as a number."""
        unit = 1024**3 if self.keep.endswith("GiB") else 1024**2
        return int(float(self.keep[:-3]) * unit)

    def __str__(self) -> str:
        return f"keep {self.keep}"


class Profile(Struct, frozen=True, forbid_unknown_fields=True):
    """Which model, where its layers live, its context and its sampling. Every field has a working default."""

    name: str
    description: str = ""
    model: str = "guide"
    """``guide`` or the path of a GGUF file (the first part of a split one)."""
    quant: str | None = None
    """A quant level of the guide (made on first use); None: the file as it is."""
    n_gpu_layers: Annotated[int, Meta(ge=0, le=100_000)] | Literal["all"] = "all"
    """Layers on accelerators: the last ones first, the output counts as one. ``all`` without a GPU means none."""
    split_mode: Literal["none", "layer", "row", "tensor"] = "layer"
    main_gpu: Annotated[int, Meta(ge=0, le=64)] = 0
    tensor_split: tuple[Annotated[float, Meta(ge=0.0)], ...] = ()
    tensor_overrides: tuple[str, ...] = ()
    """Each ``REGEX=BUFFER TYPE``, such as ``ffn_.*_exps=CPU``; the first that matches a tensor's name wins."""
    load_mode: LoadMode = "auto"
    placement: Literal["auto", "off"] | Keep = "auto"
    """Of a mapped model larger than memory: keep what fits and stream the rest; ``off`` leaves it to the kernel."""
    repack: Literal["auto", "on", "off"] = "auto"
    """Copy weights into a layout of the processor's own; ``auto`` is off until it was measured to be faster here."""
    n_ctx: Annotated[int, Meta(ge=0, le=16_777_216)] = 4096
    """Tokens of context; 0: as many as the model was trained for; never more than that."""
    n_batch: Count = 2048
    n_ubatch: Count = 512
    threads: Annotated[int, Meta(ge=0, le=1024)] = 0
    """Threads for decode; 0: one for each physical core, fewer for a model so small that they would only wait."""
    threads_batch: Annotated[int, Meta(ge=0, le=1024)] = 0
    """Threads for prefill; 0: as ``threads``."""
    cache_type_k: KvType = "f16"
    cache_type_v: KvType = "f16"
    flash_attention: Literal["auto", "on", "off"] = "auto"
    swa_full: bool = False
    system_prompt: str = ""
    sampling: Sampling = Sampling()
    probe_every: Annotated[int, Meta(ge=0, le=100_000)] = 16
    """The layer clock samples one output token in this many; 0: never."""
    source: str = ""
    """The file it was read from; not a key of the file."""

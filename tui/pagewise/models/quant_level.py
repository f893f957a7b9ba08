"""Which quant level a file really is: told by its tensors, named by its header where the two agree."""

from __future__ import annotations

import re

from pagewise.models.gguf import GgufHeader, Tensor
from pagewise.models.quant import FILE_TYPES

_GUESSED = 1024
_NAMED = re.compile(
    r"(?<![A-Z0-9])((?:UD-)?(?:IQ[1-4]_(?:XXS|XS|S|M|NL)|Q[1-8]_(?:K(?:_(?:XXL|XL|[SML]))?|[01])|MXFP4(?:_MOE)?|NVFP4"
    r"|TQ[12]_0|BF16|F16|FP16|F32))(?![A-Z0-9])",
    re.IGNORECASE,
)
_BODY = {
    "Q2_K_S": "Q2_K",
    "IQ2_M": "IQ2_S",
    "IQ3_M": "IQ3_S",
    "IQ3_XS": "IQ3_S",
    "MXFP4_MOE": "MXFP4",
}
"""Levels whose name is not that of the type most of their tensors have."""
_STANDS_IN: dict[str, tuple[str, ...]] = {
    "Q2_K": ("Q3_K", "Q4_0", "IQ4_NL"),
    "Q3_K": ("Q4_0", "IQ4_NL", "Q4_K"),
    "Q4_K": ("Q5_0", "Q5_K"),
    "Q5_K": ("Q5_1", "Q6_K"),
    "Q6_K": ("Q8_0",),
    "IQ4_XS": ("IQ4_NL",),
    "IQ3_S": ("IQ4_NL", "IQ3_XXS"),
    "IQ3_XXS": ("IQ4_NL", "IQ3_S"),
    "IQ2_S": ("IQ4_NL", "IQ2_XS"),
    "IQ2_XS": ("IQ4_NL", "IQ2_XXS", "IQ2_S"),
    "IQ2_XXS": ("IQ4_NL", "IQ2_XS"),
    "IQ1_S": ("IQ4_NL", "IQ2_XXS", "IQ1_M"),
    "IQ1_M": ("IQ4_NL", "IQ2_XXS", "IQ1_S"),
}
"""What llama.cpp takes instead of a type whose blocks do not divide a row, or for most of a small model's layers."""


def type_bytes(tensors: tuple[Tensor, ...]) -> dict[str, int]:
    """Bytes by tensor type, the largest first."""
    sizes: dict[str, int] = {}
    for tensor in tensors:
        sizes[tensor.type.name] = sizes.get(tensor.type.name, 0) + tensor.bytes
    return dict(sorted(sizes.items(), key=lambda item: (-item[1], item[0])))


def main_type(tensors: tuple[Tensor, ...]) -> str:
    """The type that holds most weights of the layers (of all tensors, where there are no layers)."""
    weights: dict[str, int] = {}
    layers = [tensor for tensor in tensors if tensor.name.startswith("blk.")]
    for tensor in layers or tensors:
        weights[tensor.type.name] = weights.get(tensor.type.name, 0) + tensor.n_weights
    return max(weights, key=lambda name: (weights[name], name)) if weights else ""


def stated_level(header: GgufHeader) -> str:
    """The level that ``general.file_type`` names, or an empty string."""
    number = header.metadata.get("general.file_type")
    return FILE_TYPES.get(number & ~_GUESSED, "") if isinstance(number, int) else ""


def quant_level(stated: str, main: str) -> str:
    """``stated`` where a file whose layers are mostly of type ``main`` can be of that level; else ``main`` itself."""
    body = _body(stated)
    return stated if stated and (main == body or main in _STANDS_IN.get(body, ())) else main


def named_level(name: str) -> str:
    """The level that a file's name claims, such as ``Q4_K_M`` or ``UD-Q4_K_XL``; an empty string if none."""
    found = _NAMED.findall(name)
    return found[-1].upper().replace("FP16", "F16") if found else ""


def without_level(name: str) -> str:
    """A file's name without the level that it claims."""
    return re.sub(r"[-._ ]+$", "", _NAMED.sub("", name)) or name


def disagree(named: str, level: str) -> bool:
    """Whether a name claims a level of another kind than the tensors show; fine differences do not count."""
    return bool(named and level) and _bits(named) != _bits(level)


def _bits(level: str) -> str:
    digits = re.search(r"\d+", level)
    return digits[0] if digits else level


def _body(level: str) -> str:
    """The type that most tensors of a level have."""
    if level in _BODY:
        return _BODY[level]
    return re.sub(r"_[SML]$", "", level) if level.startswith("Q") else level

"""``pagewise inspect``: what a GGUF file holds."""

from __future__ import annotations

from pathlib import Path

from pagewise.app.figures import count, share, size
from pagewise.commands.output import as_json
from pagewise.models.inspect import Inspection, LayerBytes, inspect

_LABEL = 16


def run(path: Path, json: bool) -> str:
    """The text for standard output. Raises pagewise.models.gguf.GgufError."""
    found = inspect(path)
    return as_json(found) if json else "\n".join(_lines(found))


def _lines(found: Inspection) -> list[str]:
    file = found.files[0] + (f" and {len(found.files) - 1} more parts" if len(found.files) > 1 else "")
    return [
        _row("file", f"{file}, {size(found.file_bytes)}, GGUF {found.version}"),
        _row("model", " · ".join(filter(None, (found.name, found.size_label, found.licence))) or "not named"),
        _row("architecture", found.architecture or "not named"),
        _row("parameters", _parameters(found)),
        _row("quant", _quant(found)),
        _row("shape", _shape(found)),
        *([_row("experts", _experts(found))] if found.n_expert else []),
        _row("context length", "not stated" if found.n_ctx_train is None else f"{count(found.n_ctx_train)} tokens"),
        _row("KV cache", _kv(found)),
        *(_row("", line) for line in _kv_more(found)),
        _row("tokenizer", f"{found.tokenizer or 'not named'}, {count(found.n_vocab)} tokens"),
        _row("chat template", "yes" if found.chat_template else "no: pagewise falls back to a plain one"),
        "",
        *_type_table(found),
        "",
        *_layer_table(found),
    ]


def _row(label: str, value: str) -> str:
    return f"{label:<{_LABEL}}{value}".rstrip()


def _parameters(found: Inspection) -> str:
    n = found.n_params
    short = f"{n / 1e9:.2f} billion" if n >= 1e9 else f"{n / 1e6:.2f} million"
    return f"{short} ({count(n)})"


def _quant(found: Inspection) -> str:
    if found.bits_per_weight is None:
        return "no tensors"
    return f"{found.quant}, {found.bits_per_weight:.2f} bits per weight over all tensors"


def _shape(found: Inspection) -> str:
    parts = (
        (found.n_layer, "layers"),
        (found.n_embd, "wide"),
        (found.n_head, "heads"),
        (found.n_head_kv, "KV heads"),
        (found.n_ff, "feed-forward"),
    )
    return ", ".join(f"{count(value)} {name}" for value, name in parts if value) or "not stated"


def _experts(found: Inspection) -> str:
    used = "" if found.n_expert_used is None else f", {found.n_expert_used} of them for each token"
    return f"{found.n_expert}{used}"


def _kv(found: Inspection) -> str:
    kv = found.kv
    if kv is None:
        return f"n/a: {found.kv_unknown}"
    if not kv.layers:
        return "none: every layer keeps a state of fixed size"
    return (
        f"{kv.kind}, {size(kv.bytes_per_token_f16)} a token at f16, {size(kv.bytes_per_token_q8_0)} at q8_0 "
        f"({count(kv.layers)} layers)"
    )


def _kv_more(found: Inspection) -> list[str]:
    kv = found.kv
    if kv is None or not kv.layers:
        return []
    lines = []
    if kv.sliding_layers:
        lines.append(
            f"{kv.sliding_layers} layers keep only the last {count(kv.window)} tokens; "
            f"beyond them {size(kv.bytes_per_token_beyond_window_f16)} a token"
        )
    if kv.recurrent_layers:
        lines.append(f"{kv.recurrent_layers} layers keep a state of fixed size")
    if kv.bytes_at_n_ctx_train_f16 is not None:
        lines.append(f"{size(kv.bytes_at_n_ctx_train_f16)} for the whole context length at f16")
    return lines


def _type_table(found: Inspection) -> list[str]:
    lines = [f"{'type':<10}{'bits':>8}{'tensors':>10}{'weights':>20}{'bytes':>18}{'share':>9}"]
    lines += [
        f"{entry.type:<10}{entry.bits_per_weight:>8.3f}{count(entry.tensors):>10}{count(entry.weights):>20}"
        f"{count(entry.bytes):>18}{share(entry.bytes, found.tensor_bytes) or 0:>7.1f} %"
        for entry in found.types
    ]
    return lines


def _layer_table(found: Inspection) -> list[str]:
    split = len(found.files) > 1
    lines = [f"{'layer':<10}{'bytes':>18}  {'types':<16}bytes of the file"]
    lines += [
        f"{layer.name:<10}{count(layer.bytes):>18}  {', '.join(layer.types):<16}{_ranges(layer, split)}"
        for layer in found.layers
    ]
    return lines


def _ranges(layer: LayerBytes, split: bool) -> str:
    shown = [
        f"{f'part {entry.file + 1}: ' if split else ''}{count(entry.start)} – {count(entry.end)}"
        for entry in layer.ranges[:2]
    ]
    more = len(layer.ranges) - len(shown)
    return ", ".join(shown) + (f", and {more} more" if more else "")

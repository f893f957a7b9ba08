"""What the change from one profile to another costs: the class, and the keys that decide it."""

from __future__ import annotations

import msgspec

from pagewise.messages import ChangeClass
from pagewise.settings import Lora, Profile

LIVE = frozenset(
    {
        "name",
        "description",
        "source",
        "sampling",
        "system_prompt",
        "threads",
        "threads_batch",
        "probe_every",
        "keep",
        "idle_unload",
    }
)
CONTEXT = frozenset({"n_ctx", "n_batch", "n_ubatch", "cache_type_k", "cache_type_v", "flash_attention", "swa_full"})
_SILENT = frozenset({"name", "description", "source"})
"""Keys that change what is shown and nothing of what runs."""


def change_class(old: Profile | None, new: Profile) -> tuple[ChangeClass, tuple[str, ...]]:
    """The class of the change from ``old`` to ``new``, and the keys that make it one, as ``key: old → new``.

    The keys named are those of the class itself: what a cheaper class would have taken along is left out.
    ``none``: the two run alike. ``process``: nothing runs yet.
    """
    if old is None:
        return "process", ("no model is loaded",)
    changed = [key for key in Profile.__struct_fields__ if getattr(old, key) != getattr(new, key)]
    model = [key for key in changed if key not in LIVE and key not in CONTEXT and key != "lora"]
    context = [key for key in changed if key in CONTEXT]
    live = [key for key in changed if key in LIVE and key not in _SILENT]
    if "lora" in changed:
        scales_alone = [entry.path for entry in old.lora] == [entry.path for entry in new.lora]
        (live if scales_alone else context).append("lora")
    if model:
        return "model", _reasons(old, new, model)
    if context:
        return "context", _reasons(old, new, context)
    if live:
        return "live", _reasons(old, new, live)
    return "none", ()


def takes_up(held: Profile, wanted: Profile) -> bool:
    """Whether an engine that holds a model under ``held`` can go on under ``wanted`` without loading any weights."""
    return change_class(held, wanted)[0] in ("none", "live", "context")


def _reasons(old: Profile, new: Profile, keys: list[str]) -> tuple[str, ...]:
    reasons: list[str] = []
    for key in keys:
        before, after = getattr(old, key), getattr(new, key)
        if key == "lora":
            reasons.append(_adapters(before, after))
        elif isinstance(before, msgspec.Struct) and type(before) is type(after):
            reasons += [
                _reason(f"{key}.{inner}", getattr(before, inner), getattr(after, inner))
                for inner in before.__struct_fields__
                if getattr(before, inner) != getattr(after, inner)
            ]
        else:
            reasons.append(_reason(key, before, after))
    return tuple(reasons)


def _adapters(before: tuple[Lora, ...], after: tuple[Lora, ...]) -> str:
    return f"lora: {_listed(before)} → {_listed(after)}"


def _listed(lora: tuple[Lora, ...]) -> str:
    return ", ".join(f"{_shown(entry.path.rsplit('/', 1)[-1])} × {entry.scale:g}" for entry in lora) or "none"


def _reason(key: str, before: object, after: object) -> str:
    if key == "system_prompt" or isinstance(before, tuple):
        return key
    return f"{key}: {_shown(before)} → {_shown(after)}"


def _shown(value: object) -> str:
    if value is None:
        return "not set"
    if isinstance(value, bool):
        return "true" if value else "false"
    text = str(value)
    return text if len(text) <= 40 else "…" + text[-39:]

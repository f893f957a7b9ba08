from __future__ import annotations

from typing import Any

import msgspec
import pytest

from pagewise.profiles.cost import change_class
from pagewise.settings import Keep, Lora, Profile, Sampling

BASE = Profile(name="base")


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, "none"),
        ({"name": "other", "description": "x", "source": "/x"}, "none"),
        ({"sampling": Sampling(temperature=0.1)}, "live"),
        ({"system_prompt": "x"}, "live"),
        ({"threads": 3}, "live"),
        ({"threads_batch": 3}, "live"),
        ({"probe_every": 0}, "live"),
        ({"n_ctx": 8}, "context"),
        ({"n_batch": 8}, "context"),
        ({"n_ubatch": 8}, "context"),
        ({"cache_type_k": "q8_0"}, "context"),
        ({"cache_type_v": "q8_0"}, "context"),
        ({"flash_attention": "on"}, "context"),
        ({"swa_full": True, "threads": 2}, "context"),
        ({"model": "/x.gguf"}, "model"),
        ({"quant": "Q8_0"}, "model"),
        ({"n_gpu_layers": 2}, "model"),
        ({"split_mode": "row"}, "model"),
        ({"main_gpu": 1}, "model"),
        ({"tensor_split": (1.0, 2.0)}, "model"),
        ({"tensor_overrides": ("a=CPU",)}, "model"),
        ({"load_mode": "none"}, "model"),
        ({"placement": "off"}, "model"),
        ({"placement": Keep("2GiB")}, "model"),
        ({"repack": "off", "n_ctx": 8, "threads": 2}, "model"),
        ({"keep": True}, "live"),
        ({"idle_unload": "10m"}, "live"),
        ({"lora": (Lora("/a.gguf"),)}, "context"),
        ({"lora": (Lora("/a.gguf"),), "load_mode": "none"}, "model"),
    ],
)
def test_the_dearest_changed_key_decides_the_class(changes: dict[str, Any], expected: str) -> None:
    assert change_class(BASE, msgspec.structs.replace(BASE, **changes))[0] == expected


def test_every_key_of_the_schema_has_a_class() -> None:
    tried = {"name", "description", "source"}
    for key in Profile.__struct_fields__:
        other: dict[str, Any] = {"sampling": Sampling(seed=1), "lora": (Lora("other"),)}
        value = other.get(key, ("other",) if isinstance(getattr(BASE, key), tuple) else "other")
        changed = msgspec.structs.replace(BASE, **{key: value})
        assert (change_class(BASE, changed)[0] == "none") == (key in tried)


def test_another_scale_is_live_and_other_adapters_are_not() -> None:
    first = msgspec.structs.replace(BASE, lora=(Lora("/x/a.gguf"), Lora("/x/b.gguf", 0.5)))
    rescaled = msgspec.structs.replace(first, lora=(Lora("/x/a.gguf", 0.25), Lora("/x/b.gguf", 0.5)))
    assert change_class(first, rescaled) == ("live", ("lora: a.gguf × 1, b.gguf × 0.5 → a.gguf × 0.25, b.gguf × 0.5",))
    turned = msgspec.structs.replace(first, lora=tuple(reversed(first.lora)))
    assert change_class(first, turned)[0] == "context"
    assert change_class(first, BASE) == ("context", ("lora: a.gguf × 1, b.gguf × 0.5 → none",))


def test_without_a_model_a_process_is_needed() -> None:
    assert change_class(None, BASE)[0] == "process"


def test_a_key_that_becomes_a_table_is_shown_as_a_whole() -> None:
    kept = msgspec.structs.replace(BASE, placement=Keep("2GiB"))
    assert change_class(BASE, kept)[1] == ("placement: auto → keep 2GiB",)
    assert change_class(kept, BASE)[1] == ("placement: keep 2GiB → auto",)
    more = msgspec.structs.replace(BASE, placement=Keep("3GiB"))
    assert change_class(kept, more)[1] == ("placement.keep: 2GiB → 3GiB",)


def test_reasons_name_the_keys_of_the_class_with_both_values() -> None:
    changed = msgspec.structs.replace(BASE, n_ctx=512, threads=2)
    assert change_class(BASE, changed) == ("context", ("n_ctx: 4096 → 512",))
    changed = msgspec.structs.replace(BASE, sampling=Sampling(temperature=0, seed=4))
    assert change_class(BASE, changed)[1] == ("sampling.temperature: 0.7 → 0", "sampling.seed: not set → 4")

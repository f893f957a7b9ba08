"""A machine with models of several tools, and a repository of the hub, always the same."""

from __future__ import annotations

from app.scenes import GIB, LAPTOP, MIB
from pagewise.failure import Failure
from pagewise.jobs.catalog import (
    Catalog,
    CatalogFile,
    CatalogModel,
    Copy,
    Fit,
    OtherFile,
    Place,
    Room,
    TypeBytes,
    Unusable,
)
from pagewise.jobs.pull import Offer, Offers

ROOM = Room(32 * GIB, int(14.2 * GIB), 8 * GIB, int(6.1 * GIB))
OWN_FOLDERS = "/home/someone/.config/pagewise/models.txt"
AT = 1_700_000_000.0


def _file(name: str, quant: str, bits: float, gib: float, fit: Fit, source: str, **more: object) -> CatalogFile:
    values: dict[str, object] = {
        "path": f"/models/{name}-{quant}.gguf",
        "source": source,
        "name": name,
        "quant": quant,
        "bits_per_weight": bits,
        "mix": (TypeBytes(quant[:4], int(0.7 * gib * GIB)), TypeBytes("F32", int(0.3 * gib * GIB))),
        "bytes": int(gib * GIB),
        "parts": 1,
        "modified_s": AT,
        "kv_bytes": 230 * MIB,
        "fit": fit,
    }
    return CatalogFile(**{**values, **more})  # type: ignore[arg-type]


def catalog() -> Catalog:
    """Three models in seven files; one that is in use, one that is too large, one whose name lies."""
    qwen = CatalogModel(
        "Qwen2.5-7B-Instruct",
        "qwen2",
        7_615_616_512,
        28,
        32_768,
        None,
        (
            _file("qwen/Qwen2.5-7B-Instruct-GGUF", "Q8_0", 8.5, 7.5, "ram", "Hugging Face"),
            _file("qwen/Qwen2.5-7B-Instruct-GGUF", "Q6_K", 6.56, 5.8, "ram", "Hugging Face"),
            _file("qwen2.5:7b", "Q4_K_M", 4.91, 4.4, "vram", "Ollama", path=LAPTOP.model),
            _file(
                "qwen2.5-7b",
                "Q4_0",
                4.5,
                4.1,
                "vram",
                "folder",
                note="Its name says Q8_0, but its tensors are Q4_0.",
            ),
        ),
    )
    llama = CatalogModel(
        "Meta Llama 3.3 70B Instruct with a very long name of somebody's finetune",
        "llama",
        70_553_706_496,
        80,
        131_072,
        None,
        (_file("lmstudio-community/Llama-3.3-70B", "Q4_K_M", 4.82, 39.6, "streams", "LM Studio", parts=2),),
    )
    mixture = CatalogModel(
        "Qwen3 30B A3B",
        "qwen3moe",
        30_532_122_624,
        48,
        40_960,
        128,
        (
            _file(
                "unsloth/Qwen3-30B-A3B-GGUF",
                "Q4_K_M",
                4.86,
                17.3,
                "both",
                "llama.cpp",
                copies=(Copy("/data/q.gguf", "Jan", "q", True),),
            ),
        ),
    )
    return Catalog(
        models=(llama, qwen, mixture),
        others=(OtherFile("projector", "/models/mmproj.gguf", "folder", "mmproj.gguf", 800 * MIB, AT),),
        unusable=(Unusable("/models/half.gguf", "folder", Failure("half.gguf is cut short", "why", "next")),),
        places=(Place("Hugging Face", "/hub", 2), Place("Ollama", "/ollama", 1)),
        own_folders=OWN_FOLDERS,
        room=ROOM,
    )


def empty() -> Catalog:
    """Nothing on the machine."""
    return Catalog((), (), (), (), OWN_FOLDERS, ROOM)


def offers() -> Offers:
    """A repository with four levels, one of them here already."""
    levels = (
        Offer("Q2_K", ("Model-Q2_K.gguf",), int(3.0 * GIB), False, "vram"),
        Offer("Q4_K_M", ("Model-Q4_K_M.gguf",), int(4.7 * GIB), True, "vram"),
        Offer("Q8_0", ("Model-Q8_0.gguf",), int(8.2 * GIB), False, "ram"),
        Offer(
            "BF16",
            ("BF16/Model-BF16-00001-of-00002.gguf", "BF16/Model-BF16-00002-of-00002.gguf"),
            int(62 * GIB),
            False,
            "streams",
        ),
    )
    return Offers("someone/Model-GGUF", "0" * 40, "http://hub.example", levels, ("mmproj-F16.gguf",), ROOM)

"""Plans and catalogs with fixed figures, computed from the profile so that a change of it is seen."""

from __future__ import annotations

from app.scenes import GIB, LAYERS, MIB
from pagewise.jobs.catalog import Catalog, CatalogFile, CatalogModel
from pagewise.jobs.plan import Compared, DevicePlan, MemoryPlan, WouldFit
from pagewise.readings import Devices
from pagewise.settings import Profile

FOLDER = "/models"
LEVELS = (("Q3_K_M", 3.9, 3.5), ("Q4_K_M", 4.9, 4.4), ("Q6_K", 6.6, 5.8))


def plan(profile: Profile, devices: Devices | None) -> MemoryPlan:
    """The guide or a 7B model; on the GPU where the box has one."""
    guide = profile.model == "guide"
    weights, kv_of_token = (11 * MIB, 3072) if guide else (int(4.36 * GIB), 57_344)
    layers = 6 if guide else LAYERS
    asked = layers + 1 if isinstance(profile.n_gpu_layers, str) else profile.n_gpu_layers
    on_gpu = min(asked, layers + 1) if devices is not None else 0
    share = on_gpu / (layers + 1)
    kv = kv_of_token * (profile.n_ctx or 32_768) // (2 if profile.cache_type_k == "q8_0" else 1)
    compute = profile.n_ubatch * 600 * 1024 if not guide else 14 * MIB
    ram = DevicePlan(
        device="RAM",
        description="RAM",
        weights_bytes=0,
        kv_bytes=int(kv * (1 - share)),
        compute_bytes=compute // 8 if share else compute,
        driver_bytes=None,
        total_bytes=16 * GIB,
        free_bytes=int(11.2 * GIB),
    )
    entries = [ram]
    entries += [
        DevicePlan(
            device="CUDA0",
            description=device.name,
            weights_bytes=int(weights * share),
            kv_bytes=int(kv * share),
            compute_bytes=compute,
            driver_bytes=410 * MIB,
            total_bytes=device.total_bytes,
            free_bytes=int(6.1 * GIB),
            freed_bytes=4 * GIB,
        )
        for device in (devices.devices if devices is not None else ())
    ]
    fits = all(entry.free_bytes is None or entry.needed_bytes <= entry.free_bytes for entry in entries)
    over = max((entry.needed_bytes - (entry.free_bytes or 0) for entry in entries), default=0)
    return MemoryPlan(
        profile=profile,
        devices=tuple(entries),
        mapped_bytes=int(weights * (1 - share)),
        copied_bytes=0,
        streamed_bytes=0,
        n_ctx=profile.n_ctx or 32_768,
        offloaded_layers=on_gpu,
        n_layer=layers,
        fits=fits,
        estimate=False,
        margin_bytes=200 * MIB,
        notes=() if fits else (f"It needs {over / GIB:.1f} GiB more than the RTX 4060 has free.",),
        took_ms=12.0,
        would_fit=()
        if fits
        else (WouldFit("n_gpu_layers", "12", "12 layers on the GPU instead of 29, at the same context"),),
        last=(Compared("CUDA0", int(4.70 * GIB), int(4.78 * GIB), 8192, 18),) if not guide else (),
    )


def catalog() -> Catalog:
    """One model in three levels."""
    files = tuple(
        CatalogFile(
            path=f"{FOLDER}/qwen2.5-7b-{quant.lower()}.gguf",
            source="folder",
            name="qwen2.5-7b",
            quant=quant,
            bits_per_weight=bits,
            mix=(),
            bytes=int(size * GIB),
            parts=1,
            modified_s=0.0,
            kv_bytes=None,
        )
        for quant, bits, size in LEVELS
    )
    model = CatalogModel("Qwen2.5-7B-Instruct", "qwen2", 7_615_616_512, LAYERS, 32_768, None, files)
    return Catalog(models=(model,), others=(), unusable=(), places=(), own_folders="")

"""Fixed readings, models and events: the same at every run, so that screens can be compared cell by cell."""

from __future__ import annotations

from pagewise import messages
from pagewise.messages import Failure, ModelInfo
from pagewise.readings import (
    BufferBytes,
    DeviceMemory,
    Devices,
    LayerClock,
    LayerPlacement,
    LayerResidency,
    Memory,
    Missing,
    Paging,
    Residency,
    Snapshot,
    TurnTiming,
    Verdict,
)
from pagewise.settings import Profile

GIB = 1024**3
MIB = 1024**2
LAYERS = 28
ON_CPU = 11

GUIDE = Profile(name="guide", description="The guide at full precision", source="guide.toml")
LAPTOP = Profile(name="laptop-gpu", model="/models/qwen2.5-7b-q4_k_m.gguf", n_gpu_layers=18, n_ctx=8192)


def names() -> tuple[str, ...]:
    return ("input", *(str(index) for index in range(LAYERS)), "output")


def device_of(index: int) -> str:
    return "CPU" if index <= ON_CPU else "CUDA0"


def qwen() -> ModelInfo:
    """A 7B model, 18 of 29 layers on a GPU."""
    return ModelInfo(
        path=LAPTOP.model,
        name="Qwen2.5-7B-Instruct",
        architecture="qwen2",
        quant="Q4_K_M",
        n_params=7_615_616_512,
        file_bytes=int(4.36 * GIB),
        n_layer=LAYERS,
        n_ctx=8192,
        n_ctx_train=32768,
        n_batch=2048,
        n_ubatch=512,
        threads=8,
        threads_batch=8,
        flash_attention=True,
        load_mode="mmap",
        repacked=False,
        has_chat_template=True,
        vocabulary="qwen2",
        placement=tuple(
            LayerPlacement(name, device_of(index), "mapped" if index <= ON_CPU else "device", 0, 0, 0)
            for index, name in enumerate(names())
        ),
        buffers=(
            BufferBytes("CUDA0", "CUDA0", "weights", 3 * GIB),
            BufferBytes("CUDA0", "CUDA0", "kv", 410 * MIB),
            BufferBytes("CUDA0", "CUDA0", "compute", 300 * MIB),
            BufferBytes("CPU", "CPU_Mapped", "weights", int(1.36 * GIB)),
        ),
        offloaded_layers=18,
        bytes_per_token=int(4.1 * GIB),
        kv_bytes_per_token=57_344,
        load_ms=1900.0,
        context_ms=80.0,
    )


def guide_model() -> ModelInfo:
    """The guide on a machine without a GPU."""
    return ModelInfo(
        path="/share/guide-f16.gguf",
        name="pagewise guide",
        architecture="llama",
        quant="F16",
        n_params=5_200_000,
        file_bytes=11 * MIB,
        n_layer=6,
        n_ctx=1024,
        n_ctx_train=1024,
        n_batch=2048,
        n_ubatch=512,
        threads=2,
        threads_batch=2,
        flash_attention=True,
        load_mode="mmap",
        repacked=False,
        has_chat_template=True,
        vocabulary="guide",
        placement=(),
        buffers=(BufferBytes("CPU", "CPU_Mapped", "weights", 11 * MIB),),
        offloaded_layers=0,
        bytes_per_token=10 * MIB,
        kv_bytes_per_token=3072,
        load_ms=40.0,
        context_ms=5.0,
    )


def gpu(used: float = 6.1) -> Devices:
    return Devices(
        (
            DeviceMemory(
                name="RTX 4060",
                index=0,
                kind="gpu",
                total_bytes=8 * GIB,
                used_bytes=int(used * GIB),
                ours_bytes=int((used - 2.0) * GIB),
                ours_is_estimate=False,
                utilization_pct=61.0,
                memory_busy_pct=44.0,
                power_w=72.0,
                temperature_c=61.0,
                source="NVML",
            ),
        )
    )


def no_gpu() -> Devices:
    return Devices((), why_none="No GPU was found: NVML, the NVIDIA driver's library, is not installed.")


def snapshot(
    at_s: float = 100.0,
    *,
    devices: Devices | None = None,
    page_in: float | None = 38e6,
    stalls: float | None = 2.0,
    cached: float = 0.92,
    layers: int = LAYERS,
) -> Snapshot:
    """One reading; the last CPU layers are out of RAM."""
    layer_names = ("input", *(str(index) for index in range(layers)), "output")
    residency = []
    for index, name in enumerate(layer_names):
        on_gpu = devices is not None and index > ON_CPU
        share = {8: 0.4, 9: 0.0, 10: 0.0}.get(index, 1.0) if cached < 1 else 1.0
        residency.append(
            LayerResidency(
                name=name,
                bytes=150 * MIB,
                cached_bytes=int(share * 150 * MIB),
                reclaimed_bytes=60 * MIB if index in (9,) and cached < 1 else 0,
                where="device" if on_gpu else "mapped",
                device="CUDA0" if on_gpu else "CPU",
                age_s=0.3,
            )
        )
    return Snapshot(
        at_s=at_s,
        engine_pid=4242,
        devices=devices or no_gpu(),
        memory=Memory(
            total_bytes=32 * GIB,
            available_bytes=19 * GIB,
            limit_bytes=None,
            engine_rss_bytes=int(2.6 * GIB),
            engine_file_bytes=int(1.7 * GIB),
            engine_anon_bytes=int(0.9 * GIB),
            swap_used_bytes=0,
            cpu_pct=51.0,
            engine_cpu_pct=402.0,
        ),
        paging=Paging(
            interval_s=1.0,
            page_in_bytes_s=page_in,
            stalls_s=stalls,
            refault_bytes_s=1.2e6,
            refault_scope="cgroup",
            io_pressure_pct=3.4,
            memory_pressure_pct=0.0,
            pressure_scope="cgroup",
            disk_read_bytes_s=None if page_in is None else page_in * 1.1,
            disk="nvme0n1",
            missing=() if page_in is not None else (Missing("page_in_bytes_s", "/proc/4242/io may not be read"),),
        ),
        residency=Residency(
            path=LAPTOP.model,
            file_bytes=int(4.36 * GIB),
            method="cachestat",
            meaning="cached",
            layers=tuple(residency),
            file_cached_bytes=int(cached * 4.36 * GIB),
            cost_ms=2.1,
        ),
    )


def clock(token: int = 16) -> LayerClock:
    """Eleven layers in RAM at 2.9 ms, the rest on the GPU at 0.5 ms."""
    ms = tuple(
        0.1
        if name == "input"
        else 1.2
        if name == "output"
        else (2.9 + 0.3 * (index in (9, 10)))
        if index <= ON_CPU
        else 0.5
        for index, name in enumerate(names())
    )
    return LayerClock(
        token=token,
        total_ms=sum(ms),
        names=names(),
        ms=ms,
        devices=tuple(device_of(index) for index in range(len(ms))),
        page_in_bytes=(),
        stalls=tuple(2 if index in (9, 10) else 0 for index in range(len(ms))),
        ask_ms=0.3,
    )


def timing(n_output: int = 128, tpot: float = 41.0, cold: bool = False, depth: int = 1204) -> TurnTiming:
    return TurnTiming(
        ttft_ms=312.0,
        queue_ms=0.4,
        template_ms=1.8,
        prefill_ms=296.0,
        first_sample_ms=13.8,
        ttft_text_ms=None,
        tpot_ms=tpot,
        itl_ms=tuple(tpot + 6.0 * ((index * 7) % 5 - 2) / 2 for index in range(n_output - 1)),
        n_prompt=241,
        n_reused=0,
        n_output=n_output,
        depth=depth,
        kv_used=depth + n_output,
        n_ctx=8192,
        loop_cost_ms=0.12,
        n_probed=8,
        probe_cost_pct=0.4,
        cold=cold,
    )


VERDICT = Verdict(
    bound_by="RAM bandwidth",
    why="layers 0–10: 79 % of the token, at 46 of 48 GB/s",
    advice="4 more layers fit on the GPU: n_gpu_layers = 22, about 31 tok/s",
    reasoning=("The layers in RAM take 32.4 of 41.0 ms.", "They read 1.5 GB at 46 GB/s; the measured peak is 48 GB/s."),
)

QUESTION = "Why does decode slow down when half the layers are on the CPU?"

ANSWER = """Each token passes through every layer in turn, so a step takes the **sum** of both parts:

| part | bytes | bandwidth | time |
|------|------:|----------:|-----:|
| GPU | 2.6 GB | 272 GB/s | 9 ms |
| CPU | 1.5 GB | 48 GB/s | 32 ms |

So the eleven layers in RAM cost most of the time. Two things help:

1. put more layers on the GPU, with `n_gpu_layers`
2. take a smaller quant, so that each layer has fewer bytes

```python
def step_ms(parts: list[tuple[float, float]]) -> float:
    # bytes over bandwidth, summed: one after the other
    return sum(1000 * size / rate for size, rate in parts)
```
"""


def pieces(text: str) -> list[str]:
    """Text cut as tokens would cut it."""
    found: list[str] = []
    for word in text.split(" "):
        while len(word) > 5:
            found.append(word[:5])
            word = word[5:]
        found.append(word + " ")
    found[-1] = found[-1].removesuffix(" ")
    return found


def hello() -> messages.HostHello:
    return messages.HostHello(messages.PROTOCOL, "0.1.0", 4200, "box", "Linux 6.8")


LOST = Failure(
    "The engine ended by itself.",
    "It was killed by signal 9 (SIGKILL): somebody, or the kernel for want of memory, ended it.",
    "It is started again; the conversation goes on.",
)

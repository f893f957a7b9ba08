"""Samples made by hand: a box with three models in various states."""

from __future__ import annotations

from pagewise.readings import (
    MONITOR_SCHEMA,
    DeviceMemory,
    Devices,
    EngineReadings,
    HeldModel,
    LayerClock,
    LayerResidency,
    Memory,
    Missing,
    MonitorSample,
    Paging,
    Residency,
    ServerReadings,
    Verdict,
    WatchedModel,
)

GIB = 1 << 30
ESCAPE = "\x1b[31m"


def residency(share: float = 0.75, n_layer: int = 48) -> Residency:
    names = ("input", *map(str, range(n_layer)), "output")
    cached = int(share * len(names))
    return Residency(
        path="/models/Qwen3-30B-A3B-Q4_K_M.gguf",
        file_bytes=18 * GIB,
        method="cachestat",
        meaning="cached",
        layers=tuple(
            LayerResidency(
                name=name,
                bytes=GIB // 3,
                cached_bytes=GIB // 3 if index < cached else 0,
                reclaimed_bytes=0,
                where="mapped",
                device="",
                age_s=0.2,
            )
            for index, name in enumerate(names)
        ),
        file_cached_bytes=int(share * 18 * GIB),
        cost_ms=0.4,
    )


def held(name: str = "Qwen3 30B A3B", path: str = "/models/Qwen3-30B-A3B-Q4_K_M.gguf") -> HeldModel:
    return HeldModel(
        path=path,
        held="mapped",
        found_by=("mapping", "command line"),
        file="present",
        file_bytes=18 * GIB,
        mapped_bytes=18 * GIB,
        name=name,
        architecture="qwen3moe",
        quant="Q4_K_M",
        n_layer=48,
        n_ctx_train=40960,
    )


def server(**changes: object) -> ServerReadings:
    values: dict[str, object] = {
        "url": "http://127.0.0.1:8080",
        "kind": "llama-server",
        "age_s": 0.4,
        "decode_rate": 61.2,
        "decode_source": "slots",
        "prefill_rate": 812.0,
        "ttft_ms": 410.0,
        "ttft_is_estimate": True,
        "kv_used": 2800,
        "kv_size": 8192,
        "kv_pct": 34.2,
        "processing": 1,
        "waiting": 0,
        "model": "Qwen3-30B-A3B",
    }
    return ServerReadings(**{**values, **changes})  # type: ignore[arg-type]


def paging(page_in: float | None = 1.1e9) -> Paging:
    return Paging(
        interval_s=0.5,
        page_in_bytes_s=page_in,
        stalls_s=120.0,
        refault_bytes_s=2e6,
        refault_scope="cgroup",
        io_pressure_pct=61.0,
        memory_pressure_pct=3.0,
        pressure_scope="box",
        disk_read_bytes_s=1.2e9,
        disk="nvme0n1",
    )


def busy(share: float = 0.75) -> WatchedModel:
    return WatchedModel(
        pid=4121,
        started_ticks=1000,
        user="ada",
        program="llama-server",
        state="running",
        models=(held(),),
        rss_bytes=14 * GIB,
        file_bytes=13 * GIB,
        anon_bytes=GIB,
        swap_bytes=0,
        threads=18,
        cpu_pct=412.0,
        paging=paging(),
        residency=(residency(share),),
        vram_bytes=4 * GIB,
        server=server(),
        verdict=Verdict(
            "disk",
            "18 MB a token came from disk, and tasks waited for the disk 9.8 ms of its 16.3 ms.",
            "Choose a smaller quant: the file has 19.3 GB, and 12.0 GB of RAM are available to it.",
            ("18 MB a token came from disk.",),
        ),
    )


def own() -> WatchedModel:
    """An engine of pagewise whose host tells, in mid-reply."""
    names = ("input", *map(str, range(48)), "output")
    clock = LayerClock(
        token=34,
        total_ms=26.0,
        names=names,
        ms=(0.4, *[0.5] * 48, 1.2),
        devices=("CPU",) * 50,
        page_in_bytes=(),
        stalls=(0,) * 50,
        ask_ms=0.2,
        demand_bytes=(0, 4096, *[0] * 48),
        read_ahead_bytes=(0, 0, 8_000_000, *[0] * 47),
    )
    return WatchedModel(
        pid=7001,
        started_ticks=4000,
        user="ada",
        program="pagewise",
        state="running",
        models=(held(),),
        paging=paging(0.0),
        residency=(residency(),),
        engine=EngineReadings(
            pid=7001,
            state="generating",
            profile="default",
            model="Qwen3 30B A3B",
            n_ctx=4096,
            kv_used=312,
            n_output=40,
            decode_rate=42.5,
            tpot_ms=23.5,
            ttft_ms=80.0,
            itl_p95_ms=None,
            prefill_rate=None,
            probe_every=16,
            probe_cost_pct=0.4,
            clock=clock,
            clock_age_s=0.3,
            placement=(),
            verdict=None,
        ),
    )


def hidden() -> WatchedModel:
    why = "Its mappings may be read by its owner or by root alone: `sudo pagewise monitor --pid 5230`."
    return WatchedModel(
        pid=5230,
        started_ticks=2000,
        user="bob",
        program=f"ollama{ESCAPE}",
        state="running",
        models=(held(f"gemma{ESCAPE} 12b", f"/blobs/sha256-{ESCAPE}7"),),
        rss_bytes=None,
        missing=(Missing("mappings", why), Missing("server", "its sockets may be read by its owner or by root alone")),
    )


def ended() -> WatchedModel:
    return WatchedModel(
        pid=6011,
        started_ticks=3000,
        user="ada",
        program="pagewise",
        state="ended",
        models=(held("Llama 70B"),),
        missing=(Missing("process", "It has ended."),),
    )


def sample(*models: WatchedModel, share: float = 0.75, device: bool = False) -> MonitorSample:
    gpu = DeviceMemory("RTX 4060", 0, "gpu", 8 * GIB, 6 * GIB, 0, False, 71.0, 40.0, 88.0, 61.0, "NVML")
    return MonitorSample(
        schema=MONITOR_SCHEMA,
        time_s=1.7e9,
        interval_s=0.5,
        hostname="gpu01",
        system="Linux 6.8",
        models=models or (busy(share), hidden(), ended()),
        devices=Devices((gpu,)) if device else Devices((), "There is no NVML: this machine has no NVIDIA driver."),
        memory=Memory(32 * GIB, 12 * GIB, None, None, None, None, 0, 51.0, None),
        scan_age_s=1.5,
        cost_ms=2.2,
        missing=(Missing("models", "3 processes could not be looked into: that takes root, or CAP_SYS_PTRACE."),),
    )

"""Every reading, as frozen Structs with units in the field names. Imports nothing but msgspec.

A value that is not known is ``None`` and its reason stands beside it; it is never 0.
"""

from __future__ import annotations

from typing import Literal

from msgspec import Struct

DeviceKind = Literal["gpu", "igpu", "cpu", "accelerator"]
Where = Literal["mapped", "copied", "device", "unknown"]
"""Where a layer's weights are: pages of the file's mapping, private memory (repacked or read), or a device's memory."""


class Missing(Struct, frozen=True):
    """Why a metric has no value: ``metric`` is the field's name, ``why`` one plain sentence."""

    metric: str
    why: str


class BufferBytes(Struct, frozen=True):
    """Bytes that llama.cpp holds in one buffer type, by kind."""

    device: str
    """ggml's device name, such as ``CPU`` or ``CUDA0``."""
    buffer: str
    """ggml's buffer type name, such as ``CPU_Mapped``, ``CPU_REPACK``, ``CUDA0``."""
    kind: Literal["weights", "kv", "compute", "output"]
    bytes: int


class LayerPlacement(Struct, frozen=True):
    """Where one layer's weights were put by llama.cpp, read from its buffers and not from the request."""

    name: str
    """``input``, the layer's number, or ``output``."""
    device: str
    where: Where
    mapped_bytes: int
    copied_bytes: int
    device_bytes: int


class DeviceMemory(Struct, frozen=True):
    """One accelerator's memory in bytes, and what its driver says of its work."""

    name: str
    index: int
    kind: DeviceKind
    total_bytes: int | None
    used_bytes: int | None
    ours_bytes: int | None
    ours_is_estimate: bool
    utilization_pct: float | None
    memory_busy_pct: float | None
    power_w: float | None
    temperature_c: float | None
    source: str
    """``NVML``, ``sysfs``; ``ggml``: memory alone, told by the engine after each load and reply."""
    missing: tuple[Missing, ...] = ()
    power_limit_w: float | None = None
    energy_j: float | None = None
    """Since the driver was loaded."""
    sm_clock_mhz: float | None = None
    sm_clock_max_mhz: float | None = None
    memory_clock_mhz: float | None = None
    held_back: tuple[str, ...] | None = None
    """Why its clocks are lower than they could be; empty: nothing holds them back, or it is idle."""
    dram_bytes_s: float | None = None
    """Read and written by the device in its own memory, over the time since the former sample (GPM)."""
    dram_peak_bytes_s: float | None = None
    """What its memory can move at best: bus width × highest clock."""
    pcie_rx_bytes_s: float | None = None
    """To the device, over 20 ms."""
    pcie_tx_bytes_s: float | None = None
    """From the device, over 20 ms."""
    pcie_peak_bytes_s: float | None = None
    """What the link carries in one direction as it is now; an idle one may have been slowed down."""
    pci: str = ""
    """Its PCI address, such as ``0000:c1:00.0``; empty where it is not known, or it is a part of a divided device."""
    ggml: str = ""
    """What llama.cpp calls it, such as ``CUDA0``; empty where the engine has not told."""

    def is_called(self, name: str) -> bool:
        """Whether this is the device that llama.cpp calls ``name``: by the engine's word, else by kind and number."""
        if self.ggml:
            return self.ggml == name
        kinds = _GGML_KINDS.get(self.source, ())
        return any(name == f"{kind}{self.index}" for kind in kinds)


_GGML_KINDS = {"NVML": ("CUDA", "Vulkan"), "sysfs": ("ROCm", "HIP", "Vulkan")}


class GgmlDevice(Struct, frozen=True):
    """An accelerator as ggml sees it from inside the engine, in bytes."""

    name: str
    """Such as ``CUDA0``, ``Vulkan0``, ``MTL0``."""
    description: str
    kind: DeviceKind
    pci: str
    """Empty where ggml does not know it."""
    total_bytes: int
    free_bytes: int
    ours_bytes: int
    """Llama.cpp's own buffers there."""


class TurnEnergy(Struct, frozen=True):
    """What the devices that hold the model drew from a turn's first token to its end, whoever else used them."""

    joules: float
    seconds: float
    tokens: int
    """Output tokens in that time: all but the first."""
    source: Literal["energy counter", "power × time"]
    """``power × time`` is an estimate: the mean of the power that was read meanwhile."""

    @property
    def per_token_j(self) -> float:
        """Joules for one output token."""
        return self.joules / self.tokens


class Devices(Struct, frozen=True):
    """All accelerators, or the reason why there is none to show."""

    devices: tuple[DeviceMemory, ...]
    why_none: str | None = None


class Memory(Struct, frozen=True):
    """RAM of the box and of the engine process, in bytes."""

    total_bytes: int
    available_bytes: int
    limit_bytes: int | None
    """The memory limit of our cgroup, if there is one below the box's RAM."""
    engine_rss_bytes: int | None
    engine_file_bytes: int | None
    engine_anon_bytes: int | None
    swap_used_bytes: int
    cpu_pct: float | None
    """CPU of the box over the last interval, in per cent of all cores."""
    engine_cpu_pct: float | None
    """CPU of the engine over the last interval, in per cent of one core."""


class Paging(Struct, frozen=True):
    """Page-ins of the engine over the last interval. Rates are per second over ``interval_s``."""

    interval_s: float
    page_in_bytes_s: float | None
    """Difference of ``read_bytes`` of ``/proc/PID/io``."""
    stalls_s: float | None
    """Major faults a second: an event count, never converted to bytes."""
    refault_bytes_s: float | None
    refault_scope: str
    """``cgroup`` or ``box``."""
    io_pressure_pct: float | None
    memory_pressure_pct: float | None
    pressure_scope: str
    disk_read_bytes_s: float | None
    disk: str | None
    missing: tuple[Missing, ...] = ()


class LayerResidency(Struct, frozen=True):
    """Page-cache state of one layer's byte ranges in the model file."""

    name: str
    bytes: int
    cached_bytes: int | None
    reclaimed_bytes: int | None
    """Dropped by the kernel's reclaim (``cachestat`` evicted); None where the method cannot tell."""
    where: Where
    device: str
    age_s: float


class Residency(Struct, frozen=True):
    """Residency of the model file, one entry a layer plus ``input`` and ``output``, in file order of layers."""

    path: str
    file_bytes: int
    method: str
    """``cachestat``, ``pagemap scan``, ``mincore``, ``pagemap``, ``RssFile``: what the cells are made from."""
    meaning: Literal["cached", "mapped"]
    """``cached``: in the page cache; ``mapped``: mapped by the process, where only that can be known."""
    layers: tuple[LayerResidency, ...]
    file_cached_bytes: int | None
    cost_ms: float
    missing: tuple[Missing, ...] = ()


class Snapshot(Struct, frozen=True):
    """One sample of everything the host reads from outside, at one moment of the host's clock."""

    at_s: float
    """Seconds on the host's monotonic clock."""
    engine_pid: int | None
    devices: Devices
    memory: Memory
    paging: Paging | None
    residency: Residency | None


class LayerClock(Struct, frozen=True):
    """One probed token: what each layer took. Times are upper bounds, since the probe synchronizes after each layer."""

    token: int
    """Which output token of the turn was probed, from 0."""
    total_ms: float
    names: tuple[str, ...]
    """``input``, ``0`` … ``n-1``, ``output``."""
    ms: tuple[float, ...]
    devices: tuple[str, ...]
    page_in_bytes: tuple[int, ...]
    """Growth of the layer's cached pages during the token, of a streamed layer what was read; empty where it is not
    counted."""
    stalls: tuple[int, ...]
    """Major faults of the computing threads during each layer."""
    ask_ms: float
    """Time spent in Python inside the callback: part of the probe's own cost."""
    experts: tuple[tuple[int, ...], ...] = ()
    """For each of ``names``, the experts that the router chose for this token; empty where the layer has no router."""
    n_expert: int = 0
    """Experts of a layer; 0: the model is no mixture, or its choices cannot be read."""
    demand_bytes: tuple[int, ...] = ()
    """Read from disk by the computing threads during each layer: what they touched and was not there, with what the
    kernel read around it; empty where it is not known."""
    read_ahead_bytes: tuple[int, ...] = ()
    """Read from disk for each layer by the threads that stream the model, during the token; empty where it is not
    known."""

    @property
    def demand_total(self) -> int | None:
        """Bytes that the token waited for; None where it is not known."""
        return sum(self.demand_bytes) if self.demand_bytes else None

    @property
    def read_ahead_total(self) -> int | None:
        """Bytes that were read ahead while it ran; None where it is not known."""
        return sum(self.read_ahead_bytes) if self.read_ahead_bytes else None


class TurnTiming(Struct, frozen=True):
    """When each part of a turn happened; all durations by the engine's one clock. Defined in docs/numbers.md."""

    ttft_ms: float | None
    queue_ms: float
    template_ms: float
    """Chat template and tokenizer."""
    prefill_ms: float
    first_sample_ms: float | None
    ttft_text_ms: float | None
    tpot_ms: float | None
    """Mean of ``counted_ms``: (t_last − t_first) / (n_output − 1) where no token was profiled."""
    itl_ms: tuple[float, ...]
    """Every gap between consecutive output tokens, in order."""
    n_prompt: int
    n_reused: int
    """Prompt tokens found in the KV cache."""
    n_output: int
    depth: int | None
    """KV fill at the first output token."""
    kv_used: int
    n_ctx: int
    loop_cost_ms: float | None
    """Median over tokens of step time minus time inside llama.cpp calls."""
    n_probed: int
    probe_cost_pct: float | None
    cold: bool
    """The first turn after a load: never averaged with warm ones."""
    reuse_note: str = ""
    """Why nothing, or less than the common prefix, was reused."""
    profiled: tuple[int, ...] = ()
    """Output tokens, from 0, that were computed node by node for an operator profile: they are in no rate."""

    @property
    def prefill_rate(self) -> float | None:
        """Prompt tokens really evaluated per second; None if nothing was evaluated."""
        evaluated = self.n_prompt - self.n_reused
        return 1000.0 * evaluated / self.prefill_ms if evaluated > 0 and self.prefill_ms > 0 else None

    @property
    def decode_rate(self) -> float | None:
        """Output tokens per second, 1000 / TPOT."""
        return 1000.0 / self.tpot_ms if self.tpot_ms else None

    @property
    def counted_ms(self) -> tuple[float, ...]:
        """The gaps that count: all but those that end with a profiled token. Token n ends gap n − 1."""
        if not self.profiled:
            return self.itl_ms
        left_out = {token - 1 for token in self.profiled}
        return tuple(gap for index, gap in enumerate(self.itl_ms) if index not in left_out)

    def itl_percentile(self, q: float) -> float | None:
        """The q-th percentile (0 to 100) of the gaps that count, by linear interpolation; None without such gaps."""
        return percentile(self.counted_ms, q)


def percentile(values: tuple[float, ...] | list[float], q: float) -> float | None:
    """The q-th percentile (0 to 100) by linear interpolation between closest ranks; None of nothing."""
    if not values:
        return None
    ordered = sorted(values)
    position = (len(ordered) - 1) * q / 100.0
    low = int(position)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (ordered[high] - ordered[low]) * (position - low)


class StreamedLayer(Struct, frozen=True, array_like=True):
    """What of one layer's mapped weights stays in memory; ``kept_bytes`` of ``bytes``."""

    name: str
    bytes: int
    kept_bytes: int
    """Of a mixture also the experts that are there now."""


class CurvePoint(Struct, frozen=True, array_like=True):
    """With ``memory_bytes`` for the file a token is predicted to take ``token_ms``."""

    memory_bytes: int
    token_ms: float


class Streaming(Struct, frozen=True):
    """What of the mapped weights stays in memory, and what is read again because it does not fit."""

    kept_bytes: int
    streamed_bytes: int
    """0: all of it stays."""
    window_bytes: int
    """Room for what is streamed: the layer in hand, and what is read ahead of it."""
    room_bytes: int
    """What the file may have of memory, as it was measured last."""
    needed_bytes: int
    """What the file needs to stay whole."""
    layers: tuple[StreamedLayer, ...]
    ahead: tuple[str, ...]
    """Layers of which streamed weights were in memory, or on their way, at this moment."""
    bandwidth_bytes_s: float | None
    """Of the disk while it was read from; None before it was."""
    token_ms: float | None
    """Inside llama.cpp, over the last tokens."""
    waited_ms: float | None
    """The part of it that the disk was waited for."""
    missed_pct: float | None
    """Of the experts that routers chose, those that were not in memory; None: no mixture, or none chosen yet."""
    curve: tuple[CurvePoint, ...]
    """The time of a token against memory, from the figures above; empty while they are not known."""
    locked: bool = False
    """Whether what is kept is locked in memory."""


class Verdict(Struct, frozen=True):
    """What bounds a token of the last reply, with the figures that say so and the one change that would help most."""

    bound_by: str
    """``RAM bandwidth``, ``VRAM bandwidth``, ``disk``, ``compute / threads``, ``PCIe``, ``sync / launch``, ``host``,
    ``other tenant``, ``unclear``."""
    why: str
    advice: str
    reasoning: tuple[str, ...] = ()
    """The whole chain, one sentence a step."""


# ---- the monitor: models in other processes --------------------------------------------------------------------------

MONITOR_SCHEMA = 1
"""Version of MonitorSample as JSON; grows with every change that a reader of the former one would stumble over."""

Held = Literal["mapped", "copied", "unknown"]
"""How a process holds a file: in its address space, as a private copy, or in a way that cannot be seen from outside."""


class HeldModel(Struct, frozen=True):
    """One model file that a process holds (the parts of a split model together), and what its header says."""

    path: str
    """As the process names it, of a split model the first part; safe to print."""
    held: Held
    found_by: tuple[str, ...]
    """``mapping``, ``open file``, ``command line``, ``--file``."""
    file: Literal["present", "deleted", "replaced", "unreadable"]
    """``deleted``, ``replaced``: the process still holds the former file, which is the one that is read here."""
    file_bytes: int | None
    mapped_bytes: int | None
    """Bytes of the file in the process's address space, whether in RAM or not."""
    name: str
    architecture: str
    quant: str
    n_layer: int | None
    n_ctx_train: int | None
    missing: tuple[Missing, ...] = ()


class ServerReadings(Struct, frozen=True):
    """What a server says of itself over HTTP. Rates are over the time between two answers."""

    url: str
    kind: str
    """``llama-server``, ``Ollama``, ``vLLM``, ``SGLang``; empty while it is not known."""
    age_s: float
    """Since the last answer, or since the first question where there was none."""
    decode_rate: float | None = None
    """Output tokens a second, of all requests together."""
    decode_source: str = ""
    """What it is made from: ``slots`` (growth of what runs), ``counters`` (between two answers), ``gauge``."""
    prefill_rate: float | None = None
    """Prompt tokens evaluated a second, by the server's own counters."""
    ttft_ms: float | None = None
    ttft_is_estimate: bool = False
    """Seen from outside, by asking again and again: right to one interval between two answers."""
    kv_used: int | None = None
    kv_size: int | None = None
    """Tokens in the KV cache, and how many it can hold."""
    kv_pct: float | None = None
    processing: int | None = None
    """Requests being answered."""
    waiting: int | None = None
    """Requests that wait for a free place."""
    model: str = ""
    vram_bytes: int | None = None
    """Where the server tells it (Ollama)."""
    missing: tuple[Missing, ...] = ()


class EngineReadings(Struct, frozen=True):
    """What only an engine of pagewise knows of itself, as its host tells it. Defined in docs/numbers.md."""

    pid: int
    """The engine's, as its host sees it: inside a container another number than outside."""
    state: str
    """``ready``, ``generating``, …, as in EngineStatus."""
    profile: str
    model: str
    n_ctx: int
    kv_used: int | None
    """Tokens in the KV cache; None before the first turn."""
    n_output: int
    """Output tokens of the turn in hand, else of the last one; so are the figures below."""
    decode_rate: float | None
    tpot_ms: float | None
    ttft_ms: float | None
    itl_p95_ms: float | None
    """Of a turn that is over; None while it runs."""
    prefill_rate: float | None
    probe_every: int
    probe_cost_pct: float | None
    clock: LayerClock | None
    """The layers of the token that was probed last."""
    clock_age_s: float | None
    placement: tuple[LayerPlacement, ...]
    """Where its layers are, by llama.cpp's own buffers."""
    verdict: Verdict | None
    """On the last turn."""
    missing: tuple[Missing, ...] = ()

    @property
    def generating(self) -> bool:
        """Whether a turn is in hand."""
        return self.state == "generating"

    @property
    def kv_pct(self) -> float | None:
        """How full the KV cache is."""
        return None if self.kv_used is None or not self.n_ctx else 100.0 * self.kv_used / self.n_ctx


class WatchedModel(Struct, frozen=True):
    """A process with the models it holds; or a file, or a server, that no process is known of."""

    pid: int | None
    started_ticks: int | None
    """With ``pid`` it names one process for ever: clock ticks from boot to its start."""
    user: str
    program: str
    """``llama-server``, ``Ollama``, ``LM Studio``, ``pagewise``, or the name of the executable."""
    state: Literal["running", "ended", "none"]
    """``ended`` is said once; ``none``: there is no process."""
    models: tuple[HeldModel, ...]
    """The largest first."""
    rss_bytes: int | None = None
    file_bytes: int | None = None
    anon_bytes: int | None = None
    swap_bytes: int | None = None
    threads: int | None = None
    cpu_pct: float | None = None
    """Over the last interval, in per cent of one core."""
    paging: Paging | None = None
    residency: tuple[Residency, ...] = ()
    """One for each of ``models`` that can be read, in the same order."""
    vram_bytes: int | None = None
    server: ServerReadings | None = None
    verdict: Verdict | None = None
    missing: tuple[Missing, ...] = ()
    engine: EngineReadings | None = None
    """Where it is an engine of pagewise whose host tells."""

    @property
    def decode_rate(self) -> float | None:
        """Output tokens a second now; 0: it is idle."""
        if self.engine is not None:
            return self.engine.decode_rate if self.engine.generating else 0.0
        return self.server.decode_rate if self.server is not None else None

    @property
    def ttft_ms(self) -> float | None:
        """Time to the first token of the last request."""
        if self.engine is not None:
            return self.engine.ttft_ms
        return self.server.ttft_ms if self.server is not None else None

    @property
    def ttft_is_estimate(self) -> bool:
        """Whether it was seen from outside."""
        return self.engine is None and self.server is not None and self.server.ttft_is_estimate

    @property
    def kv_pct(self) -> float | None:
        """How full the KV cache is."""
        if self.engine is not None:
            return self.engine.kv_pct
        return self.server.kv_pct if self.server is not None else None


class MonitorSample(Struct, frozen=True):
    """Everything that the monitor read at one moment. As JSON it is one line; described in docs/monitor.md."""

    schema: int
    time_s: float
    """Seconds since 1970, by the box's clock."""
    interval_s: float
    """Since the former sample; 0: this is the first, and there are no rates yet."""
    hostname: str
    system: str
    models: tuple[WatchedModel, ...]
    devices: Devices
    memory: Memory
    scan_age_s: float
    """Since the processes of the box were last gone through."""
    cost_ms: float
    """CPU time that this sample took, gone through or not."""
    missing: tuple[Missing, ...] = ()


# ---- the profiler ----------------------------------------------------------------------------------------------------


class GraphNode(Struct, frozen=True, array_like=True):
    """One node of the graph of one token, as it was computed by itself."""

    operator: str
    """ggml's name of the operator, such as ``MUL_MAT``."""
    name: str
    """llama.cpp's name of the result, such as ``Qcur-3``."""
    layer: str
    """``input``, the layer's number, or ``output``."""
    device: str
    tensor: str
    """The weights that it reads, such as ``blk.3.attn_q.weight``; empty where it reads none."""
    type: str
    """ggml's type of what it reads most of, such as ``q4_K``."""
    bytes: int
    """Read and written: of experts and rows those that were used."""
    ms: float


class OperatorProfile(Struct, frozen=True):
    """One token, computed node by node. Each node was waited for, so that its time is an upper bound."""

    token: int
    """Which output token of the turn it was, from 0."""
    depth: int
    """Tokens in the KV cache before it."""
    step_ms: float
    """What this token took."""
    usual_ms: float | None
    """Median of the tokens around it, which were not profiled; None where there were none."""
    nodes: tuple[GraphNode, ...]
    idle_node_ms: float | None
    """Median time of the nodes that compute nothing (views): what asking for a node costs by itself."""


class StackProfile(Struct, frozen=True):
    """Stacks of one process, sampled."""

    pid: int
    program: str
    tool: str
    """``py-spy`` or ``perf``."""
    rate_hz: int
    seconds: float
    native: bool
    """Whether frames of native code are among them."""
    folded: str
    """One stack a line, root first, frames joined by ``;``, behind them a blank and the number of samples."""
    unseen_threads: int | None
    """Threads that ran on a core meanwhile and that the tool cannot see."""
    unseen_cores: float | None
    """How many cores these kept busy."""
    notes: tuple[str, ...] = ()

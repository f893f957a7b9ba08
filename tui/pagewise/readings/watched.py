"""The monitor: models in other processes, and what our own engine tells of itself."""

from __future__ import annotations

from typing import Literal

from msgspec import Struct

from pagewise.readings.devices import Devices, LayerPlacement, Missing
from pagewise.readings.memory import Memory, Paging, Residency
from pagewise.readings.turn import LayerClock, Verdict

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

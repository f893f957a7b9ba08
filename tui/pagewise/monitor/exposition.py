"""A sample in Prometheus' text format (version 0.0.4). What is not known is left out, never written as 0."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from pagewise.readings import DeviceMemory, LayerClock, MonitorSample, WatchedModel

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_PREFIX = "pagewise_"


class _Family(NamedTuple):
    name: str
    help: str
    points: list[tuple[dict[str, str], float]]


def exposition(sample: MonitorSample) -> str:
    """The whole page."""
    families: dict[str, _Family] = {}

    def point(name: str, help: str, labels: dict[str, str], value: float | None) -> None:
        family = families.setdefault(name, _Family(name, help, []))
        if value is not None:
            family.points.append((labels, float(value)))

    point("sample_time_seconds", "When this was read, in seconds since 1970.", {}, sample.time_s)
    point("sample_cost_seconds", "CPU time that the sample took.", {}, sample.cost_ms / 1000.0)
    memory = sample.memory
    point("box_memory_total_bytes", "RAM of the box.", {}, memory.total_bytes)
    point("box_memory_available_bytes", "RAM that is available.", {}, memory.available_bytes)
    point("box_memory_limit_bytes", "RAM that the control group of the monitor may have.", {}, memory.limit_bytes)
    point("box_swap_used_bytes", "Swapped out, of the box.", {}, memory.swap_used_bytes)
    point("box_cpu_percent", "CPU of the box in use, 100 for all cores.", {}, memory.cpu_pct)
    for device in sample.devices.devices:
        labels = {"device": str(device.index), "name": device.name}
        point("device_memory_total_bytes", "Memory of the device.", labels, device.total_bytes)
        point("device_memory_used_bytes", "Memory of the device that is in use.", labels, device.used_bytes)
        point("device_utilization_percent", "Time in which the device was busy.", labels, device.utilization_pct)
        for name, help, value in _of_device(device):
            point(name, help, labels, value)
        for direction, traffic in (("to", device.pcie_rx_bytes_s), ("from", device.pcie_tx_bytes_s)):
            directed = {**labels, "direction": direction}
            point("device_pcie_bytes_per_second", "Traffic to and from the device, over 20 ms.", directed, traffic)
        for reason in device.held_back or ():
            held = {**labels, "reason": reason}
            point("device_clocks_held_back", "1 while something holds the device's clocks back.", held, 1.0)
    for model in sample.models:
        for name, help, labels, value in _points(model):
            point(name, help, labels, value)
    return "".join(_written(family) for family in families.values() if family.points)


def _of_device(device: DeviceMemory) -> Iterator[tuple[str, str, float | None]]:
    yield "device_memory_busy_percent", "Time in which the device's memory was in use.", device.memory_busy_pct
    yield "device_power_watts", "Power that the device draws.", device.power_w
    yield "device_power_limit_watts", "Power that it may draw.", device.power_limit_w
    yield "device_energy_joules", "Energy since its driver was loaded.", device.energy_j
    yield "device_temperature_celsius", "Temperature of the device.", device.temperature_c
    yield "device_sm_clock_hertz", "Clock of its multiprocessors.", _hertz(device.sm_clock_mhz)
    yield "device_sm_clock_max_hertz", "The highest clock of its multiprocessors.", _hertz(device.sm_clock_max_mhz)
    yield "device_memory_clock_hertz", "Clock of its memory.", _hertz(device.memory_clock_mhz)
    yield "device_dram_bytes_per_second", "Moved by its own memory (GPM).", device.dram_bytes_s
    yield "device_dram_peak_bytes_per_second", "What its memory can move at best.", device.dram_peak_bytes_s
    yield "device_pcie_peak_bytes_per_second", "What its link carries in one direction.", device.pcie_peak_bytes_s


def _hertz(mhz: float | None) -> float | None:
    return None if mhz is None else 1e6 * mhz


def _seconds(ms: float | None) -> float | None:
    return None if ms is None else ms / 1000.0


def _points(model: WatchedModel) -> Iterator[tuple[str, str, dict[str, str], float | None]]:
    main = model.models[0] if model.models else None
    labels = {
        "pid": "" if model.pid is None else str(model.pid),
        "program": model.program,
        "model": (main.name or main.path.rpartition("/")[2]) if main else (model.server.model if model.server else ""),
    }
    yield "model_up", "1 while the process runs.", labels, 1.0 if model.state == "running" else 0.0
    for held in model.models:
        told = {"path": held.path, "quant": held.quant, "architecture": held.architecture, "held": held.held}
        yield "model_info", "1 for each file that the process holds.", {**labels, **told, "file": held.file}, 1.0
    if model.verdict is not None:
        yield "bound_by", "1 for what bounds its tokens.", {**labels, "bound_by": model.verdict.bound_by}, 1.0
    yield "process_swap_bytes", "Swapped out, of the process.", labels, model.swap_bytes
    yield "process_resident_bytes", "RAM of the process.", labels, model.rss_bytes
    yield "process_file_bytes", "RAM of the process that is pages of files.", labels, model.file_bytes
    yield "process_private_bytes", "RAM of the process that is its own.", labels, model.anon_bytes
    yield "process_threads", "Threads of the process.", labels, model.threads
    yield "process_cpu_percent", "CPU of the process, 100 for one core.", labels, model.cpu_pct
    yield "process_device_memory_bytes", "Device memory of the process.", labels, model.vram_bytes
    if model.paging is not None:
        paging = model.paging
        yield "page_in_bytes_per_second", "Bytes read from disk for the process.", labels, paging.page_in_bytes_s
        yield "stalls_per_second", "Page faults that waited for the disk.", labels, paging.stalls_s
        refaults = {**labels, "scope": paging.refault_scope}
        yield "refault_bytes_per_second", "Bytes read again after reclaim.", refaults, paging.refault_bytes_s
        waited = {**labels, "scope": paging.pressure_scope}
        yield "io_pressure_percent", "Time in which a task waited for the disk.", waited, paging.io_pressure_pct
        yield "memory_pressure_percent", "Time in which a task waited for memory.", waited, paging.memory_pressure_pct
        disk = {**labels, "disk": paging.disk or ""}
        yield "disk_read_bytes_per_second", "Read by all from the file's disk.", disk, paging.disk_read_bytes_s
    for residency in model.residency:
        file = {**labels, "file": residency.path, "meaning": residency.meaning}
        yield "file_bytes", "Size of the model's files.", file, residency.file_bytes
        yield "file_resident_bytes", "Bytes of the model's files in RAM.", file, residency.file_cached_bytes
        for layer in residency.layers:
            named = {**file, "layer": layer.name}
            yield "layer_bytes", "Size of the layer's weights.", named, layer.bytes
            yield "layer_resident_bytes", "Bytes of the layer in RAM.", named, layer.cached_bytes
            yield "layer_reclaimed_bytes", "Bytes of the layer that reclaim took.", named, layer.reclaimed_bytes
    if model.engine is not None:
        engine = model.engine
        ttft, tpot, itl = (_seconds(ms) for ms in (engine.ttft_ms, engine.tpot_ms, engine.itl_p95_ms))
        yield "time_per_output_token_seconds", "TPOT of the reply in hand, else the last.", labels, tpot
        yield "inter_token_latency_p95_seconds", "95th percentile of the gaps between its tokens.", labels, itl
        yield "probe_cost_percent", "What the layer probe cost.", labels, engine.probe_cost_pct
        yield "decode_tokens_per_second", "Output tokens a second.", labels, model.decode_rate
        yield "prefill_tokens_per_second", "Prompt tokens evaluated a second.", labels, engine.prefill_rate
        exact = {**labels, "estimate": "false"}
        yield "time_to_first_token_seconds", "TTFT of the last requests.", exact, ttft
        yield "kv_cache_tokens", "Tokens in the KV cache.", labels, engine.kv_used
        yield "kv_cache_size_tokens", "Tokens that the KV cache can hold.", labels, engine.n_ctx
        if engine.clock is not None:
            for name, ms in zip(engine.clock.names, engine.clock.ms, strict=False):
                took = {**labels, "layer": name}
                yield "layer_seconds", "Time of the layer in the token that was probed last.", took, ms / 1000.0
            yield from _read_from_disk(engine.clock, labels)
    elif model.server is not None:
        server = model.server
        asked = {**labels, "url": server.url}
        yield "decode_tokens_per_second", "Output tokens a second.", asked, server.decode_rate
        yield "prefill_tokens_per_second", "Prompt tokens evaluated a second.", asked, server.prefill_rate
        estimated = {**asked, "estimate": "true" if server.ttft_is_estimate else "false"}
        ttft = _seconds(server.ttft_ms)
        yield "server_answer_age_seconds", "Since the server answered last.", asked, server.age_s
        yield "time_to_first_token_seconds", "TTFT of the last requests.", estimated, ttft
        yield "kv_cache_tokens", "Tokens in the KV cache.", asked, server.kv_used
        yield "kv_cache_size_tokens", "Tokens that the KV cache can hold.", asked, server.kv_size
        yield "requests_processing", "Requests being answered.", asked, server.processing
        yield "requests_waiting", "Requests that wait.", asked, server.waiting


def _read_from_disk(
    clock: LayerClock, labels: dict[str, str]
) -> Iterator[tuple[str, str, dict[str, str], float | None]]:
    for kind, sizes in (("demand", clock.demand_bytes), ("read-ahead", clock.read_ahead_bytes)):
        for name, size in zip(clock.names, sizes, strict=False):
            named = {**labels, "layer": name, "kind": kind}
            yield "layer_read_bytes", "Read from disk for the layer in the token that was probed last.", named, size


def _written(family: _Family) -> str:
    name = _PREFIX + family.name
    lines = [f"# HELP {name} {family.help}\n# TYPE {name} gauge\n"]
    lines += [f"{name}{_labels(labels)} {_number(value)}\n" for labels, value in family.points]
    return "".join(lines)


def _labels(labels: dict[str, str]) -> str:
    if not labels:
        return ""
    return "{" + ",".join(f'{name}="{_escaped(value)}"' for name, value in labels.items()) + "}"


def _escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


def _number(value: float) -> str:
    return str(int(value)) if value == int(value) else repr(value)

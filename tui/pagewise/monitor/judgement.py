"""What bounds a model that is watched from outside, where what can be seen is enough to say so."""

from __future__ import annotations

import os

from pagewise.instruments.system import physical_cores
from pagewise.readings import Memory, Missing, Paging, ServerReadings, Verdict
from pagewise.verdict.disk_peak import known_disk_peak
from pagewise.verdict.evidence import Evidence, Tier
from pagewise.verdict.roofline import known_peak
from pagewise.verdict.rules import FEW_TOKENS, judge

_NOTHING_BYTES_S = 1e6
_MOSTLY_WAITING_PCT = 50.0


def verdict_of(
    paging: Paging | None,
    server: ServerReadings | None,
    memory: Memory,
    cpu_pct: float | None,
    threads: int | None,
    token_bytes: int,
    file_bytes: int,
    in_ram: bool,
) -> Verdict | Missing:
    """The verdict, or why there is none. ``threads``: of its command line; ``in_ram``: no device can hold weights."""
    rate = server.decode_rate if server else None
    disk_peak = known_disk_peak(paging.disk) if paging is not None and paging.disk else None
    if rate:
        return _of_tokens(rate, paging, memory, cpu_pct, threads, token_bytes, file_bytes, in_ram, disk_peak)
    waiting = _waiting_for_disk(paging, memory, file_bytes, disk_peak)
    if waiting is not None:
        return waiting
    if rate == 0:
        return Missing("verdict", "It is idle: a token must be on its way for something to bound it.")
    why = "no server of it was found" if server is None else f"{server.url} does not tell how fast tokens come"
    return Missing("verdict", f"Tokens cannot be counted from outside: {why}.")


def _of_tokens(
    rate: float,
    paging: Paging | None,
    memory: Memory,
    cpu_pct: float | None,
    threads: int | None,
    token_bytes: int,
    file_bytes: int,
    in_ram: bool,
    disk_peak: float | None,
) -> Verdict:
    tpot_ms = 1000.0 / rate
    threads = threads or physical_cores()
    tiers: tuple[Tier, ...] = ()
    if in_ram and token_bytes:
        peak = known_peak(threads)
        why = "" if peak else f"`pagewise` measures it when it loads a model with {threads} threads and has time"
        tiers = (Tier("RAM", "all layers", tpot_ms, token_bytes, peak, why),)
    page_in = paging.page_in_bytes_s if paging else None
    stalled = paging.io_pressure_pct if paging else None
    cores = None if cpu_pct is None else cpu_pct / 100.0
    box = None if memory.cpu_pct is None else memory.cpu_pct / 100.0 * (os.cpu_count() or 1)
    return judge(
        Evidence(
            # Several requests share the time of one token here: the rules are asked about the mean one.
            n_output=FEW_TOKENS,
            tpot_ms=tpot_ms,
            loop_cost_ms=None,
            tiers=tiers,
            why_no_tiers="Which layers live in RAM and which on a device cannot be seen from outside.",
            page_in_bytes=None if page_in is None else page_in / rate,
            io_stalled=None if stalled is None else stalled / 100.0,
            io_scope=paging.pressure_scope if paging else "box",
            threads=threads,
            physical_cores=physical_cores(),
            logical_cores=os.cpu_count() or 1,
            engine_cores=cores,
            other_cores=None if cores is None or box is None else max(0.0, box - cores),
            gpu_busy_pct=None,
            file_bytes=file_bytes,
            ram_available_bytes=memory.available_bytes,
            disk_peak_bytes_s=disk_peak,
        )
    )


def _waiting_for_disk(
    paging: Paging | None, memory: Memory, file_bytes: int, disk_peak: float | None
) -> Verdict | None:
    if paging is None or paging.page_in_bytes_s is None or paging.io_pressure_pct is None:
        return None
    if paging.page_in_bytes_s < _NOTHING_BYTES_S or paging.io_pressure_pct < _MOSTLY_WAITING_PCT:
        return None
    whose = "its control group" if paging.pressure_scope == "cgroup" else "the whole box"
    share = f" ({100 * paging.page_in_bytes_s / disk_peak:.0f} % of its measured peak)" if disk_peak else ""
    why = (
        f"It reads {paging.page_in_bytes_s / 1e6:.0f} MB/s from disk{share}, and tasks of {whose} waited for the disk "
        f"{paging.io_pressure_pct:.0f} % of the time."
    )
    if file_bytes > memory.available_bytes:
        advice = "The file is larger than the memory that is available: choose a smaller quant."
    else:
        advice = "It may still be loading; if it goes on, close other programs or choose a smaller quant."
    return Verdict("disk", why, advice, (why,))

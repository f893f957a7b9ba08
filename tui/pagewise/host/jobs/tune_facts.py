"""What the tuner knows of this machine and of the model in force, before anything is tried."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import psutil  # type: ignore[import-untyped]  # it ships no types

from pagewise.instruments.devices import DevicesInstrument
from pagewise.instruments.processor import processor_features, processor_name
from pagewise.instruments.system import physical_cores
from pagewise.jobs.tune import Aim
from pagewise.messages import ModelInfo
from pagewise.models.gguf import GgufError, read_header
from pagewise.models.split import read_parts
from pagewise.tuner.candidate import Candidate
from pagewise.tuner.facts import Device, Facts
from pagewise.tuner.ledger import machine_name
from pagewise.verdict.roofline import known_peak

_REPACKED = frozenset({"Q4_0", "Q4_K", "IQ4_NL", "Q2_K"})
_REPACKED_BY_AMX = frozenset({"F16", "Q4_0", "Q4_1", "Q8_0", "Q4_K", "Q5_K", "Q6_K", "IQ4_XS"})
_FEED_FORWARD = (".ffn_up.weight", ".ffn_gate.weight", ".ffn_down.weight")


def facts_of(
    model: ModelInfo,
    aim: Aim,
    pid: int | None,
    streamed_bytes: int | None = None,
    candidates: tuple[Candidate, ...] = (),
) -> Facts:
    """``pid``: the engine that holds the model. ``streamed_bytes``: by its plan; None: by what is free now."""
    seen = DevicesInstrument().sample(pid).devices
    available = int(psutil.virtual_memory().available) + sum(layer.copied_bytes for layer in model.placement)
    logical = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    path = Path(model.path)
    return Facts(
        physical_cores=physical_cores(),
        logical_cores=logical,
        devices=tuple(
            Device(
                device.name,
                None
                if device.total_bytes is None
                else device.total_bytes - (device.used_bytes or 0) + (device.ours_bytes or 0),
                device.dram_peak_bytes_s,
            )
            for device in seen
        ),
        n_layer=model.n_layer,
        is_mixture=_is_mixture(path),
        bytes_per_token=model.bytes_per_token,
        kv_bytes_at_depth=model.kv_bytes_per_token * aim.depth,
        repackable_bytes=_repackable(path),
        model_bytes=model.file_bytes,
        available_bytes=available,
        ram_peaks={count: peak for count in range(1, logical + 1) if (peak := known_peak(count)) is not None},
        streamed_bytes=max(0, model.file_bytes - available) if streamed_bytes is None else streamed_bytes,
        feed_forward_bytes=_feed_forward(path),
        n_params=model.n_params,
        candidates=candidates,
    )


def this_machine(facts: Facts) -> str:
    """Its name, under which trials are kept."""
    return machine_name(processor_name(), facts.logical_cores, tuple(device.name for device in facts.devices))


def _is_mixture(path: Path) -> bool:
    try:
        header = read_header(path)
    except GgufError:
        return False
    return bool(header.number("expert_count"))


def _repackable(path: Path) -> int:
    """Bytes of weights that llama.cpp would copy into another layout of this processor's."""
    kinds = _REPACKED | _REPACKED_BY_AMX if "amx_int8" in processor_features() else _REPACKED
    return _bytes_where(path, lambda name, kind: kind in kinds)


def _feed_forward(path: Path) -> int:
    return _bytes_where(path, lambda name, kind: name.endswith(_FEED_FORWARD))


def _bytes_where(path: Path, counts: Callable[[str, str], bool]) -> int:
    try:
        headers = read_parts(path)
    except GgufError:
        return 0
    return sum(tensor.bytes for header in headers for tensor in header.tensors if counts(tensor.name, tensor.type.name))

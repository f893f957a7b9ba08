"""llama.cpp's buffers by device and kind: from ggml where it says, from the load log elsewhere."""

from __future__ import annotations

import re
from typing import Literal, NamedTuple

from pagewise.engine.llamacpp import library
from pagewise.engine.llamacpp.context import Context, scheduler_of
from pagewise.models.kv_cache import kv_cache
from pagewise.readings import BufferBytes

_MIB = 1024 * 1024
_KINDS: dict[str, Literal["weights", "kv", "compute", "output"]] = {
    "model": "weights",
    "KV": "kv",
    "RS": "kv",
    "compute": "compute",
    "output": "output",
}
_BUFFER_LINE = re.compile(
    r":\s+(?P<name>\S+)\s+(?P<kind>model|KV|RS|compute|output) buffer size =\s*(?P<mib>[\d.]+) MiB"
)
_CACHE_LINE = re.compile(r"llama_kv_cache: size =\s*(?P<mib>[\d.]+) MiB \(\s*(?P<cells>\d+) cells")


class BufferLine(NamedTuple):
    """One ``… buffer size = … MiB`` line."""

    buffer: str
    kind: Literal["weights", "kv", "compute", "output"]
    bytes: int


def buffer_lines(lines: list[str]) -> list[BufferLine]:
    """The buffers that log lines tell of, to a hundredth of a MiB."""
    found = []
    for line in lines:
        match = _BUFFER_LINE.search(line)
        if match:
            found.append(BufferLine(match["name"], _KINDS[match["kind"]], round(float(match["mib"]) * _MIB)))
    return found


def kv_bytes_per_token(context: Context) -> int:
    """Bytes of KV cache that one token takes, all layers together; 0 for a model whose state does not grow."""
    known = kv_cache(context.model.file.header)
    if isinstance(known, str):
        return round(sum(size / cells for size, cells in _caches(context.lines)))
    return known.bytes_per_token(context.cache_type_k, context.cache_type_v)


def cache_bytes(lines: list[str]) -> float:
    """Bytes of all KV caches that log lines tell of."""
    return sum(size for size, _ in _caches(lines))


def _caches(lines: list[str]) -> list[tuple[float, int]]:
    matches = [match for match in map(_CACHE_LINE.search, lines) if match]
    return [(float(match["mib"]) * _MIB, max(1, int(match["cells"]))) for match in matches]


def context_buffers(context: Context) -> tuple[BufferBytes, ...]:
    """KV, output and compute buffers of a context."""
    told = buffer_lines(context.lines)
    kept = [
        BufferBytes(device=device_of(line.buffer), buffer=line.buffer, kind=line.kind, bytes=line.bytes)
        for line in told
        if line.kind in ("kv", "output")
    ]
    exact = _compute_buffers(scheduler_of(context.pointer))
    if exact is not None:
        return (*kept, *exact)
    return (
        *kept,
        *(
            BufferBytes(device=device_of(line.buffer), buffer=line.buffer, kind=line.kind, bytes=line.bytes)
            for line in told
            if line.kind == "compute"
        ),
    )


def _compute_buffers(scheduler: int | None) -> tuple[BufferBytes, ...] | None:
    if scheduler is None or library.compute_buffer_bytes is None:
        return None
    found = []
    for index in range(library.n_backends(scheduler)):
        backend = library.backend_at(scheduler, index)
        size = library.compute_buffer_bytes(scheduler, backend)
        kind = library.compute_buffer_type(scheduler, backend)
        if size and kind:
            name = library.buffer_type_name(kind).decode()
            found.append(BufferBytes(device=device_of(name), buffer=name, kind="compute", bytes=size))
    return tuple(found)


def device_of(buffer: str) -> str:
    """The device behind a buffer type's name: ``CUDA0_Split`` and ``CUDA0`` are CUDA0; ``CUDA_Host`` is RAM."""
    names = [device.name for device in library.devices()]
    own = [name for name in names if buffer == name or buffer.startswith(f"{name}_")]
    return max(own, key=len) if own else "CPU"

"""The lines of llama.cpp's load log, as this version writes them."""

from __future__ import annotations

import pytest

from pagewise.engine.llamacpp.buffers import buffer_lines, cache_bytes
from pagewise.engine.llamacpp.placement import where_of

MIB = 1024 * 1024

LINES = [
    ("load_tensors:   CPU_Mapped model buffer size =   630.00 MiB", ("CPU_Mapped", "weights", 630 * MIB)),
    ("load_tensors:   CPU_REPACK model buffer size =   455.50 MiB", ("CPU_REPACK", "weights", 477626368)),
    ("load_tensors:        CUDA0 model buffer size =  4403.49 MiB", ("CUDA0", "weights", 4617393930)),
    ("llama_context:        CPU  output buffer size =     0.58 MiB", ("CPU", "output", 608174)),
    ("llama_kv_cache:      CUDA0 KV buffer size =   512.00 MiB", ("CUDA0", "kv", 512 * MIB)),
    ("llama_memory_recurrent:        CPU RS buffer size =     0.07 MiB", ("CPU", "kv", 73400)),
    ("sched_reserve:  CUDA_Host compute buffer size =     8.01 MiB", ("CUDA_Host", "compute", 8399094)),
]


@pytest.mark.parametrize(("line", "expected"), LINES)
def test_a_buffer_line(line: str, expected: tuple[str, str, int]) -> None:
    assert [tuple(found) for found in buffer_lines([line])] == [expected]


def test_other_lines_are_none() -> None:
    assert buffer_lines(["~llama_context:        CPU compute buffer size is   6.2637 MiB, matches", "done"]) == []


def test_caches_add_up() -> None:
    lines = [
        "llama_kv_cache: size =    0.25 MiB (   512 cells,   2 layers,  1/1 seqs), K (f16):    0.12 MiB",
        "llama_kv_cache: size =    1.00 MiB (  1024 cells,   4 layers,  1/1 seqs), K (f16):    0.50 MiB",
    ]
    assert cache_bytes(lines) == 1.25 * MIB


@pytest.mark.parametrize(
    ("buffer", "on_device", "where"),
    [("CPU_Mapped", False, "mapped"), ("CPU", False, "copied"), ("AMX", False, "copied"), ("CUDA0", True, "device")],
)
def test_where(buffer: str, on_device: bool, where: str) -> None:
    assert where_of(buffer, on_device) == where

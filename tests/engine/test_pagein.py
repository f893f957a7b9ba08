"""Page-ins of one layer during one token, on a model whose pages are dropped in between."""

from __future__ import annotations

import ctypes
import os
import sys
from pathlib import Path

import pytest
from tests.engine.harness import profile
from tests.synthetic import make_model

from pagewise.engine.llamacpp import library
from pagewise.engine.llamacpp.context import Context
from pagewise.engine.llamacpp.decode import Sequence
from pagewise.engine.llamacpp.model import load_model, open_model_file
from pagewise.engine.llamacpp.pagein import PageIn
from pagewise.engine.llamacpp.pieces import Grain, PieceSize
from pagewise.engine.llamacpp.placement import placement
from pagewise.engine.llamacpp.probe import LayerProbe
from pagewise.models.layers import LayerRange, layer_ranges

PAGE = os.sysconf("SC_PAGE_SIZE")
MADV_PAGEOUT = 21
LAYER = "2"


def drop(path: Path, layer: LayerRange) -> None:
    """Have the kernel take the layer's pages out of our mapping and out of the page cache."""
    libc = ctypes.CDLL(None, use_errno=True)
    for line in Path("/proc/self/maps").read_text(encoding="utf-8", errors="replace").splitlines():
        if not line.endswith(str(path)):
            continue
        span, _, offset = line.split()[:3]
        low, high = (int(bound, 16) for bound in span.split("-"))
        base = int(offset, 16)
        for start, end in layer.ranges:
            first = max(-(-start // PAGE) * PAGE, base)
            last = min(end // PAGE * PAGE, base + high - low)
            if first < last:
                address = ctypes.c_void_p(low + first - base)
                libc.madvise(address, ctypes.c_size_t(last - first), MADV_PAGEOUT)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="cachestat is a system call of Linux")
def test_bytes_appear_at_the_layer_that_was_dropped() -> None:
    library.start()
    path = make_model(n_embd=512, n_ff=2048, n_head=8, n_head_kv=8)
    with path.open("rb") as fresh:
        os.fsync(fresh.fileno())
    file = open_model_file(path)
    model = load_model(file, profile(path), progress=lambda _share: True, cancelled=lambda: False)
    context = Context(model, profile(path), ctypes.create_string_buffer(2))
    sequence = Sequence(context, PieceSize(512, Grain(0.01, 1), 1))
    places = placement(model, [])
    try:
        page_in = PageIn(file, places.layers)
    except OSError as error:
        pytest.skip(f"this kernel does not count cached pages here: {error}")
    probe = LayerProbe(context, places.layers, page_in)
    layer = next(layer for layer in layer_ranges(file.header) if layer.name == LAYER)
    try:
        sequence.prefill([300] * 8, lambda _done: None)
        for token in range(3):
            probe.arm()
            sequence.evaluate(300)
            probe.disarm(token)
        held = page_in._count()[LAYER]
        drop(path, layer)
        if page_in._count()[LAYER] > held // 2:
            pytest.skip("the kernel does not take pages out of this file (a file system in memory?)")
        page_in._spent_s = 0.0
        page_in._began_s = 0.0
        probe.arm()
        sequence.evaluate(300)
        clock = probe.disarm(3)
        assert clock is not None
        came = dict(zip(clock.names, clock.page_in_bytes, strict=True))
        assert came[LAYER] >= 0.95 * layer.bytes
        assert came[LAYER] == max(came.values())
        assert clock.stalls[clock.names.index(LAYER)] > 0
    finally:
        page_in.close()
        context.free()
        model.free()

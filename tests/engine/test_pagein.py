"""Page-ins of one layer during one token, on a model whose pages are dropped in between: who read them, and when."""

from __future__ import annotations

import ctypes
import os
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.engine.harness import profile
from tests.synthetic import make_model

from pagewise.engine.disk_reads import DiskReads
from pagewise.engine.llamacpp import library
from pagewise.engine.llamacpp.context import Context
from pagewise.engine.llamacpp.decode import Sequence
from pagewise.engine.llamacpp.model import load_model, open_model_file
from pagewise.engine.llamacpp.pagein import PageIn
from pagewise.engine.llamacpp.pieces import Grain, PieceSize
from pagewise.engine.llamacpp.placement import placement
from pagewise.engine.llamacpp.probe import LayerProbe
from pagewise.models.layers import LayerRange, layer_ranges
from pagewise.placement.pages import MappedFile
from pagewise.placement.readers import Job, Readers
from pagewise.readings import LayerClock

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="Linux alone counts this")

PAGE = os.sysconf("SC_PAGE_SIZE")
MADV_NORMAL, MADV_RANDOM, MADV_PAGEOUT = 0, 1, 21
LAYER = "2"


def advise(path: Path, layer: LayerRange, advice: int) -> None:
    """Tell the kernel about the layer's whole pages in our mapping; ``MADV_PAGEOUT`` has it take them altogether."""
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
                libc.madvise(address, ctypes.c_size_t(last - first), advice)


class ReadBack:
    """Has the readers read one layer, once, and stands where the computing thread waits for it."""

    def __init__(self, readers: Readers, layer: LayerRange) -> None:
        self._readers = readers
        self._left = [Job(self, number, 0, start, end, False) for number, (start, end) in enumerate(layer.ranges)]
        self._pending = len(self._left)
        readers.sources.append(lambda: self._left.pop() if self._left else None)

    def finished(self, job: Job) -> None:
        self._pending -= 1

    def wait(self) -> None:
        with self._readers.changed:
            self._readers.wake()
            assert self._readers.changed.wait_for(lambda: not self._pending, timeout=60)


class Bench:
    """A model, one token of which can be probed after a layer was taken away."""

    def __init__(self) -> None:
        library.start()
        self.path = make_model(n_embd=512, n_ff=2048, n_head=8, n_head_kv=8)
        with self.path.open("rb") as fresh:
            os.fsync(fresh.fileno())
        file = open_model_file(self.path)
        self.model = load_model(file, profile(self.path), progress=lambda _share: True, cancelled=lambda: False)
        self.context = Context(self.model, profile(self.path), ctypes.create_string_buffer(2))
        self.sequence = Sequence(self.context, PieceSize(512, Grain(0.01, 1), 1))
        places = placement(self.model, [])
        try:
            self.page_in = PageIn(file, places.layers)
        except OSError as error:
            pytest.skip(f"this kernel does not count cached pages here: {error}")
        self.readers: Readers | None = None
        self.reads = DiskReads(file.headers, lambda: self.readers)
        self.probe = LayerProbe(self.context, places.layers, self.page_in, self.reads)
        self.layer = next(layer for layer in layer_ranges(file.header) if layer.name == LAYER)
        self.sequence.prefill([300] * 8, lambda _done: None)
        for token in range(3):
            self.probe.arm()
            self.sequence.evaluate(300)
            self.probe.disarm(token)

    def drop(self) -> None:
        held = self.page_in._count()[LAYER]
        advise(self.path, self.layer, MADV_PAGEOUT)
        if self.page_in._count()[LAYER] > held // 2:
            pytest.skip("the kernel does not take pages out of this file (a file system in memory?)")
        self.page_in._spent_s = 0.0
        self.page_in._began_s = 0.0

    def probed(self, meanwhile: ReadBack | None = None) -> dict[str, tuple[int, ...]]:
        """(page-in, demand, read-ahead, stalls) of each layer of one token."""
        self.probe.arm()
        if meanwhile is not None:
            meanwhile.wait()
        self.sequence.evaluate(300)
        clock = self.probe.disarm(3)
        assert clock is not None
        return by_layer(clock)

    def close(self) -> None:
        self.reads.close()
        self.page_in.close()
        self.context.free()
        self.model.free()


def by_layer(clock: LayerClock) -> dict[str, tuple[int, ...]]:
    columns = (clock.page_in_bytes, clock.demand_bytes, clock.read_ahead_bytes, clock.stalls)
    return dict(zip(clock.names, zip(*columns, strict=True), strict=True))


@pytest.fixture
def bench() -> Iterator[Bench]:
    found = Bench()
    yield found
    found.close()


@pytest.mark.parametrize("advice", [MADV_RANDOM, MADV_NORMAL])
def test_bytes_appear_at_the_layer_that_was_dropped(bench: Bench, advice: int) -> None:
    """With the kernel's own read-ahead, and without it: then each page that is touched is a stall."""
    advise(bench.path, bench.layer, advice)
    bench.drop()
    of_layers = bench.probed()
    page_in, demand, read_ahead, stalls = of_layers[LAYER]
    assert page_in >= 0.95 * bench.layer.bytes
    assert page_in == max(came for came, *_ in of_layers.values())
    assert demand >= 0.95 * bench.layer.bytes
    assert sum(asked for _, asked, *_ in of_layers.values()) <= 1.05 * demand
    assert not any(early for _, _, early, _ in of_layers.values()) and read_ahead == 0
    assert stalls > 0
    if advice == MADV_RANDOM:
        assert demand == pytest.approx(stalls * PAGE, rel=0.02)


def test_what_readers_read_is_read_ahead_and_no_stall(bench: Bench) -> None:
    advise(bench.path, bench.layer, MADV_RANDOM)
    file = MappedFile(bench.path)
    bench.readers = Readers([file], 2)
    asked = threading.Semaphore(0)
    bench.readers.sources.append(asked.release)
    bench.readers.start()
    try:
        assert all(asked.acquire(timeout=30) for _ in range(2))
        bench.drop()
        of_layers = bench.probed(ReadBack(bench.readers, bench.layer))
    finally:
        bench.readers.close()
        file.close()
    page_in, demand, read_ahead, stalls = of_layers[LAYER]
    assert read_ahead >= 0.95 * bench.layer.bytes
    assert page_in == demand + read_ahead
    # The readers' own faults and reads are nobody's demand, at whatever layer they were.
    assert demand <= sum(asked for _, asked, *_ in of_layers.values()) <= 0.02 * bench.layer.bytes
    assert stalls <= sum(waited for *_, waited in of_layers.values()) <= 0.02 * bench.layer.bytes / PAGE
    assert sum(early for _, _, early, _ in of_layers.values()) <= 1.05 * read_ahead

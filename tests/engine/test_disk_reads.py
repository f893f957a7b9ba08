"""Bytes of layers, from what was counted at their ends."""

from __future__ import annotations

import sys
import threading
from collections import Counter

import pytest
from tests.synthetic import make_model

from pagewise.engine.disk_reads import DiskReads, Mark, ReadAhead, bytes_of_layers
from pagewise.models.gguf import read_header
from pagewise.placement.readers import Readers

NAMES = ("input", "0", "1", "output")
NONE_AHEAD = ReadAhead(Counter(), frozenset())


def marks(*demand: int | None, stalls: int = 3) -> list[Mark]:
    return [Mark(one, stalls) for one in demand]


def test_demand_is_what_was_read_between_two_ends() -> None:
    found = bytes_of_layers(NAMES, marks(0, 4096, 12288, 12288), NONE_AHEAD, dict.fromkeys(NAMES, 7))
    assert found.demand == (0, 4096, 8192, 0)
    assert found.read_ahead == (0, 0, 0, 0)
    assert found.page_in == (7, 7, 7, 7)


def test_of_a_streamed_layer_what_was_read_came() -> None:
    """Its pages are dropped again before the token is over: growth of the cache says 0."""
    ahead = ReadAhead(Counter({"1": 500}), frozenset({"1"}))
    found = bytes_of_layers(NAMES, marks(0, 10, 40, 40), ahead, {"0": 10, "1": 0})
    assert found.page_in == (0, 10, 530, 0)
    assert found.demand == (0, 10, 30, 0)
    assert found.read_ahead == (0, 0, 500, 0)


def test_without_the_cache_counted_the_readers_are_known_all_the_same() -> None:
    found = bytes_of_layers(NAMES, marks(0, 4096, 4096, 4096), NONE_AHEAD, {})
    assert found.page_in == ()
    assert found.demand == (0, 4096, 0, 0)


@pytest.mark.parametrize(
    ("at_ends", "ahead", "grown"),
    [
        (marks(0, 1, None, None), NONE_AHEAD, {"0": 9}),
        (marks(0, 1, 2, 3), None, {"0": 9}),
        (marks(0, 0, 0, 0), NONE_AHEAD, {"0": 9}),
    ],
    ids=["lost in the middle", "readers not counted", "a file system that does not count"],
)
def test_what_is_not_known_is_not_0(at_ends: list[Mark], ahead: ReadAhead | None, grown: dict[str, int]) -> None:
    found = bytes_of_layers(NAMES, at_ends, ahead, grown)
    assert found.demand == found.read_ahead == ()
    assert found.page_in == (0, 9, 0, 0)


def test_another_program_that_reads_the_file_is_no_demand() -> None:
    found = bytes_of_layers(NAMES, marks(0, 0, 0, 0, stalls=0), NONE_AHEAD, {"0": 9})
    assert found.page_in == (0, 9, 0, 0)
    assert found.demand == (0, 0, 0, 0)


def test_a_block_of_two_layers_counts_for_both() -> None:
    header = read_header(make_model())
    reads = DiskReads((header,), lambda: None)
    first, second = (
        next(tensor for tensor in header.tensors if tensor.name == f"blk.{layer}.ffn_up.weight") for layer in (0, 1)
    )
    shares = reads._places[0].shares(first.start, second.end)
    assert set(shares) == {"0", "1"}
    assert sum(shares.values()) <= second.end - first.start
    assert reads._places[0].shares(first.start + 10, first.start + 20) == {"0": 10}
    assert reads._places[0].shares(header.file_bytes, header.file_bytes + 10) == {}
    reads.close()


@pytest.mark.skipif(sys.platform != "linux", reason="Linux alone counts this")
def test_readers_that_end_in_mid_token_leave_the_split_unknown() -> None:
    readers = Readers((), 2)
    asked = threading.Semaphore(0)
    readers.sources.append(asked.release)
    readers.start()
    reads = DiskReads((read_header(make_model()),), lambda: readers)
    assert all(asked.acquire(timeout=30) for _ in range(2))
    reads.begin()
    assert reads.mark().demand == 0
    readers.close()
    assert reads.mark().demand is None
    assert reads.end() is None
    reads.close()

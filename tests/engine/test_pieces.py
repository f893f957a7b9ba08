"""Pieces of a prefill."""

from __future__ import annotations

from pagewise.engine.llamacpp.decode import common_prefix
from pagewise.engine.llamacpp.pieces import Grain, PieceSize


def settled(pieces: PieceSize, rate: float) -> int:
    for _ in range(20):
        pieces.measured(pieces.size, pieces.size / rate)
    return pieces.size


def cpu(weights: int, share: float = 0.01, threads: int = 1) -> PieceSize:
    return PieceSize(512, Grain(share, weights), threads)


def device(n_ubatch: int = 512) -> PieceSize:
    return PieceSize(n_ubatch, Grain(1.0, 0), 1)


def test_a_small_model_gets_whole_micro_batches_from_the_first_piece_on() -> None:
    pieces = cpu(weights=1_000_000)
    assert pieces.size == 512
    assert settled(pieces, rate=200) == 512


def test_a_large_model_begins_with_less_and_grows_if_it_can() -> None:
    """A matrix of 11.5 million weights times 32 tokens is 0.7 GFLOP: 37 ms on a slow core."""
    assert cpu(weights=11_500_000).size == 32
    assert cpu(weights=11_500_000, threads=8).size == 256
    assert settled(cpu(weights=11_500_000), rate=200) == 512


def test_a_slow_processor_gets_pieces_whose_largest_node_is_short() -> None:
    size = settled(cpu(weights=1_000_000), rate=20)
    assert size == 64
    assert size / 20 * 0.01 <= 0.1


def test_a_device_begins_with_little_and_grows() -> None:
    assert device().size == 64
    assert settled(device(), rate=5_000) == 256
    assert settled(device(), rate=50_000) == 512


def test_a_slow_device_never_gets_less_than_the_smallest_piece() -> None:
    assert settled(device(), rate=1) == 32


def test_a_micro_batch_smaller_than_any_piece() -> None:
    pieces = device(n_ubatch=1)
    assert pieces.size == 1
    assert settled(pieces, rate=1) == 1
    assert settled(pieces, rate=100_000) == 1


def test_the_short_end_of_a_prompt_says_nothing() -> None:
    pieces = device()
    settled(pieces, rate=50_000)
    pieces.measured(3, 1.0)
    assert pieces.size == 512


def test_common_prefix() -> None:
    assert common_prefix([], []) == common_prefix([1], []) == common_prefix([1], [2]) == 0
    assert common_prefix([1, 2, 3], [1, 2]) == 2
    assert common_prefix([1, 2, 3], [1, 2, 4, 5]) == 2
    assert common_prefix([1, 2, 3], [1, 2, 3]) == 3

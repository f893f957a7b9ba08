from __future__ import annotations

from pagewise.placement.prefill import prefill_batch

MIB = 1 << 20


def batch(
    streamed: float, weights: float, *, room: int = 16 << 30, per_token: int = 64 << 10, n_ctx: int = 8192
) -> int:
    return prefill_batch(512, n_ctx, streamed, weights, 8, room, lambda tokens: tokens * per_token)


def test_a_dense_model_computes_longer_than_it_reads() -> None:
    assert batch(10e9, 70e9) == 512


def test_a_mixture_reads_longer_than_it_computes() -> None:
    assert batch(10e9, 3e9) == 2048
    assert batch(5e9, 3e9) == 1024


def test_a_batch_is_no_longer_than_the_context() -> None:
    assert batch(100e9, 3e9, n_ctx=1024) == 1024


def test_compute_buffers_take_little_of_the_room() -> None:
    assert batch(100e9, 3e9, per_token=1 << 20, room=4 << 30) == 512


def test_a_batch_stays_where_its_buffers_are_not_known() -> None:
    assert prefill_batch(512, 8192, 100e9, 3e9, 8, 16 << 30, lambda tokens: None) == 512

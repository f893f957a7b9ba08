"""What stops what."""

from __future__ import annotations

from pagewise.engine.channel import Interrupt


def test_the_request_in_hand_is_stopped() -> None:
    interrupt = Interrupt()
    interrupt.expect(1)
    interrupt.begin(1)
    assert not interrupt.raised
    interrupt.stop(1)
    assert interrupt.raised and interrupt.flag[0] == b"\1"
    interrupt.end()
    assert not interrupt.raised


def test_a_request_that_waits_is_stopped_when_it_begins() -> None:
    interrupt = Interrupt()
    interrupt.expect(1)
    interrupt.expect(2)
    interrupt.begin(1)
    interrupt.stop(2)
    assert not interrupt.raised
    interrupt.end()
    interrupt.begin(2)
    assert interrupt.raised


def test_a_late_stop_does_not_hit_a_later_request_of_the_same_number() -> None:
    interrupt = Interrupt()
    interrupt.expect(1)
    interrupt.begin(1)
    interrupt.end()
    interrupt.stop(1)
    interrupt.expect(1)
    interrupt.begin(1)
    assert not interrupt.raised


def test_quit_stops_all_there_is_and_all_that_comes() -> None:
    interrupt = Interrupt()
    interrupt.begin(1)
    interrupt.quit()
    assert interrupt.raised
    interrupt.end()
    interrupt.begin(2)
    assert interrupt.raised

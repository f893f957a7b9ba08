from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.record import story

from pagewise import messages
from pagewise.record.player import Player
from pagewise.record.reader import Record


@pytest.fixture
def record(tmp_path: Path) -> Iterator[Record]:
    with Record(story.record(tmp_path / "a.pwr", story.chat())) as record:
        yield record


class Listener:
    """Takes what a player gives, and can wait for it."""

    def __init__(self, player: Player) -> None:
        self.player = player
        self.taken: list[object] = []
        self.rewinds = 0
        player.rewound = self._rewound
        self._task = asyncio.create_task(self._listen())

    def _rewound(self) -> None:
        self.rewinds += 1
        self.taken.clear()

    async def _listen(self) -> None:
        await self.player.start()
        async for event in self.player.events():
            self.taken.append(event)

    async def quiet(self) -> None:
        """Until nothing more comes of itself."""
        before = -1
        while before != len(self.taken):
            before = len(self.taken)
            for _ in range(8):
                await asyncio.sleep(0)

    async def close(self) -> None:
        await self.player.close()
        await self._task


async def test_it_gives_what_is_due_and_no_more(record: Record) -> None:
    clock = story.Clock()
    listener = Listener(Player(record, clock))
    await listener.quiet()
    assert listener.taken == [message for ms, message in record if ms == 0]
    clock.now = 5.0
    listener.player.faster(0)
    await listener.quiet()
    assert listener.taken == [message for ms, message in record if ms <= 5000]
    await listener.close()


async def test_pause_step_and_speed(record: Record) -> None:
    clock = story.Clock()
    player = Player(record, clock)
    listener = Listener(player)
    player.toggle()
    await listener.quiet()
    assert player.paused
    taken = len(listener.taken)
    clock.now = 100.0
    await listener.quiet()
    assert len(listener.taken) == taken
    everything = [message for _, message in record]
    for step in range(1, 30):
        player.step()
        await listener.quiet()
        assert listener.taken == everything[: taken + step]
    assert player.position_ms == record.ms(taken + 28)
    player.toggle()
    player.faster(2)
    at = player.position_ms
    clock.now += 3.0
    assert (player.speed, player.position_ms) == (4.0, at + 12_000)
    player.faster(-9)
    assert player.speed == 0.25
    player.faster(99)
    assert player.speed == 64.0
    await listener.close()


async def test_going_on_and_back_gives_the_same_state(record: Record) -> None:
    player = Player(record, story.Clock())
    listener = Listener(player)
    player.toggle()
    player.seek(35_000)
    await listener.quiet()
    once = list(listener.taken)
    assert listener.rewinds == 0
    player.seek(115_000)
    await listener.quiet()
    player.seek(35_000)
    await listener.quiet()
    assert listener.rewinds == 1
    assert listener.taken == once
    asked = [message for message in once if isinstance(message, messages.Generate)]
    assert len(asked) == 4
    await listener.close()


async def test_old_samples_are_passed_over_on_a_long_way(record: Record) -> None:
    player = Player(record, story.Clock())
    listener = Listener(player)
    player.toggle()
    player.seek(1e12)
    await listener.quiet()
    kinds = [type(message) for message in listener.taken]
    assert kinds.count(messages.Reading) == 240
    assert kinds.count(messages.Tokens) == story.TURNS * story.TOKENS
    assert isinstance(listener.taken[-1], messages.Notice)
    assert player.at_end and player.position_ms == record.length_ms
    await listener.close()


async def test_at_the_end_it_begins_again(record: Record) -> None:
    player = Player(record, story.Clock())
    listener = Listener(player)
    player.seek(1e12)
    await listener.quiet()
    player.toggle()
    await listener.quiet()
    assert (listener.rewinds, player.paused, player.at_end) == (1, False, False)
    assert isinstance(listener.taken[0], messages.HostHello)
    player.seek(-5.0)
    assert player.position_ms == 0.0
    await listener.close()

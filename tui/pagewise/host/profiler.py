"""What the host does for the profiler: stacks are recorded here, operators by the engine."""

from __future__ import annotations

from collections.abc import Callable

from pagewise.host.slot import EngineSlot
from pagewise.messages import Event, Operators, ProfileOperators, ProfileStacks
from pagewise.monitor.stack_recorder import NO_ENGINE, StackRecorder


class Profiler:
    """Serves the commands of the profiler for one host."""

    def __init__(self, slot: EngineSlot, send: Callable[[Event], object]) -> None:
        self._slot = slot
        self._send = send
        self._stacks = StackRecorder(send)

    def handle(self, command: ProfileStacks | ProfileOperators) -> None:
        """Begin it, or hand it to the engine."""
        engine = self._slot.engine
        if isinstance(command, ProfileStacks):
            self._stacks.record(command, engine.pid if engine else None)
        elif engine is None:
            self._send(Operators(command.id, None, NO_ENGINE))
        else:
            engine.send(command)

    async def close(self) -> None:
        """End what is under way."""
        await self._stacks.close()

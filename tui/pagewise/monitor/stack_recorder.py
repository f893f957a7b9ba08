"""Records stacks for an asyncio program: commands in, events out."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from pagewise.instruments.stacks import StacksError, record_stacks
from pagewise.messages import Event, Failure, ProfileStacks, Stacks

NO_ENGINE = Failure("There is nothing to profile", "No model is loaded.", "Choose a profile (F2), then ask again.")
_BUSY = Failure("Stacks are being recorded already", "One recording at a time.", "Wait until it is over.")


class StackRecorder:
    """Answers each ProfileStacks with Stacks, one at a time."""

    def __init__(self, send: Callable[[Event], object]) -> None:
        self._send = send
        self._task: asyncio.Task[None] | None = None

    def record(self, command: ProfileStacks, engine: int | None) -> None:
        """Begin a recording; ``engine`` is the process that is meant where the command names none."""
        pid = command.pid if command.pid is not None else engine
        if pid is None or self._task is not None:
            self._send(Stacks(command.id, None, NO_ENGINE if pid is None else _BUSY))
            return
        self._task = asyncio.create_task(self._record(command.id, pid, command.seconds))

    async def close(self) -> None:
        """End what is being recorded."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _record(self, id: int, pid: int, seconds: float) -> None:
        try:
            profile = await record_stacks(pid, seconds)
        except StacksError as error:
            self._send(Stacks(id, None, Failure(error.what, error.why, error.next)))
        except OSError as error:
            why = f"The system says: {error.strerror or error}."
            self._send(Stacks(id, None, Failure("The stacks could not be kept", why, "Make room for temporary files.")))
        else:
            self._send(Stacks(id, profile))
        finally:
            self._task = None

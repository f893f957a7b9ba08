"""The operator profile of the next token: asked for at any time, taken by the turn in hand or by the next one."""

from __future__ import annotations

import threading
from collections import deque
from statistics import median

from pagewise.engine.channel import Events
from pagewise.engine.llamacpp.operators import Computed, OperatorProbe
from pagewise.messages import Failure, Operators
from pagewise.readings import OperatorProfile

_AROUND = 8
"""Tokens around the profiled one that tell how long it takes otherwise."""
_NOT_HERE = Failure(
    "Operators cannot be profiled",
    "This build of llama.cpp does not let its scheduler be watched, or lays out its graph in another way than the "
    "version that pagewise knows.",
    "Install the llama-cpp-python that pagewise asks for ('pagewise doctor' says which one is there).",
)


class Asked:
    """The profile that is wanted, if one is: set by the thread that reads commands, taken by the one that decodes."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._id: int | None = None

    @property
    def waiting(self) -> bool:
        """Whether a profile is wanted."""
        return self._id is not None

    def ask(self, id: int) -> None:
        """Profile the next token; the latest to ask is answered."""
        with self._lock:
            self._id = id

    def take(self) -> int | None:
        """Who asked; nobody does any more."""
        with self._lock:
            id, self._id = self._id, None
            return id


class OperatorProfiling:
    """One turn's part in it. Call ``begin`` before a token, ``end`` after it, and ``close`` after the turn."""

    def __init__(self, asked: Asked, probe: OperatorProbe, events: Events) -> None:
        self._asked = asked
        self._refusal = None if probe.available else _NOT_HERE
        self._probe = probe
        self._events = events
        self._armed = False
        self._before: deque[float] = deque(maxlen=_AROUND // 2)
        self._after: list[float] = []
        self._taken: tuple[int, int, int, float, Computed] | None = None
        self._computed: Computed | None = None

    def begin(self) -> bool:
        """Whether the token that comes is profiled."""
        if self._taken is not None or not self._asked.waiting:
            return False
        if self._refusal is not None:
            id = self._asked.take()
            if id is not None:
                self._events.send(Operators(id, None, self._refusal))
            return False
        self._probe.arm()
        self._armed = True
        return True

    def disarm(self) -> None:
        """The token has been evaluated, or could not be."""
        if self._armed:
            self._armed = False
            self._computed = self._probe.disarm()

    def end(self, token: int, depth: int, step_ms: float, *, probed: bool) -> None:
        """A token is done. ``probed``: a callback was on it, so that it tells nothing of the usual time."""
        computed, self._computed = self._computed, None
        if computed is not None:
            id = self._asked.take()
            if id is not None:
                self._taken = (id, token, depth, step_ms, computed)
        elif probed:
            return
        elif self._taken is None:
            self._before.append(step_ms)
        else:
            self._after.append(step_ms)
            if len(self._before) + len(self._after) >= _AROUND:
                self.close()

    def close(self) -> None:
        """Send what was taken."""
        if self._taken is None:
            return
        id, token, depth, step_ms, computed = self._taken
        self._taken = None
        around = [*self._before, *self._after]
        self._after = []
        self._events.send(
            Operators(
                id,
                OperatorProfile(
                    token=token,
                    depth=depth,
                    step_ms=step_ms,
                    usual_ms=median(around) if around else None,
                    nodes=computed.nodes,
                    idle_node_ms=computed.idle_node_ms,
                ),
            )
        )

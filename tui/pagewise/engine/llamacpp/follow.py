"""Follows the computation layer by layer, over every graph of a context."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from pagewise.engine.llamacpp import library
from pagewise.engine.llamacpp.probe import Asked, boundaries


class Follower:
    """The eval callback of a context whose weights are streamed. ``callback`` goes into the context's parameters.

    The scheduler computes up to each node that is wanted and waits for it there: one for each layer.
    """

    def __init__(self, steps: tuple[str, ...], done: Callable[[int], None]) -> None:
        """``steps``: names of the layers in their order; ``done`` is called with the number of each that ends."""
        self.callback = library.EvalCallback(self._called)
        self.active = True
        """Whether anything is to be followed; without it a node costs as little as it can."""
        self._steps = {name: number for number, name in enumerate(steps)}
        self._done = done
        self._wanted = {f"l_out-{name}".encode(): number for name, number in self._steps.items()}
        self._seen: list[str] | None = []
        self._reached: int | None = None
        self._listener: Asked | None = None
        self._heard = False

    def listen(self, listener: Asked | None) -> None:
        """Let another callback have its say about every node, or no longer."""
        self._listener = listener

    def learn(self) -> None:
        """The first graph has run: where it had no ``l_out``, go by the last node of each layer from now on."""
        seen, self._seen = self._seen, None
        if seen and not any(name.encode() in self._wanted for name in seen):
            ends = boundaries(seen)
            self._wanted = {seen[at].encode(): self._steps[name] for at, name in ends.items() if name in self._steps}

    @property
    def learnt(self) -> bool:
        """Whether a graph has been seen whole."""
        return self._seen is None

    def _called(self, tensor: int, ask: bool, user_data: Any) -> bool:
        if ask:
            if self._listener is not None:
                self._heard = self._listener(tensor, True, user_data)
            if not self.active:
                return self._heard
            name: bytes = library.tensor_name(tensor) or b""
            if self._seen is not None:
                self._seen.append(name.decode(errors="replace"))
            self._reached = self._wanted.get(name)
            return self._heard or self._reached is not None
        if self._heard and self._listener is not None:
            self._listener(tensor, False, user_data)
        self._heard = False
        if self._reached is not None:
            step, self._reached = self._reached, None
            self._done(step)
        return True

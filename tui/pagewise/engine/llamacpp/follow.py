"""Follows the computation layer by layer, over every graph of a context, and reads what routers have chosen."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from typing import Any

from pagewise.engine.llamacpp import library
from pagewise.engine.llamacpp.context import Context, scheduler_of
from pagewise.engine.llamacpp.experts import rows_of
from pagewise.engine.llamacpp.probe import Asked, boundaries
from pagewise.engine.llamacpp.tensor import layout_is_known

Chosen = Callable[[str, Counter[int], int], None]
"""Called with a layer's name, its experts (for how many tokens each was chosen), and the number of tokens."""


class Follower:
    """An eval callback. The scheduler computes up to each node that is wanted and waits for it there.

    ``callback`` goes into the parameters of a context whose weights are streamed from the start. On any other context
    it is ``lent`` to the scheduler for each evaluation; where llama.cpp builds its graph anew it takes it away again.
    """

    def __init__(
        self,
        steps: tuple[str, ...],
        done: Callable[[int], None],
        routers: Iterable[str] = (),
        chosen: Chosen | None = None,
    ) -> None:
        """``steps``: names of the layers in their order; ``done`` is called with the number of each that ends.

        ``routers``: names of the layers whose choice is wanted.
        """
        self.callback = library.EvalCallback(self._called)
        self.active = True
        """Whether anything is to be followed; without it a node costs as little as it can."""
        self.followed = False
        """Whether any step ended since this was last set to False."""
        self._steps = {name: number for number, name in enumerate(steps)}
        self._done = done
        self._chosen = chosen
        self._wanted: dict[bytes, int] = {f"l_out-{name}".encode(): number for name, number in self._steps.items()}
        self._routers = {f"ffn_moe_topk-{name}".encode(): name for name in routers}
        self._seen: list[str] | None = []
        self._reached: int | None = None
        self._routed: str | None = None
        self._listener: Asked | None = None
        self._heard = False

    def listen(self, listener: Asked | None) -> None:
        """Let another callback have its say about every node, or no longer."""
        self._listener = listener

    def lend(self, context: Context) -> None:
        """Follow the evaluation that comes on a context that was not made with ``callback``."""
        scheduler = scheduler_of(context.pointer)
        if scheduler is not None and library.set_eval_callback is not None:
            library.set_eval_callback(scheduler, self.callback, None)

    def take_back(self, context: Context) -> None:
        """Follow it no longer."""
        scheduler = scheduler_of(context.pointer)
        if scheduler is not None and library.set_eval_callback is not None:
            library.set_eval_callback(scheduler, _NO_CALLBACK, None)

    def learn(self) -> None:
        """The first graph has run: where it had no ``l_out``, go by the last node of each layer from now on."""
        if not self._seen:
            return
        seen, self._seen = self._seen, None
        if not any(name.encode() in self._wanted for name in seen):
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
            self._routed = self._routers.get(name)
            return self._heard or self._reached is not None or self._routed is not None
        if self._heard and self._listener is not None:
            self._listener(tensor, False, user_data)
        self._heard = False
        if self._routed is not None:
            layer, self._routed = self._routed, None
            rows = rows_of(tensor)
            if rows and self._chosen is not None:
                self._chosen(layer, Counter(expert for row in rows for expert in row), len(rows))
        if self._reached is not None:
            step, self._reached = self._reached, None
            self.followed = True
            self._done(step)
        return True


def can_follow() -> bool:
    """Whether this build lets the computation be followed."""
    return library.tensor_name is not None and library.set_eval_callback is not None


def can_read_choices() -> bool:
    """Whether this build lets what routers choose be read."""
    return library.tensor_read is not None and layout_is_known()


_NO_CALLBACK = library.EvalCallback(0)

"""Follows the computation layer by layer, over every graph of a context, and reads what routers have chosen."""

from __future__ import annotations

import ctypes
from collections import Counter
from collections.abc import Callable, Iterable

from pagewise.engine.llamacpp import library
from pagewise.engine.llamacpp.context import Context, scheduler_of
from pagewise.engine.llamacpp.experts import rows_of
from pagewise.engine.llamacpp.probe import Asked, boundaries
from pagewise.engine.llamacpp.tensor import layout_is_known

Chosen = Callable[[str, Counter[int], int], None]
"""Called with a layer's name, its experts (for how many tokens each was chosen), and the number of tokens."""

_PlainCallback = ctypes.CFUNCTYPE(ctypes.c_bool, ctypes.c_void_p)
"""An eval callback that looks at the node alone: what else it is called with is left where it is."""


class _Passed(dict[int, bool]):
    """Nodes of the graph that nobody waits for, by their address. The others are asked about.

    A token has a thousand nodes, and nothing is computed while Python looks at one of them: a dictionary's own look-up
    takes a fraction of the time of a function. llama.cpp builds its graph in the same place for every single token.
    """

    def __init__(self, ask: Callable[[int], bool]) -> None:
        self._ask = ask

    def __missing__(self, tensor: int) -> bool:
        return self._ask(tensor)


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
        self._passed = _Passed(self._called)
        self.callback = ctypes.cast(_PlainCallback(self._passed.__getitem__), library.EvalCallback)
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
        self._computed: int | None = None
        """The node that was wanted: the next call is about it again, when it has been computed."""
        self._remembers = False
        self._reached_count = 0
        self._expected_count = 0
        """Nodes that were waited for when what is passed was learnt; 0: it is being learnt."""

    def listen(self, listener: Asked | None) -> None:
        """Let another callback have its say about every node, or no longer."""
        self._listener = listener

    def begin(self, n_tokens: int) -> None:
        """An evaluation is about to begin."""
        # One that was stopped at a node that was wanted has left it.
        self._computed = self._reached = self._routed = None
        self._reached_count = 0
        self._remembers = n_tokens == 1 and self.learnt and self.active and self._listener is None
        if not self._remembers:
            self._forget()

    def end(self) -> None:
        """It has ended, or was stopped."""
        if self._expected_count and self._reached_count != self._expected_count:
            # The graph was built anew in another shape.
            self._forget()
        elif self._remembers:
            self._expected_count = self._reached_count

    def _forget(self) -> None:
        self._passed.clear()
        self._expected_count = 0

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

    def _called(self, tensor: int) -> bool:
        if tensor == self._computed:
            self._computed = None
            self._has_come(tensor)
            return True
        if self.active:
            name: bytes = library.tensor_name(tensor) or b""
            if self._seen is not None:
                self._seen.append(name.decode(errors="replace"))
            self._reached = self._wanted.get(name)
            self._routed = self._routers.get(name)
        # Last, so that it can take the time from here on as the node's.
        self._heard = self._listener is not None and self._listener(tensor, True, None)
        if self._heard or self._reached is not None or self._routed is not None:
            self._computed = tensor
            return True
        if self._remembers:
            self._passed[tensor] = False
        return False

    def _has_come(self, tensor: int) -> None:
        if self._heard and self._listener is not None:
            self._listener(tensor, False, None)
        self._heard = False
        self._reached_count += 1
        if self._routed is not None:
            layer, self._routed = self._routed, None
            rows = rows_of(tensor)
            if rows and self._chosen is not None:
                self._chosen(layer, Counter(expert for row in rows for expert in row), len(rows))
        if self._reached is not None:
            step, self._reached = self._reached, None
            self.followed = True
            self._done(step)


def can_follow() -> bool:
    """Whether this build lets the computation be followed."""
    return library.tensor_name is not None and library.set_eval_callback is not None


def can_read_choices() -> bool:
    """Whether this build lets what routers choose be read."""
    return library.tensor_read is not None and layout_is_known()


_NO_CALLBACK = library.EvalCallback(0)

"""The layer clock: what each layer of one token took.

ggml's scheduler asks a callback after every node of the graph whether its result is wanted; where the answer is yes it
synchronizes there. The callback is on the scheduler only for the token that is sampled, so that the others pay nothing.
It is never used to cancel: that leaves a half-written KV cache behind a success.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from itertools import pairwise
from typing import Any, NamedTuple

from pagewise.engine.disk_reads import DiskReads, Mark, bytes_of_layers
from pagewise.engine.llamacpp import library
from pagewise.engine.llamacpp.context import Context, scheduler_of
from pagewise.engine.llamacpp.experts import Routers
from pagewise.engine.llamacpp.pagein import PageIn
from pagewise.models.layers import INPUT, OUTPUT
from pagewise.readings import LayerClock, LayerPlacement

_SUFFIX = re.compile(r"-(\d+)$")
Asked = Callable[[int, bool, Any], bool]
"""An eval callback as Python sees it: (tensor, ask, user data)."""
Listen = Callable[["Asked | None"], None]
_NO_CALLBACK = library.EvalCallback(0)


class _End(NamedTuple):
    """Where ``input`` or a layer ended."""

    name: str
    at_ns: int
    read: Mark


class LayerProbe:
    """Probes one token at a time on one context. Make a new one for a new context."""

    def __init__(
        self,
        context: Context,
        placement: tuple[LayerPlacement, ...],
        page_in: PageIn | None,
        reads: DiskReads,
        listen: Listen | None = None,
    ) -> None:
        """``listen``: takes the place of the scheduler where another callback is on it for good."""
        self._scheduler = scheduler_of(context.pointer) if library.set_eval_callback and library.tensor_name else None
        self._listen = listen
        self._devices = {layer.name: layer.device for layer in placement}
        self._page_in = page_in
        self._reads = reads
        self._routers = Routers(context.model)
        self._learn = library.EvalCallback(self._learning)
        self._ask = library.EvalCallback(self._asking)
        self._names: list[str] = []
        self._wanted: dict[int, str] = {}
        self._n_nodes = 0
        self._node = 0
        self._ends: list[_End] = []
        self._wrong = False
        self._ask_ns = 0
        self._start_ns = 0

    @property
    def available(self) -> bool:
        """Whether this build lets us set the callback on the scheduler."""
        return self._scheduler is not None or self._listen is not None

    def arm(self) -> None:
        """The next evaluation is probed."""
        self._node, self._ask_ns, self._wrong = 0, 0, False
        self._ends = []
        self._routers.forget()
        if not self._wanted:
            self._names = []
        if self._page_in is not None:
            self._page_in.before()
        if self._listen is not None:
            self._listen(self._asking if self._wanted else self._learning)
        else:
            library.set_eval_callback(self._scheduler, self._ask if self._wanted else self._learn, None)
        self._reads.begin()
        self._start_ns = time.perf_counter_ns()

    def disarm(self, token: int) -> LayerClock | None:
        """Take the callback away. What the layers of output token ``token`` took, or None where this probe was lost."""
        end_ns = time.perf_counter_ns()
        self._ends.append(_End(OUTPUT, end_ns, self._reads.mark()))
        ahead = self._reads.end()
        if self._listen is not None:
            self._listen(None)
        else:
            library.set_eval_callback(self._scheduler, _NO_CALLBACK, None)
        if not self._wanted:
            self._wanted, self._n_nodes = boundaries(self._names), len(self._names)
            self._routers.learn(self._names)
            return None
        if self._node == 0:
            # llama.cpp rebuilt its graph for this token, and takes the callback away when it does.
            return None
        if self._wrong or self._node != self._n_nodes:
            # A graph of another shape: learn it anew.
            self._wanted = {}
            return None
        grown = self._page_in.after() if self._page_in is not None else {}
        names = tuple(end.name for end in self._ends)
        marks = [end.read for end in self._ends]
        read = bytes_of_layers(names, marks, ahead, grown)
        moments = [self._start_ns, *(end.at_ns for end in self._ends)]
        stalls = [0, *(mark.stalls for mark in marks)]
        return LayerClock(
            token=token,
            total_ms=(end_ns - self._start_ns) / 1e6,
            names=names,
            ms=tuple((later - earlier) / 1e6 for earlier, later in pairwise(moments)),
            devices=tuple(self._devices.get(name, "unknown") for name in names),
            page_in_bytes=read.page_in,
            stalls=tuple(later - earlier for earlier, later in pairwise(stalls)),
            ask_ms=self._ask_ns / 1e6,
            experts=self._routers.choices(names),
            n_expert=self._routers.n_expert,
            demand_bytes=read.demand,
            read_ahead_bytes=read.read_ahead,
        )

    def _learning(self, tensor: int, ask: bool, _user_data: Any) -> bool:
        if ask:
            self._names.append((library.tensor_name(tensor) or b"").decode(errors="replace"))
        return not ask

    def _asking(self, tensor: int, ask: bool, _user_data: Any) -> bool:
        if ask:
            self._node += 1
            return self._node - 1 in self._wanted or self._node - 1 in self._routers.nodes
        now_ns = time.perf_counter_ns()
        index = self._node - 1
        if index in self._routers.nodes:
            self._routers.read(index, tensor)
            self._ask_ns += time.perf_counter_ns() - now_ns
            return True
        self._ends.append(_End(self._wanted.get(index, ""), now_ns, self._reads.mark()))
        if len(self._ends) == len(self._wanted):
            # Equally many nodes might still be other ones; one name, of the last, is enough to tell.
            self._wrong = (library.tensor_name(tensor) or b"").decode(errors="replace") != self._names[index]
        self._ask_ns += time.perf_counter_ns() - now_ns
        return True


def boundaries(names: list[str]) -> dict[int, str]:
    """Which nodes of a graph end ``input`` and each layer, by index, from the nodes' names in order.

    A layer ends with ``l_out-<layer>``, or, where the architecture has no such node, with the last of its nodes.
    """
    ends: dict[int, int] = {}
    last: dict[int, int] = {}
    for index, name in enumerate(names):
        suffix = _SUFFIX.search(name)
        if suffix is None:
            continue
        layer = int(suffix[1])
        last[layer] = index
        if name.startswith("l_out-"):
            ends[layer] = index
    if ends.keys() != last.keys():
        ends = last
    ordered = sorted(ends.items())
    if [index for _, index in ordered] != sorted(ends.values()):
        return {}
    wanted = {index: str(layer) for layer, index in ordered}
    if ordered and names and _SUFFIX.search(names[0]) is None and 0 not in wanted:
        wanted[_input_end(names)] = INPUT
    return wanted


def _input_end(names: list[str]) -> int:
    """The embedding is the first node; what scales or normalizes it follows."""
    end = 0
    while end + 1 < len(names) and names[end + 1].startswith("inp"):
        end += 1
    return end

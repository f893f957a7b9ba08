"""``n_gpu_layers = "fit"``: the largest placement that leaves what must stay free on each device.

Placements stand on a ladder, the largest on top. Dense models: one layer fewer a rung. Mixtures: first the experts of
one layer more in RAM a rung, from the first layer on, and only when all experts are there, one layer fewer. What a
placement takes is measured, never computed; the header's bytes only say how to deal layers out to several devices.
What the profile fixes stays as it is: the search is then over the rest.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import msgspec

from pagewise.models.offload import LayerBytes
from pagewise.settings import Profile

_DEALS = 6
"""Ways to deal the layers out that are tried for one rung."""

Measure = Callable[[Profile], Mapping[str, int]]
"""Bytes that a profile takes on each device, by ggml's name. It may raise what ends the search."""


class Rung(NamedTuple):
    """Layers on devices (the output is one), and how many layers' experts stay in RAM."""

    layers: int
    experts_in_ram: int


class Fitted(NamedTuple):
    """The placement, and whether it leaves what it must. ``note`` says it in a sentence."""

    profile: Profile
    fits: bool
    note: str


def fit(profile: Profile, layers: Sequence[LayerBytes], rooms: Mapping[str, int], measure: Measure) -> Fitted:
    """``layers``: as they would weigh on a device, the output last. ``rooms``: bytes to be had on each device.

    The devices are in llama.cpp's order. Without one, nothing is placed on one.
    """
    if not rooms:
        return Fitted(
            msgspec.structs.replace(profile, n_gpu_layers=0),
            True,
            "n_gpu_layers = fit: llama.cpp found no GPU that it can use, so nothing is placed on one.",
        )
    search = _Search(profile, layers, rooms, measure)
    rungs = search.rungs()
    low, high = 0, len(rungs)
    found: Profile | None = None
    while low < high:
        middle = (low + high) // 2 if low or high < len(rungs) else 0
        placed = search.placed(rungs[middle])
        if placed is None:
            low = middle + 1
        else:
            found, high = placed, middle
    if found is None:
        return Fitted(
            search.profile_at(rungs[-1], ()),
            False,
            "n_gpu_layers = fit: not even a placement without layers leaves what must stay free on each device.",
        )
    return Fitted(found, True, f"n_gpu_layers = fit: {_words(rungs[high], len(layers), search.mixture)}.")


def experts_pattern(layers: Sequence[int]) -> str:
    """The tensor override that keeps the experts of these layers in RAM."""
    return rf"blk\.(?:{'|'.join(map(str, layers))})\.ffn_(?:up|down|gate|gate_up)_(?:ch|)exps\.=CPU"


class _Search:
    def __init__(
        self, profile: Profile, layers: Sequence[LayerBytes], rooms: Mapping[str, int], measure: Measure
    ) -> None:
        self._profile = profile
        self._layers = layers
        self._rooms = dict(rooms)
        if profile.split_mode == "none":
            name = list(rooms)[min(profile.main_gpu, len(rooms) - 1)]
            self._rooms = {name: rooms[name]}
        self._measure = measure
        self._deals = len(self._rooms) > 1 and profile.split_mode == "layer" and not profile.tensor_split
        self.mixture = tuple(layer.number for layer in layers if layer.expert_bytes)
        self._overhead = dict.fromkeys(self._rooms, 0)
        """What a device takes beyond the layers dealt to it: KV cache, compute buffers. Learnt from measurements."""

    def rungs(self) -> list[Rung]:
        """The ladder, the largest placement first."""
        whole, experts = len(self._layers), len(self.mixture)
        return [
            *(Rung(whole, in_ram) for in_ram in range(experts + 1)),
            *(Rung(layers, experts) for layers in range(whole - 1, -1, -1)),
        ]

    def profile_at(self, rung: Rung, deal: Sequence[int]) -> Profile:
        """The profile in figures. Its own overrides come first: the first one that matches wins."""
        in_ram = self.mixture[: rung.experts_in_ram]
        return msgspec.structs.replace(
            self._profile,
            n_gpu_layers="all" if rung.layers == len(self._layers) else rung.layers,
            tensor_overrides=(*self._profile.tensor_overrides, *((experts_pattern(in_ram),) if in_ram else ())),
            tensor_split=tuple(map(float, deal)) or self._profile.tensor_split,
        )

    def placed(self, rung: Rung) -> Profile | None:
        """The profile for this rung, if it leaves what it must on each device."""
        if not self._deals or rung.layers == 0:
            profile = self.profile_at(rung, ())
            return profile if not self._beyond(self._measure(profile)) else None
        if rung == self.rungs()[0]:
            # llama.cpp's own split, by free memory, wants no figures.
            profile = self.profile_at(rung, ())
            if not self._beyond(self._measure(profile)):
                return profile
        tried: set[tuple[int, ...]] = set()
        for _ in range(_DEALS):
            deal = self._deal(rung)
            if deal is None or deal in tried:
                return None
            tried.add(deal)
            profile = self.profile_at(rung, deal)
            taken = self._measure(profile)
            if not self._beyond(taken):
                return profile
            self._learn(rung, deal, taken)
        return None

    def _beyond(self, taken: Mapping[str, int]) -> bool:
        return any(taken.get(name, 0) > room for name, room in self._rooms.items())

    def _weight(self, index: int, rung: Rung) -> int:
        layer = self._layers[index]
        return layer.bytes - (layer.expert_bytes if index in self.mixture[: rung.experts_in_ram] else 0)

    def _deal(self, rung: Rung) -> tuple[int, ...] | None:
        """How many layers each device takes, each filled before the next; None where they do not hold all."""
        index = len(self._layers) - rung.layers
        deal = []
        for name, room in self._rooms.items():
            left, count = room - self._overhead[name], 0
            while index < len(self._layers) and self._weight(index, rung) <= left:
                left -= self._weight(index, rung)
                index, count = index + 1, count + 1
            deal.append(count)
        return tuple(deal) if index == len(self._layers) else None

    def _learn(self, rung: Rung, deal: Sequence[int], taken: Mapping[str, int]) -> None:
        index = len(self._layers) - rung.layers
        for name, count in zip(self._rooms, deal, strict=True):
            weights = sum(self._weight(index + offset, rung) for offset in range(count))
            self._overhead[name] = max(0, taken.get(name, 0) - weights)
            index += count


def _words(rung: Rung, n_layers: int, mixture: Sequence[int]) -> str:
    layers = "all layers" if rung.layers == n_layers else f"{rung.layers} of {n_layers} layers"
    if rung.layers == 0:
        return "no layer fits beside what must stay free"
    where = f"{layers} on GPUs"
    if not rung.experts_in_ram:
        return where
    return f"{where}, the experts of {rung.experts_in_ram} of {len(mixture)} layers in RAM"

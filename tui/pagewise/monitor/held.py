"""The models in one process's hands: its files grouped, their headers read, and how they are held."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from pagewise.instruments.residency import ModelFile
from pagewise.models.gguf import GgufError, GgufHeader, printable, read_header
from pagewise.models.layers import LayerRange, layer_ranges
from pagewise.models.quant import FILE_TYPES
from pagewise.monitor.files import GgufFile, Identity
from pagewise.monitor.processes import Holding
from pagewise.readings import Held, HeldModel, LayerPlacement, Missing, Where

_PART = re.compile(r"-\d{5}-of-\d{5}\.gguf$")
_GUESSED = 1024
_COPY = 0.6
"""Private memory of this share of the file's size, in a process that does not map it, is taken for a copy of it."""


class Header(NamedTuple):
    """What is kept of a file's header, or why it cannot be read."""

    name: str
    architecture: str
    quant: str
    n_layer: int | None
    n_ctx_train: int | None
    layers: tuple[LayerRange, ...]
    token_bytes: int
    """Weights of this file that are read for one token: the embedding by rows, experts by those that are routed to."""
    error: str = ""


class Headers:
    """Reads each file's header once, and again when the file has changed."""

    def __init__(self) -> None:
        self._known: dict[tuple[Identity, int, int], Header] = {}

    def read(self, file: GgufFile) -> Header | None:
        """The header of a file; None where there are no rights to it."""
        if file.readable is None or file.identity is None:
            return None
        try:
            status = file.readable.stat()
        except OSError as error:
            return _failed(f"it can no longer be read: {error.strerror}")
        if (status.st_dev, status.st_ino) != file.identity:
            return _failed("another file has just taken its name")
        key = (file.identity, status.st_size, status.st_mtime_ns)
        if key not in self._known:
            if len(self._known) > 512:
                self._known.clear()
            self._known[key] = _read(file.readable)
        return self._known[key]


class Group(NamedTuple):
    """One model: the file, or the files, of which it consists."""

    holdings: tuple[Holding, ...]
    headers: tuple[Header | None, ...]

    @property
    def bytes(self) -> int:
        """Size of what could be looked at."""
        return sum(holding.file.bytes or 0 for holding in self.holdings)

    @property
    def mapped_bytes(self) -> int:
        """Bytes that have an address in the process."""
        return sum(holding.mapped_bytes for holding in self.holdings)

    @property
    def token_bytes(self) -> int:
        """Weights read for one token."""
        return sum(header.token_bytes for header in self.headers if header)

    @property
    def path(self) -> Path | None:
        """A path by which the first file can be read."""
        return self.holdings[0].file.readable

    def files(self) -> tuple[ModelFile, ...]:
        """What the residency instrument needs; empty where a header could not be read."""
        files = [
            ModelFile(holding.file.readable, header.layers)
            for holding, header in zip(self.holdings, self.headers, strict=True)
            if holding.file.readable is not None and header is not None and header.layers
        ]
        return tuple(files) if len(files) == len(self.holdings) else ()

    def placement(self, held: Held, on_device: bool) -> tuple[LayerPlacement, ...]:
        """Where each layer is, as far as the address space shows it: llama.cpp unmaps what went to a device."""
        if held == "unknown":
            return ()
        found: dict[str, list[int]] = {}
        for holding, header in zip(self.holdings, self.headers, strict=True):
            for layer in header.layers if header else ():
                entry = found.setdefault(layer.name, [0, 0])
                entry[0] += layer.bytes
                entry[1] += _covered(layer.ranges, holding)
        return tuple(_placed(name, size, covered, held, on_device) for name, (size, covered) in found.items())


def group(holdings: Sequence[Holding], headers: Headers) -> tuple[Group, ...]:
    """The models, the largest first. The parts of a split model are one."""
    members: dict[str, list[Holding]] = {}
    for holding in holdings:
        members.setdefault(_PART.sub("-of-parts.gguf", holding.file.path), []).append(holding)
    groups = []
    for entries in members.values():
        entries.sort(key=lambda holding: holding.file.path)
        groups.append(Group(tuple(entries), tuple(headers.read(holding.file) for holding in entries)))
    return tuple(sorted(groups, key=lambda one: (-one.bytes, one.holdings[0].file.path)))


def describe(one: Group, held: Held, may: str, no_mappings: str = "") -> HeldModel:
    """The model as a reading. ``may``: what is said where there are no rights to the file.

    ``no_mappings``: why the address space cannot be read; empty where it can.
    """
    first = one.headers[0]
    file = one.holdings[0].file
    missing = []
    if first is None:
        missing.append(Missing("header", may))
    elif first.error:
        missing.append(Missing("header", first.error))
    if file.state in ("deleted", "replaced"):
        missing.append(Missing("file", _gone(file)))
    if no_mappings:
        missing.append(Missing("mapped_bytes", no_mappings))
    return HeldModel(
        path=file.path,
        held=held,
        found_by=tuple(dict.fromkeys(way for holding in one.holdings for way in holding.found_by)),
        file=file.state,
        file_bytes=one.bytes if all(holding.file.bytes is not None for holding in one.holdings) else None,
        mapped_bytes=None if no_mappings else one.mapped_bytes,
        name=first.name if first else "",
        architecture=first.architecture if first else "",
        quant=first.quant if first else "",
        n_layer=first.n_layer if first else None,
        n_ctx_train=first.n_ctx_train if first else None,
        missing=tuple(missing),
    )


def how_held(one: Group, anon_bytes: int | None, reads_whole_file: bool) -> Held:
    """Mapped where there is a mapping; copied where private memory is large enough for it; else nobody can tell."""
    if one.mapped_bytes:
        return "mapped"
    if anon_bytes is not None and one.bytes and anon_bytes >= _COPY * one.bytes:
        return "copied"
    return "copied" if reads_whole_file and anon_bytes is None else "unknown"


def _read(path: Path) -> Header:
    try:
        header = read_header(path, complete=False)
    except GgufError as error:
        return _failed(f"{error.what}: {error.why}")
    return Header(
        name=printable(header.text("general.name")),
        architecture=printable(header.architecture),
        quant=_quant(header),
        n_layer=header.number("block_count"),
        n_ctx_train=header.number("context_length"),
        layers=layer_ranges(header),
        token_bytes=_token_bytes(header),
    )


def _failed(why: str) -> Header:
    return Header("", "", "", None, None, (), 0, printable(why))


def _quant(header: GgufHeader) -> str:
    number = header.metadata.get("general.file_type")
    if isinstance(number, int) and number & ~_GUESSED in FILE_TYPES:
        return FILE_TYPES[number & ~_GUESSED]
    sizes: dict[str, int] = {}
    for tensor in header.tensors:
        sizes[tensor.type.name] = sizes.get(tensor.type.name, 0) + tensor.bytes
    return max(sizes, key=lambda name: sizes[name], default="")


def _token_bytes(header: GgufHeader) -> int:
    n_expert, n_used = header.number("expert_count"), header.number("expert_used_count")
    share = n_used / n_expert if n_expert and n_used and n_used <= n_expert else 1.0
    tied = all(tensor.name != "output.weight" for tensor in header.tensors)
    total = 0.0
    for tensor in header.tensors:
        if tensor.name == "token_embd.weight" and not tied:
            total += tensor.bytes / max(1, tensor.shape[-1])
        else:
            total += tensor.bytes * (share if "_exps." in tensor.name else 1.0)
    return round(total)


def _covered(ranges: Sequence[tuple[int, int]], holding: Holding) -> int:
    total = 0
    for start, end in ranges:
        for mapping in holding.mappings:
            low, high = max(start, mapping.offset), min(end, mapping.offset + mapping.end - mapping.start)
            total += max(0, high - low)
    return total


def _placed(name: str, size: int, covered: int, held: Held, on_device: bool) -> LayerPlacement:
    where: Where
    if held == "copied":
        where = "copied"
    elif 2 * covered >= size:
        where = "mapped"
    else:
        where = "device" if on_device else "unknown"
    return LayerPlacement(
        name=name,
        device="",
        where=where,
        mapped_bytes=size if where == "mapped" else 0,
        copied_bytes=size if where == "copied" else 0,
        device_bytes=size if where == "device" else 0,
    )


def _gone(file: GgufFile) -> str:
    if file.state == "deleted":
        return "It was deleted; the process still holds it, and its bytes are freed when the process lets go of it."
    return "Another file has taken its name; the process still holds the former one, and will until it loads it again."

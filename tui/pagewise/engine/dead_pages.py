"""Pages of the model file that nobody will read any more, given back after a load."""

from __future__ import annotations

from collections.abc import Mapping

from pagewise.engine.llamacpp.model import ModelFile
from pagewise.placement.pages import MappedFile
from pagewise.readings import Where

_WORTH = 16 * 1024 * 1024


def drop_copied(file: ModelFile, homes: Mapping[str, Where]) -> None:
    """Weights that were repacked into private memory are in RAM twice: give back those of the file."""
    if "mapped" not in homes.values():
        # Nothing is mapped, and nothing is held in RAM on our account.
        return
    for header in file.headers:
        ranges: list[tuple[int, int]] = []
        for tensor in sorted(header.tensors, key=lambda tensor: tensor.start):
            if homes.get(tensor.name) != "copied":
                continue
            if ranges and tensor.start - ranges[-1][1] < _WORTH // 1024:
                ranges[-1] = ranges[-1][0], tensor.end
            else:
                ranges.append((tensor.start, tensor.end))
        if sum(end - start for start, end in ranges) < _WORTH:
            continue
        try:
            mapped = MappedFile(header.path)
        except OSError:
            # Not mapped at all, or a system without the calls: the kernel drops these pages when memory is short.
            continue
        for start, end in ranges:
            mapped.drop(start, end)
        mapped.close()

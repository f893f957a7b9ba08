"""Keeps what loads came to beside their plans, and what the driver takes of each device, for the next plan."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial

from pagewise.messages import ModelInfo
from pagewise.profiles.learned import learn_driver, learn_load, model_key
from pagewise.readings import Snapshot

_NEWS = 16 * 1024 * 1024
"""The driver's share grows as kernels are loaded: less than this more is not worth writing down."""
_MOST = 4 * 1024**3
"""More is not the driver's: an estimate has met another program's growth."""


class Learning:
    """Told of each load and each snapshot; writes in a thread, one thing after the other."""

    def __init__(self) -> None:
        self._model: ModelInfo | None = None
        self._drivers: dict[str, int] = {}
        self._lock = asyncio.Lock()
        self._tasks: set[asyncio.Task[None]] = set()

    def on_loaded(self, model: ModelInfo) -> None:
        """A model is in force; the same one may be told of again."""
        former, self._model = self._model, model
        if model.planned and (former is None or former.planned != model.planned):
            key = model_key(model.path, model.file_bytes)
            self._write(partial(learn_load, key, model.planned))

    def on_snapshot(self, snapshot: Snapshot) -> None:
        """What is ours on a device and not llama.cpp's is the driver's."""
        if self._model is None:
            return
        ours: dict[str, int] = {}
        for buffer in self._model.buffers:
            ours[buffer.device] = ours.get(buffer.device, 0) + buffer.bytes
        for device in snapshot.devices.devices:
            for name, held in ours.items():
                if not device.is_called(name) or device.ours_bytes is None:
                    continue
                share = device.ours_bytes - held
                if self._drivers.get(name, 0) + _NEWS < share < _MOST:
                    self._drivers[name] = share
                    self._write(partial(learn_driver, name, share))

    def close(self) -> None:
        """What is not written yet is forgotten."""
        for task in self._tasks:
            task.cancel()

    def _write(self, write: Callable[[], None]) -> None:
        async def one_by_one() -> None:
            async with self._lock:
                await asyncio.to_thread(write)

        task = asyncio.create_task(one_by_one())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

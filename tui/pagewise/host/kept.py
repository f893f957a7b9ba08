"""Models that are held in memory beside the one in force, so that switching back to them is instant."""

from __future__ import annotations

import time
from typing import NamedTuple

from pagewise.host.supervise import Engine
from pagewise.messages import Load, ModelInfo
from pagewise.profiles.cost import takes_up
from pagewise.settings import Profile


class KeptModel(NamedTuple):
    """An engine that has been set aside with its model and its KV cache."""

    engine: Engine
    load: Load
    model: ModelInfo
    since: float
    """When it was set aside, on the monotonic clock."""

    @property
    def name(self) -> str:
        """Its profile's."""
        return self.load.profile.name


class Kept:
    """All of them, the one that was left first in front."""

    def __init__(self) -> None:
        self._models: list[KeptModel] = []

    def __bool__(self) -> bool:
        return bool(self._models)

    @property
    def all(self) -> tuple[KeptModel, ...]:
        """Those that are held now."""
        return tuple(self._models)

    def names(self) -> tuple[str, ...]:
        """Their profiles' names."""
        return tuple(kept.name for kept in self._models)

    def add(self, engine: Engine, load: Load, model: ModelInfo) -> KeptModel:
        """Hold this one too."""
        kept = KeptModel(engine, load, model, time.monotonic())
        self._models.append(kept)
        return kept

    def remove(self, kept: KeptModel) -> None:
        """It is held no more, or is in force again."""
        self._models.remove(kept)

    def find(self, profile: Profile) -> KeptModel | None:
        """One that can take ``profile`` up without loading anything."""
        return next((kept for kept in self._models if takes_up(kept.load.profile, profile)), None)

    def of(self, engine: Engine) -> KeptModel | None:
        """What this engine holds."""
        return next((kept for kept in self._models if kept.engine is engine), None)

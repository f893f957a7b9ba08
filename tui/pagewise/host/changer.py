"""How a change is carried out: in the engine that is there, in a new one, or with one that is kept beside it."""

from __future__ import annotations

import asyncio
import time

import msgspec

from pagewise.host.device_watch import DeviceWatch
from pagewise.host.kept import Kept, KeptModel
from pagewise.host.outlet import Outlet
from pagewise.host.room import fits_beside
from pagewise.host.sampler import Sampler
from pagewise.host.slot import EngineDied, EngineSlot, LoadRefused
from pagewise.host.supervise import Engine
from pagewise.messages import ChangeClass, Failure, Load, Loaded, LoadProgress
from pagewise.profiles.cost import change_class
from pagewise.readings import Devices
from pagewise.settings import Profile

CANCELLED = Failure("The load was cancelled", "You stopped it.", "Choose a profile (F2) when you want another model.")


class Change:
    """A load that can be cancelled. ``replaced``: another load takes its place, and nothing is to be restored."""

    def __init__(self, id: int) -> None:
        self.id = id
        self.cancelled = False
        self.replaced = False


class Changer:
    """Does what one change takes. ``kept`` are the models that are held beside."""

    def __init__(self, slot: EngineSlot, outlet: Outlet, sampler: Sampler) -> None:
        self.kept = Kept()
        self.waits_for_devices = False
        """Whether nothing is owed by any engine, because memory of a device is waited for."""
        self._slot = slot
        self._outlet = outlet
        self._sampler = sampler
        self._on_device = False
        """Whether a model that was here had memory of a device."""
        self._leaving: set[asyncio.Task[None]] = set()
        self._let_go: list[str] = []
        slot.kept = self.kept.names

    def why_let_go(self) -> str:
        """What was let go of since this was asked last, for the person; empty: nothing."""
        names, self._let_go = self._let_go, []
        if not names:
            return ""
        is_are = "is" if len(names) == 1 else "are"
        return f"{', '.join(names)} {is_are} no longer held: not all of it fits into memory at once"

    async def bring(self, change: Change, wanted: Load, kind: ChangeClass, former: Load | None) -> Loaded:
        """Have the engine in the slot hold ``wanted``. ``former``: what it holds now, if anything.

        Raises LoadRefused and EngineDied; ``kept`` of the former says whether ``former`` is still there.
        """
        if kind not in ("model", "process"):
            return await self.replace(change, wanted, kind, former)
        kept = self.kept.find(wanted.profile)
        if kept is not None:
            return await self._take_up(change, wanted, kept, former)
        is_to_stay = former is not None and self._is_to_stay(former.profile, wanted.profile)
        if is_to_stay and former is not None and await self._room_beside(wanted):
            try:
                return await self._beside(change, wanted, former)
            except (LoadRefused, EngineDied):
                # It may want for memory that the former model holds: then the load in its place shows it.
                if change.cancelled:
                    raise
        loaded = await self.replace(change, wanted, kind, former)
        if is_to_stay and former is not None:
            self._let_go.append(former.profile.name)
        return loaded

    def _is_to_stay(self, former: Profile, wanted: Profile) -> bool:
        """Another way of loading the same file takes its place: its weights and its KV cache are the same."""
        is_another = (former.model, former.quant) != (wanted.model, wanted.quant)
        return former.keep and is_another and self._slot.engine is not None and self._slot.model is not None

    async def replace(self, change: Change, wanted: Load, kind: ChangeClass, former: Load | None = None) -> Loaded:
        """The same in the place of what is there. Models that are kept give way where there is no room."""
        while kind != "context" and self.kept and not await self._fits(wanted, others=0):
            await self._let_oldest_go()
        try:
            return await self._replace(change, wanted, kind, former)
        except (LoadRefused, EngineDied) as error:
            holds = isinstance(error, LoadRefused) and error.kept is not None
            if kind == "context" or holds or change.cancelled or not self.kept:
                raise
        await self._let_all_go()
        return await self._replace(change, wanted, kind, former)

    async def drop(self, kept: KeptModel) -> None:
        """Let go of a model that is held, and of its memory."""
        self.kept.remove(kept)
        await self._slot.drop(kept.engine)

    async def drop_all(self) -> None:
        """Let go of all that are held."""
        for kept in self.kept.all:
            await self.drop(kept)

    # ---- in the place of what is there ------------------------------------------------------------------------------

    async def _replace(self, change: Change, wanted: Load, kind: ChangeClass, former: Load | None) -> Loaded:
        """Load in the engine that is there, or in a new one; on a device once more in a new one if that fails."""
        slot = self._slot
        if slot.engine is not None and kind == "context":
            return await self._load(change, wanted, kind, former)
        started = time.monotonic()
        watch = await DeviceWatch.begin(self._sampler.devices, slot.model)
        self._on_device = self._on_device or watch is not None
        waited_ms = 0.0
        freed = started
        if slot.engine is not None and kind == "model":
            self._go_on(change, former if slot.model is not None else None)
            self._progress(wanted.id, "free")
            await slot.unload(wanted.id, wanted.profile)
            freed = time.monotonic()
            has_come_back = await self._wait_for(watch, wanted.id)
            waited_ms = 1000 * (time.monotonic() - freed)
            if has_come_back:
                try:
                    return _timed(await self._load(change, wanted, "model", None), freed - started, waited_ms)
                except LoadRefused:
                    # Memory of a device is only surely free again when the process that held it has ended.
                    if change.cancelled or not self._on_device:
                        raise
        before_clear = time.monotonic()
        await slot.clear()
        freed += time.monotonic() - before_clear
        before_wait = time.monotonic()
        await self._wait_for(watch, wanted.id)
        waited_ms += 1000 * (time.monotonic() - before_wait)
        self._go_on(change, None)
        slot.set_state("starting", wanted.profile.name)
        await slot.start()
        return _timed(await self._load(change, wanted, "process", None), freed - started, waited_ms)

    async def _load(self, change: Change, wanted: Load, kind: ChangeClass, former: Load | None) -> Loaded:
        self._slot.set_state("loading", wanted.profile.name)
        self._go_on(change, former)
        return await self._slot.load(wanted.id, wanted.profile, kind)

    def _go_on(self, change: Change, holds: Load | None) -> None:
        """Between two steps. Raises LoadRefused once the change is cancelled; ``holds`` is what is in force still."""
        if change.cancelled:
            raise LoadRefused(CANCELLED, holds.profile.name if holds is not None else None)

    async def _wait_for(self, watch: DeviceWatch | None, id: int) -> bool:
        if watch is None:
            return True
        self._progress(id, "wait")
        self.waits_for_devices = True
        try:
            return await watch.given_back()
        finally:
            self.waits_for_devices = False
            self._slot.last_word_at = time.monotonic()

    def _progress(self, id: int, phase: str) -> None:
        self._outlet.send(LoadProgress(id, phase, 0, 0))

    # ---- beside what is there ---------------------------------------------------------------------------------------

    async def _room_beside(self, wanted: Load) -> bool:
        """Whether ``wanted`` fits beside the model in the slot; those kept for longest give way first."""
        while not await self._fits(wanted, others=1):
            if not self.kept:
                return False
            await self._let_oldest_go()
        return True

    async def _fits(self, wanted: Load, others: int) -> bool:
        """``others`` 1: beside the model in the slot too; 0: in its place."""
        held = [kept.model for kept in self.kept.all]
        if others and self._slot.model is not None:
            held.append(self._slot.model)
        devices = await self._devices()
        return await asyncio.to_thread(fits_beside, wanted.profile, held, devices)

    async def _devices(self) -> Devices:
        try:
            return await asyncio.wait_for(self._sampler.devices(), 3.0)
        except asyncio.TimeoutError:
            return Devices((), "The driver does not answer.")

    async def _beside(self, change: Change, wanted: Load, former: Load) -> Loaded:
        """Load in a new engine while the former one keeps what it has; if that fails it is back in its place."""
        slot = self._slot
        model = slot.model
        assert model is not None
        engine = slot.park()
        kept = self.kept.add(engine, former, model)
        try:
            slot.set_state("starting", wanted.profile.name)
            await slot.start()
            return await self._load(change, wanted, "process", None)
        except (LoadRefused, EngineDied) as error:
            await slot.clear()
            if kept not in self.kept.all:
                raise
            self.kept.remove(kept)
            slot.resume(engine, model)
            raise LoadRefused(error.failure, former.profile.name) from error

    async def _take_up(self, change: Change, wanted: Load, kept: KeptModel, former: Load | None) -> Loaded:
        """Have a model that is kept take over again."""
        slot = self._slot
        model = slot.model
        self._go_on(change, former if model is not None else None)
        parked: Engine | None = None
        if slot.engine is not None and former is not None and model is not None:
            parked = slot.park()
        else:
            await slot.clear()
        self.kept.remove(kept)
        slot.resume(kept.engine, kept.model)
        kind = change_class(kept.load.profile, wanted.profile)[0]
        try:
            if kind == "none":
                loaded = Loaded(wanted.id, wanted.profile, kept.model, "held", 0.0)
            else:
                loaded = await slot.load(wanted.id, wanted.profile, kind)
        except (LoadRefused, EngineDied) as error:
            if isinstance(error, LoadRefused) and error.kept is not None and slot.engine is kept.engine:
                slot.park()
                self.kept.add(kept.engine, kept.load, kept.model)
            else:
                await slot.clear()
            if parked is None or former is None or model is None or parked.end is not None:
                raise LoadRefused(error.failure, None) from error
            slot.resume(parked, model)
            raise LoadRefused(error.failure, former.profile.name) from error
        if parked is not None and former is not None and model is not None and parked.end is None:
            if former.profile.keep:
                self.kept.add(parked, former, model)
            else:
                self._leave(parked)
        return msgspec.structs.replace(loaded, change="held" if kind in ("none", "live") else kind)

    def _leave(self, engine: Engine) -> None:
        task = asyncio.create_task(self._slot.drop(engine))
        self._leaving.add(task)
        task.add_done_callback(self._leaving.discard)

    async def _let_oldest_go(self) -> None:
        oldest = self.kept.all[0]
        self._let_go.append(oldest.name)
        await self.drop(oldest)

    async def _let_all_go(self) -> None:
        while self.kept:
            await self._let_oldest_go()


def _timed(loaded: Loaded, free_s: float, wait_ms: float) -> Loaded:
    return msgspec.structs.replace(loaded, free_ms=1000 * free_s, wait_ms=wait_ms)

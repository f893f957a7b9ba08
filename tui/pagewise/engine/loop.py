"""The engine's loop: one command after the other."""

from __future__ import annotations

import os
from collections import deque

from pagewise.engine.carried import CarriedCache, inherited_file
from pagewise.engine.channel import Arrived, CommandReader, Events, Interrupt
from pagewise.engine.failures import Cancelled, Failed
from pagewise.engine.llamacpp import library
from pagewise.engine.llamacpp.template import TemplateProcess
from pagewise.engine.loading import Loader
from pagewise.engine.measuring import measure
from pagewise.engine.process import LOG_VARIABLE
from pagewise.engine.profiling import Asked
from pagewise.engine.quality import measure_quality
from pagewise.engine.quantizing import quantized
from pagewise.engine.turn import Turn
from pagewise.jobs.base import JobFailed, JobRequest
from pagewise.jobs.compare import MeasureQuality
from pagewise.jobs.measure import Measure
from pagewise.jobs.plan import MakePlan, Planned
from pagewise.jobs.quantize import Quantize
from pagewise.messages import (
    PROTOCOL,
    EngineHello,
    Event,
    Failure,
    Finished,
    FrameError,
    Generate,
    Hello,
    Load,
    Notice,
    Quit,
    Release,
    Unload,
)
from pagewise.trace import trace


def run(commands: int, events: int) -> None:
    """Serve commands from one descriptor, write events to the other, until Quit or the end of the pipe."""
    # Before any thread is there: the template process is forked off.
    kv_file = inherited_file()
    templates = TemplateProcess(not_inherited=(commands, events, kv_file))
    interrupt = Interrupt()
    asked = Asked()
    reader = CommandReader(commands, interrupt, asked.ask)
    reader.start()
    library.start()
    trace.open(os.environ.get(LOG_VARIABLE))
    engine = _Engine(Events(events), interrupt, templates, asked, reader, CarriedCache(kv_file))
    while True:
        arrived = engine.next()
        if isinstance(arrived, FrameError):
            engine.complain(arrived)
            break
        if not engine.serve(arrived):
            break
    engine.close()


_NO_MODEL = Failure(
    "There is no model to answer", "None has been loaded, or its load failed.", "Choose a profile (F2)."
)

_STOPPED = Failure("Stopped", "You stopped it.", "Start it again when you want it.")
_UNKNOWN = Failure("The engine cannot do this", "It does not know this kind of job.", "Install pagewise again.")


class _Engine:
    def __init__(
        self,
        events: Events,
        interrupt: Interrupt,
        templates: TemplateProcess,
        asked: Asked,
        reader: CommandReader,
        carried: CarriedCache,
    ) -> None:
        self._events = events
        self._reader = reader
        self._waiting: deque[Arrived | FrameError] = deque()
        """What arrived during a turn and could not be served within it."""
        self._asked = asked
        self._interrupt = interrupt
        self._templates = templates
        self._loader = Loader(events, interrupt, templates, carried)

    def next(self) -> Arrived | FrameError:
        """What is to be served next; waits for it."""
        return self._waiting.popleft() if self._waiting else self._reader.arrived.get()

    def between_tokens(self) -> None:
        """Put live changes in force that have arrived meanwhile. All else waits for the end of the turn.

        A change may overtake jobs that wait, and nothing else.
        """
        while not self._reader.arrived.empty():
            arrived = self._reader.arrived.get()
            match arrived:
                case Arrived(command=Load(id=id, profile=profile, change="live")) if self._only_jobs_wait():
                    self._interrupt.forget(id)
                    self._loader.load(id, profile, "live")
                case _:
                    self._waiting.append(arrived)

    def _only_jobs_wait(self) -> bool:
        return all(isinstance(one, Arrived) and isinstance(one.command, JobRequest) for one in self._waiting)

    def serve(self, arrived: Arrived) -> bool:
        """Do what was asked. Whether there is more to come."""
        match arrived.command:
            case Hello():
                self._hello()
            case Load(id=id, profile=profile, change=change, must_carry=must_carry):
                self._interrupt.begin(id)
                self._loader.load(id, profile, change, must_carry=must_carry)
                self._interrupt.end()
            case Unload(id=id, profile=profile):
                self._interrupt.begin(id)
                self._loader.unload(id, profile)
                self._interrupt.end()
            case Generate() as request:
                self._interrupt.begin(request.id)
                self._generate(request, arrived.at_ns)
                self._interrupt.end()
            case Release():
                self._loader.release()
            case JobRequest() as request:
                self._interrupt.begin(request.id)
                self._events.send(self._answer(request))
                self._interrupt.end()
            case Quit():
                return False
        return True

    def complain(self, error: FrameError) -> None:
        """Say that the host does not speak this protocol."""
        self._events.send(
            Notice(Failure("The engine cannot go on", str(error), "This is a fault of pagewise: please report it."))
        )

    def close(self) -> None:
        """Let go of all memory and end the template process."""
        self._loader.release()
        self._templates.close()
        trace.close()
        os._exit(0)

    def _hello(self) -> None:
        devices = tuple(f"{device.name}: {device.description}" for device in library.devices())
        self._events.send(EngineHello(PROTOCOL, os.getpid(), library.version(), library.system_info(), devices))

    def _answer(self, request: JobRequest) -> Event:
        try:
            return self._job(request)
        except Failed as error:
            return JobFailed(request.id, error.failure)
        except Cancelled:
            return JobFailed(request.id, _STOPPED, cancelled=True)

    def _job(self, request: JobRequest) -> Event:
        running = self._loader.running
        match request:
            case MakePlan(profile=profile):
                return Planned(request.id, self._loader.plan(profile))
            case Measure():
                if running is None:
                    return JobFailed(request.id, _NO_MODEL)
                return measure(running, request, self._interrupt)
            case MeasureQuality():
                if running is None:
                    return JobFailed(request.id, _NO_MODEL)
                try:
                    return measure_quality(running, request, self._interrupt, self._events.send)
                finally:
                    self._loader.release()
            case Quantize():
                return quantized(request, self._events.send)
        return JobFailed(request.id, _UNKNOWN)

    def _generate(self, request: Generate, read_ns: int) -> None:
        failure: Failure | None = _NO_MODEL
        if self._loader.running is None and self._loader.released is not None:
            failure = self._loader.load(request.id, self._loader.released, "model")
        running = self._loader.running
        if running is None:
            self._events.send(Finished(request.id, "failed", None, failure))
            return
        turn = Turn(running, request, read_ns, self._events, self._interrupt, self._asked, self.between_tokens)
        turn.run()

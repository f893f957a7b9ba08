"""The engine's loop: one command after the other."""

from __future__ import annotations

import os

from pagewise.engine.channel import Arrived, CommandReader, Events, Interrupt
from pagewise.engine.llamacpp import library
from pagewise.engine.llamacpp.template import TemplateProcess
from pagewise.engine.loading import Loader
from pagewise.engine.process import LOG_VARIABLE
from pagewise.engine.profiling import Asked
from pagewise.engine.turn import Turn
from pagewise.messages import (
    PROTOCOL,
    EngineHello,
    Failure,
    Finished,
    FrameError,
    Generate,
    Hello,
    Load,
    Notice,
    Quit,
    Release,
)
from pagewise.trace import trace


def run(commands: int, events: int) -> None:
    """Serve commands from one descriptor, write events to the other, until Quit or the end of the pipe."""
    # Before any thread is there: the template process is forked off.
    templates = TemplateProcess(not_inherited=(commands, events))
    interrupt = Interrupt()
    asked = Asked()
    reader = CommandReader(commands, interrupt, asked.ask)
    reader.start()
    library.start()
    trace.open(os.environ.get(LOG_VARIABLE))
    engine = _Engine(Events(events), interrupt, templates, asked)
    while True:
        arrived = reader.arrived.get()
        if isinstance(arrived, FrameError):
            engine.complain(arrived)
            break
        if not engine.serve(arrived):
            break
    engine.close()


_NO_MODEL = Failure(
    "There is no model to answer", "None has been loaded, or its load failed.", "Choose a profile (F2)."
)


class _Engine:
    def __init__(self, events: Events, interrupt: Interrupt, templates: TemplateProcess, asked: Asked) -> None:
        self._events = events
        self._asked = asked
        self._interrupt = interrupt
        self._templates = templates
        self._loader = Loader(events, interrupt, templates)

    def serve(self, arrived: Arrived) -> bool:
        """Do what was asked. Whether there is more to come."""
        match arrived.command:
            case Hello():
                self._hello()
            case Load(id=id, profile=profile, change=change):
                self._interrupt.begin(id)
                self._loader.load(id, profile, change)
                self._interrupt.end()
            case Generate() as request:
                self._interrupt.begin(request.id)
                self._generate(request, arrived.at_ns)
                self._interrupt.end()
            case Release():
                self._loader.release()
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

    def _generate(self, request: Generate, read_ns: int) -> None:
        failure: Failure | None = _NO_MODEL
        if self._loader.running is None and self._loader.released is not None:
            failure = self._loader.load(request.id, self._loader.released, "model")
        running = self._loader.running
        if running is None:
            self._events.send(Finished(request.id, "failed", None, failure))
            return
        Turn(running, request, read_ns, self._events, self._interrupt, self._asked).run()

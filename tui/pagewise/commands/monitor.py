"""``pagewise monitor``: the models of other processes, as a table, as JSON, or for Prometheus."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

import msgspec

from pagewise.commands.chat import check_theme
from pagewise.commands.monitor_table import table
from pagewise.commands.problem import report
from pagewise.messages import Failure, Monitor, Monitored
from pagewise.monitor.choice import Choice, ChoiceError
from pagewise.monitor.listen import Listener
from pagewise.monitor.watch import Watch
from pagewise.readings import MonitorSample
from pagewise.record.recorder import Recorder

ONCE_S = 1.1
"""``--once`` takes two samples so far apart: rates are differences."""
_SERVERS_S = 1.5
INTERRUPTED = 130
TERMINATED = 143


def run(
    pid: int | None,
    file: Path | None,
    url: str | None,
    interval_s: float,
    count: int | None,
    once: bool,
    json: bool,
    listen: str | None,
    record: Path | None = None,
) -> int:
    """Write what was asked for, and return the exit status.

    Raises ChoiceError and GgufError for a bad choice, RecordError where ``record`` cannot be written.
    """
    if not sys.platform.startswith("linux"):
        raise ChoiceError(_NOT_LINUX)
    choice = Choice(pid, file, url)
    # A service that is stopped ends its record in good order too.
    signal.signal(signal.SIGTERM, _terminated)
    with contextlib.ExitStack() as stack:
        sinks: list[Callable[[MonitorSample], None]] = []
        if record is not None:
            recorder = stack.enter_context(Recorder(record, "monitor"))
            recorder.take(Monitor(interval_s, pid, str(file.absolute()) if file else None, url))
            sinks.append(lambda sample: _keep(recorder, sample))
        return _sample(choice, interval_s, count, once, json, listen, sinks)


def _sample(
    choice: Choice,
    interval_s: float,
    count: int | None,
    once: bool,
    json: bool,
    listen: str | None,
    sinks: list[Callable[[MonitorSample], None]],
) -> int:
    if once:
        watch = Watch(choice)
        try:
            return _once(watch, json, sinks)
        finally:
            watch.close()
    listener = Listener(listen) if listen is not None else None
    watch = Watch(choice)
    try:
        if listener is not None:
            print(f"Serving {listener.url} every {interval_s:g} s; Ctrl-C ends it.", file=sys.stderr)
        _follow(watch, choice, interval_s, count, [*sinks, *_sinks(listener, json)])
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:
        # Whoever read our output has had enough; the interpreter must not complain while it flushes.
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    finally:
        watch.close()
        if listener is not None:
            listener.close()
    return 0


def _terminated(*_: object) -> None:
    sys.exit(TERMINATED)


def as_line(sample: MonitorSample) -> str:
    """The sample as one line of JSON."""
    return msgspec.json.encode(sample).decode("utf-8")


def _keep(recorder: Recorder, sample: MonitorSample) -> None:
    failure = recorder.take(Monitored(sample))
    if failure is not None:
        report(failure)


def _once(watch: Watch, json: bool, sinks: list[Callable[[MonitorSample], None]]) -> int:
    watch.sample()
    time.sleep(ONCE_S)
    watch.ask_servers(_SERVERS_S)
    sample = watch.sample()
    for sink in sinks:
        sink(sample)
    width = os.get_terminal_size().columns if sys.stdout.isatty() else None
    print(as_line(sample) if json else "\n".join(table(sample, width)))
    return 0


def _sinks(listener: Listener | None, json: bool) -> list[Callable[[MonitorSample], None]]:
    sinks: list[Callable[[MonitorSample], None]] = []
    if listener is not None:
        sinks.append(listener.show)
    if json:
        sinks.append(lambda sample: print(as_line(sample), flush=True))
    return sinks


def _follow(
    watch: Watch,
    choice: Choice,
    interval_s: float,
    count: int | None,
    sinks: list[Callable[[MonitorSample], None]],
) -> None:
    """Sample at a steady rate, until ``count`` samples are out or the one process that was chosen has ended."""
    due = time.monotonic()
    done = 0
    while True:
        sample = watch.sample()
        for sink in sinks:
            sink(sample)
        done += 1
        ended = choice.pid is not None and any(model.state == "ended" for model in sample.models)
        if done == count or ended:
            return
        due = max(due + interval_s, time.monotonic())
        time.sleep(max(0.0, due - time.monotonic()))


_NOT_LINUX = Failure(
    "The monitor works on Linux only",
    "Elsewhere the system does not show which files another process has mapped.",
    "The chat's own gauges work here: run `pagewise`.",
)


def full_screen(
    pid: int | None,
    file: Path | None,
    url: str | None,
    interval_s: float,
    theme: str | None,
    record: Path | None = None,
) -> int:
    """Open the full screen, and return the exit status.

    Raises ChoiceError and GgufError for a bad choice, RecordError where ``record`` cannot be written.
    """
    if not sys.platform.startswith("linux"):
        raise ChoiceError(_NOT_LINUX)
    Choice(pid, file, url)
    if theme is not None:
        check_theme(theme)
    from pagewise.app.monitor_app import MonitorApp
    from pagewise.monitor.local import LocalMonitor

    wanted = Monitor(interval_s, pid, str(file.absolute()) if file else None, url)
    with contextlib.ExitStack() as stack:
        keep = stack.enter_context(Recorder(record, "monitor")).take if record is not None else None
        MonitorApp(LocalMonitor(keep), wanted, theme).run()
    return 0

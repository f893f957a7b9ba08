"""The host's entry: moves the protocol away from the standard streams, then serves until its input closes."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import stat
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from pagewise.host.descriptors import engine_log, host_log, take_descriptors

if TYPE_CHECKING:
    from pagewise.host.watchdog import Limits

_READ = 1 << 16
ENGINE = (sys.executable, "-m", "pagewise.engine")


def main(engine_command: Sequence[str] = ENGINE, limits: Limits | None = None) -> None:
    """Run a host on standard input and output. Ends the process. ``limits`` are the watchdog's."""
    if os.isatty(0):
        sys.stderr.write(
            "pagewise host is the part of pagewise that runs beside the model; `pagewise` starts it by itself.\n"
        )
        sys.exit(2)
    commands, events = take_descriptors(host_log())
    # The thread of the instruments must give the interpreter back before a token has waited for it.
    sys.setswitchinterval(0.001)
    asyncio.run(serve(commands, events, engine_command, limits))
    # A driver that hangs in the thread of the instruments must not keep this process.
    sys.stderr.flush()
    os._exit(0)


async def serve(commands: int, events: int, engine_command: Sequence[str], limits: Limits | None = None) -> None:
    """Serve one connection: commands from one descriptor, events to the other."""
    from pagewise.host.outlet import Outlet
    from pagewise.host.session import Session
    from pagewise.messages import FrameError, FrameReader, decode_command

    loop = asyncio.get_running_loop()
    log = engine_log()
    over = asyncio.Event()
    outlet = await Outlet.open(events, over.set)
    session = Session(outlet, engine_command, log, over, limits)
    for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
        loop.add_signal_handler(number, over.set)

    async def listen() -> None:
        kind = os.fstat(commands).st_mode
        if not (stat.S_ISFIFO(kind) or stat.S_ISSOCK(kind)):
            # Nobody can speak through it, and it would never be seen to close.
            return
        reader = asyncio.StreamReader()
        pipe = os.fdopen(commands, "rb", buffering=0)
        await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), pipe)
        frames = FrameReader()
        while data := await reader.read(_READ):
            try:
                for _, payload in frames.feed(data):
                    session.handle(decode_command(payload))
            except FrameError as error:
                sys.stderr.write(f"the app sent what is not the protocol: {error}\n")
                break

    listening = asyncio.create_task(listen())
    listening.add_done_callback(lambda _: over.set())
    await over.wait()
    await session.close()
    await outlet.close()
    listening.cancel()
    if not session.lost_any:
        with contextlib.suppress(OSError):
            log.unlink(missing_ok=True)

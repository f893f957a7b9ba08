"""The engine's entry: sets up the process, then runs the loop."""

from __future__ import annotations

import os
import sys


def main() -> None:
    """Run an engine on standard input and output until the host says Quit or goes away."""
    host = os.getppid()
    from pagewise.engine import process

    commands, events = process.take_descriptors()
    process.ignore_keyboard()
    process.die_with_host(host)
    process.let_host_look(host)
    process.offer_to_oom_killer()
    # The reader thread must get the interpreter between two tokens, not one 5 ms slice later.
    sys.setswitchinterval(0.0005)
    # numpy comes with llama_cpp; its thread pool would be of no use, and must not exist before a fork.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

    from pagewise.engine.loop import run

    run(commands, events)

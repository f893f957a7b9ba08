"""A run started in the background inherits an ignored SIGINT: the programs that it starts would ignore Ctrl-C too."""

from __future__ import annotations

import signal

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

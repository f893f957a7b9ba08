"""How a process that works for the host tells it of its work: messages on its standard output, each with its length."""

from __future__ import annotations

import os
import struct
import sys

import msgspec
from msgspec import Struct

from pagewise.failure import Failure

LENGTH = struct.Struct(">I")


class Step(Struct, frozen=True, tag=True):
    """How far it is. ``total`` 0: how much there is to do is not known."""

    phase: str
    done: int
    total: int
    detail: str = ""


class Failed(Struct, frozen=True, tag=True):
    """It could not be done."""

    failure: Failure


class Teller:
    """Takes standard output for itself: what anything else prints goes to standard error."""

    def __init__(self) -> None:
        self._descriptor = os.dup(1)
        os.dup2(2, 1)
        sys.stdout = sys.stderr

    def tell(self, message: Struct) -> None:
        """Write one message. Where nobody listens any more, the process ends: its work is for nobody."""
        payload = msgspec.msgpack.encode(message)
        left = memoryview(LENGTH.pack(len(payload)) + payload)
        try:
            while left:
                left = left[os.write(self._descriptor, left) :]
        except BrokenPipeError:
            os._exit(0)

"""A process that holds a model file in one way or another, started with its own interpreter: ``held_by``.

Run as a program: ``holder.py WAY FILE``; says ``ready`` and ends when its input does.
"""

from __future__ import annotations

import contextlib
import ctypes
import mmap
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

CHUNK = 1 << 20


@contextlib.contextmanager
def held_by(
    way: str,
    file: Path | str,
    arguments: Sequence[str] = (),
    name: str = "llama-server",
    script: Path | None = None,
    **options: Any,
) -> Iterator[subprocess.Popen[str]]:
    """A process that holds ``file`` until the block ends, and calls itself ``name``.

    ``way``: ``map`` (Python keeps it open, too), ``bare`` (mapped, and closed), ``open``,
    ``write``, ``copy`` (read into private memory, then closed), ``serve`` (mapped, with
    llama-server's pages on a port of its own) or ``name`` (nothing). ``script``: another program than this one.
    """
    command = [name, str(script or __file__), way, str(file), *arguments]
    process = subprocess.Popen(
        command, executable=sys.executable, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, **options
    )
    assert process.stdin is not None and process.stdout is not None
    try:
        assert process.stdout.readline() == "ready\n"
        yield process
    finally:
        with contextlib.suppress(BrokenPipeError):
            process.stdin.close()
        process.wait(20)
        process.stdout.close()


def main(way: str, name: str) -> None:
    held: list[Any] = []
    if way in ("map", "serve"):
        with open(name, "rb") as file:
            mapping = mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ)
        held.append((mapping, mapping[0], mapping[len(mapping) // 2]))
    elif way == "bare":
        held.append(_bare(name))
    elif way in ("open", "write"):
        held.append(open(name, "rb" if way == "open" else "ab"))  # noqa: SIM115 - held until the end
    elif way == "copy":
        held.append(Path(name).read_bytes())
    if way == "serve":
        held.append(_serve())
    print("ready", flush=True)
    sys.stdin.read()


def _bare(name: str) -> int:
    libc = ctypes.CDLL(None)
    libc.mmap.restype = ctypes.c_void_p
    libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, *[ctypes.c_int] * 3, ctypes.c_long]
    with open(name, "rb") as file:
        address: int = libc.mmap(None, Path(name).stat().st_size, 1, 1, file.fileno(), 0)
    assert ctypes.string_at(address, 4) == b"GGUF"
    return address


def _serve() -> ThreadingHTTPServer:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b'[{"id": 0, "is_processing": false, "n_ctx": 512}]')

        def log_message(self, format: str, *arguments: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])

"""A server on loopback that answers as a test says: JSON, text, an error, slowly, or drop by drop."""

from __future__ import annotations

import contextlib
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


class FakeServer(ThreadingHTTPServer):
    """``pages`` by path: a text or bytes, what becomes JSON, or a number, the status of an error."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.pages: dict[str, Any] = {}
        self.asked: list[str] = []
        self.hold = threading.Event()
        """While it is not set, nothing is answered if ``slow`` is."""
        self.slow = False
        self.drops = False

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class _Handler(BaseHTTPRequestHandler):
    server: FakeServer

    def do_GET(self) -> None:
        self.server.asked.append(self.path)
        if self.server.slow:
            self.server.hold.wait(20)
        page = self.server.pages.get(self.path, 404)
        with contextlib.suppress(ConnectionError):
            if isinstance(page, int):
                self.send_error(page)
                return
            body = (
                page
                if isinstance(page, bytes)
                else page.encode()
                if isinstance(page, str)
                else json.dumps(page).encode()
            )
            self.send_response(200)
            self.end_headers()
            if self.server.drops:
                while not self.server.hold.wait(0.05):
                    self.wfile.write(b" ")
            self.wfile.write(body)

    def log_message(self, format: str, *arguments: Any) -> None:
        pass


@contextlib.contextmanager
def serving() -> Iterator[FakeServer]:
    server = FakeServer()
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.hold.set()
        server.shutdown()
        server.server_close()
        thread.join()


def llama_server(server: FakeServer, decoded: int = 0, predicted: int = 100, seconds: float = 2.0) -> None:
    """Pages as llama-server has them: one slot at work with ``decoded`` tokens, one idle; and its counters."""
    server.pages = {
        "/props": {
            "default_generation_settings": {"n_ctx": 4096},
            "total_slots": 2,
            "model_path": "/models/\x1b[31mevil.gguf",
        },
        "/slots": [
            {
                "id": 0,
                "id_task": 5,
                "n_ctx": 4096,
                "is_processing": True,
                "n_prompt_tokens": 100,
                "n_prompt_tokens_processed": 60,
                "n_prompt_tokens_cache": 20,
                "next_token": [{"n_decoded": decoded}],
            },
            {"id": 1, "n_ctx": 4096, "is_processing": False},
        ],
        "/metrics": (
            "# HELP llamacpp:prompt_tokens_total Number of prompt tokens processed.\n"
            f"llamacpp:prompt_tokens_total {10 * predicted}\n"
            f"llamacpp:prompt_seconds_total {seconds}\n"
            f"llamacpp:tokens_predicted_total {predicted}\n"
            f"llamacpp:tokens_predicted_seconds_total {seconds}\n"
            "llamacpp:requests_processing 1\n"
            "llamacpp:requests_deferred 3\n"
        ),
    }

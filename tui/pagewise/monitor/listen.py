"""Serves the latest sample to Prometheus over HTTP."""

from __future__ import annotations

import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from pagewise.messages import Failure
from pagewise.models.gguf import printable
from pagewise.monitor.choice import ChoiceError
from pagewise.monitor.exposition import CONTENT_TYPE, exposition
from pagewise.readings import MonitorSample

_WITHIN_S = 5.0


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    page = b""


class _Handler(BaseHTTPRequestHandler):
    timeout = _WITHIN_S
    server_version = "pagewise"
    sys_version = ""

    def do_GET(self) -> None:
        """``/metrics``, and nothing else."""
        self._answer(with_page=True)

    def do_HEAD(self) -> None:
        """The same without the page."""
        self._answer(with_page=False)

    def _answer(self, *, with_page: bool) -> None:
        assert isinstance(self.server, _Server)
        if self.path.partition("?")[0] != "/metrics":
            self.send_error(404, "The readings are at /metrics")
            return
        page = self.server.page
        self.send_response(200)
        self.send_header("Content-Type", CONTENT_TYPE)
        self.send_header("Content-Length", str(len(page)))
        self.end_headers()
        if with_page:
            self.wfile.write(page)

    def log_message(self, format: str, *arguments: Any) -> None:
        """Who asks is nobody's business here."""


class Listener:
    """Answers ``GET /metrics`` with the sample that was shown last."""

    def __init__(self, where: str) -> None:
        """``where``: ``127.0.0.1:9184``. Raises ChoiceError."""
        host, colon, port = where.rpartition(":")
        if not colon or not port.isascii() or not port.isdigit() or int(port) > 65_535:
            raise ChoiceError(
                Failure(
                    f"{printable(where)} is no address to listen on",
                    "It must be an address and a port.",
                    "For example: `pagewise monitor --listen 127.0.0.1:9184`.",
                )
            )
        try:
            self._server = _Server((host.strip("[]") or "127.0.0.1", int(port)), _Handler)
        except OSError as error:
            raise ChoiceError(
                Failure(
                    f"Nothing can listen on {printable(where)}",
                    f"The system says: {error.strerror or error}.",
                    "Choose another port; ports below 1024 take root.",
                )
            ) from error
        self._thread = threading.Thread(target=self._server.serve_forever, name="listen", daemon=True)

    @property
    def url(self) -> str:
        """Where the page is."""
        host, port = self._server.server_address[:2]
        return f"http://{host!s}:{port}/metrics"

    def show(self, sample: MonitorSample) -> None:
        """The sample that is handed out from now on. Whoever asks before there is one waits for it."""
        self._server.page = exposition(sample).encode("utf-8", errors="replace")
        if not self._thread.is_alive():
            self._thread.start()

    def close(self) -> None:
        """Answer no more."""
        if self._thread.is_alive():
            self._server.shutdown()
        self._server.server_close()

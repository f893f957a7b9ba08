"""A small hub on loopback: the routes of the real one, its redirects to another server that serves ranges, its faults.

Files are served by a second server with another port, as the real one's are by another host: a token that is sent
there has leaked.
"""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote, urlsplit

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@dataclass
class Faults:
    """What goes wrong."""

    break_after: list[int] = field(default_factory=list)
    """Each connection takes one off: so many bytes, then the connection ends."""
    stall_after: list[int] = field(default_factory=list)
    """The same, but it stays open and says nothing more."""
    ignore_ranges: bool = False
    corrupt: bool = False
    """The bytes that come are not those of the checksum."""
    status: int | None = None
    """Every answer of the hub."""
    error_code: str = ""
    silent: bool = False
    """The hub takes connections and never answers."""
    token: str = ""
    """Who does not send it is refused."""


@dataclass
class Hub:
    """The state of both servers. ``files`` are those of the one repository ``repository``."""

    repository: str
    files: dict[str, bytes]
    faults: Faults = field(default_factory=Faults)
    large: frozenset[str] | None = None
    """Paths kept by LFS; None: all of them."""
    ranges: list[str | None] = field(default_factory=list)
    """What was asked of the server of files, one a request."""
    leaked: list[str] = field(default_factory=list)
    """Tokens that reached the server of files."""
    endpoint: str = ""
    store: str = ""
    over: threading.Event = field(default_factory=threading.Event)

    def sha256(self, path: str) -> str:
        return hashlib.sha256(self.files[path]).hexdigest()

    def blob_id(self, path: str) -> str:
        return hashlib.sha1(b"blob %d\0" % len(self.files[path]) + self.files[path]).hexdigest()

    def is_large(self, path: str) -> bool:
        return self.large is None or path in self.large

    def environment(self, home: str) -> dict[str, str]:
        """What a pull from this hub into ``home`` needs."""
        return {"HF_ENDPOINT": self.endpoint, "HF_HOME": home, "HF_HUB_DISABLE_XET": "1", "NO_PROXY": "*"}


@contextmanager
def serving(hub: Hub) -> Iterator[Hub]:
    """Both servers, while the block lasts."""
    front = _server(_Front, hub)
    store = _server(_Store, hub)
    hub.endpoint = f"http://127.0.0.1:{front.server_port}"
    hub.store = f"http://127.0.0.1:{store.server_port}"
    try:
        yield hub
    finally:
        hub.over.set()
        for server in (front, store):
            server.shutdown()
            server.server_close()


def _server(handler: type[_Handler], hub: Hub) -> ThreadingHTTPServer:
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Bound", (handler,), {"hub": hub}))
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    return server


class _Handler(BaseHTTPRequestHandler):
    hub: Hub
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: Any) -> None:
        return

    def do_HEAD(self) -> None:
        self.answer(body=False)

    def do_GET(self) -> None:
        self.answer(body=True)

    def answer(self, body: bool) -> None:
        raise NotImplementedError

    def reply(self, status: int, headers: dict[str, str], content: bytes = b"", body: bool = True) -> None:
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(content))}.items():
            self.send_header(name, value)
        self.end_headers()
        if body:
            self.wfile.write(content)


class _Front(_Handler):
    def answer(self, body: bool) -> None:
        hub = self.hub
        if hub.faults.silent:
            hub.over.wait()
            return
        path = unquote(urlsplit(self.path).path)
        if hub.faults.status is not None:
            self.reply(hub.faults.status, {"X-Error-Code": hub.faults.error_code}, b"{}", body)
        elif hub.faults.token and self.headers.get("Authorization") != f"Bearer {hub.faults.token}":
            self.reply(401, {"X-Error-Code": "GatedRepo"}, b"{}", body)
        elif path == f"/api/models/{hub.repository}":
            self.reply(200, {"Content-Type": "application/json"}, json.dumps(self.listing()).encode(), body)
        elif path.startswith(f"/{hub.repository}/resolve/"):
            self.resolve(path.split("/resolve/", 1)[1].split("/", 1)[1], body)
        else:
            self.reply(404, {"X-Error-Code": "RepoNotFound"}, b"{}", body)

    def listing(self) -> dict[str, Any]:
        hub = self.hub
        siblings = []
        for path, content in hub.files.items():
            sibling: dict[str, Any] = {"rfilename": path, "size": len(content), "blobId": hub.blob_id(path)}
            if hub.is_large(path):
                sibling["lfs"] = {"size": len(content), "sha256": hub.sha256(path), "pointerSize": 134}
            siblings.append(sibling)
        return {"id": hub.repository, "sha": COMMIT, "siblings": siblings, "private": False, "tags": [], "downloads": 0}

    def resolve(self, path: str, body: bool) -> None:
        hub = self.hub
        if path not in hub.files:
            self.reply(404, {"X-Error-Code": "EntryNotFound", "X-Repo-Commit": COMMIT}, b"", body)
            return
        headers = {"X-Repo-Commit": COMMIT}
        if hub.is_large(path):
            headers |= {
                "X-Linked-Etag": f'"{hub.sha256(path)}"',
                "X-Linked-Size": str(len(hub.files[path])),
                "Location": f"{hub.store}/{path}?signature=of-this-minute",
            }
            self.reply(302, headers, b"", body)
        else:
            self.reply(200, {**headers, "ETag": f'"{hub.blob_id(path)}"'}, hub.files[path], body)


class _Store(_Handler):
    def answer(self, body: bool) -> None:
        hub = self.hub
        faults = hub.faults
        content = hub.files[unquote(urlsplit(self.path).path)[1:]]
        if faults.corrupt:
            content = bytes(byte ^ 0x55 for byte in content)
        asked = self.headers.get("Range")
        if token := self.headers.get("Authorization"):
            hub.leaked.append(token)
        if not body:
            self.reply(200, {}, content, body)
            return
        hub.ranges.append(asked)
        start = int(asked.removeprefix("bytes=").partition("-")[0]) if asked and not faults.ignore_ranges else 0
        piece = content[start:]
        self.send_response(206 if asked and not faults.ignore_ranges else 200)
        self.send_header("Content-Length", str(len(piece)))
        if asked:
            self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        self.end_headers()
        if faults.stall_after:
            self.wfile.write(piece[: faults.stall_after.pop(0)])
            hub.over.wait()
        elif faults.break_after:
            self.wfile.write(piece[: faults.break_after.pop(0)])
            self.close_connection = True
        else:
            self.wfile.write(piece)

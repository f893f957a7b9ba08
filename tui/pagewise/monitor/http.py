"""One GET over plain HTTP, with a deadline for the whole answer and a limit on its size. Redirects are not followed."""

from __future__ import annotations

import http.client
import io
import socket
import ssl
import time
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import msgspec

MOST_BYTES = 1 << 20
_PIECE = 1 << 16


class NoAnswer(Exception):
    """There is no usable answer; the message is one plain clause that says why."""


class Address(NamedTuple):
    """Where a server is: ``path`` stands before every question, without a slash at its end."""

    host: str
    port: int
    path: str
    tls: bool


def parse_url(url: str) -> Address:
    """The address in an ``http`` or ``https`` URL. Raises ValueError with a plain clause."""
    parts = urlsplit(url if "://" in url else f"http://{url}")
    if parts.scheme not in ("http", "https"):
        raise ValueError(f"{parts.scheme} is not a protocol that is spoken here: give http://host:port")
    if not parts.hostname:
        raise ValueError("it names no host: give http://host:port")
    tls = parts.scheme == "https"
    return Address(parts.hostname, parts.port or (443 if tls else 80), parts.path.rstrip("/"), tls)


def get(address: Address, path: str, within_s: float) -> bytes:
    """The body of the answer to ``GET path``. Raises NoAnswer."""
    try:
        raw = _exchange(address, path, within_s)
    except TimeoutError as error:
        raise NoAnswer(_late(within_s)) from error
    except ConnectionRefusedError as error:
        raise NoAnswer("nothing listens there") from error
    except OSError as error:
        raise NoAnswer(f"the connection failed: {error.strerror or error}") from error
    response = http.client.HTTPResponse(_Received(raw))  # type: ignore[arg-type]  # all it asks of a socket
    try:
        response.begin()
        if response.status != 200:
            raise NoAnswer(_refusal(response.status))
        return response.read()
    except (http.client.HTTPException, ValueError) as error:
        raise NoAnswer("what answers there does not speak HTTP") from error


class _Received:
    """Bytes that were received, in the shape of a socket that can be read."""

    def __init__(self, raw: bytes) -> None:
        self._raw = raw

    def makefile(self, mode: str) -> io.BytesIO:
        return io.BytesIO(self._raw)


def _exchange(address: Address, path: str, within_s: float) -> bytes:
    """Everything that is sent until the connection is closed. One deadline holds for all of it, drop by drop too."""
    deadline = time.monotonic() + within_s
    host = f"[{address.host}]" if ":" in address.host else address.host
    request = (
        f"GET {address.path}{path} HTTP/1.0\r\nHost: {host}:{address.port}\r\n"
        "User-Agent: pagewise-monitor\r\nAccept: */*\r\nConnection: close\r\n\r\n"
    )
    connection = socket.create_connection((address.host, address.port), timeout=within_s)
    try:
        if address.tls:
            connection = ssl.create_default_context().wrap_socket(connection, server_hostname=address.host)
        connection.sendall(request.encode("ascii", errors="replace"))
        received = bytearray()
        while True:
            left = deadline - time.monotonic()
            if left <= 0:
                raise TimeoutError
            connection.settimeout(left)
            piece = connection.recv(_PIECE)
            if not piece:
                return bytes(received)
            received += piece
            if len(received) > MOST_BYTES:
                raise NoAnswer(f"its answer is longer than {MOST_BYTES // 1024} KiB")
    finally:
        connection.close()


def get_json(address: Address, path: str, within_s: float) -> Any:
    """The same, decoded. Raises NoAnswer, also where the answer is another kind of text."""
    body = get(address, path, within_s)
    try:
        return msgspec.json.decode(body)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        raise NoAnswer(_not_json(body)) from error


def looks_like_html(body: bytes) -> bool:
    """Whether this is a page for a browser."""
    start = body[:256].lstrip().lower()
    return start.startswith((b"<!doctype", b"<html", b"<head", b"<body"))


def _not_json(body: bytes) -> str:
    return "it answers with a web page, not with figures" if looks_like_html(body) else "its answer is not JSON"


def _late(within_s: float) -> str:
    return f"no whole answer within {within_s:g} s"


def _refusal(status: int) -> str:
    if status in (401, 403):
        return f"it wants an API key (HTTP {status})"
    if status in (404, 405):
        return f"it has no such page (HTTP {status})"
    if status == 501:
        return "it was started without it (HTTP 501)"
    if status == 503:
        return "it is still loading its model, or busy (HTTP 503)"
    if 300 <= status < 400:
        return f"it sends the question elsewhere (HTTP {status}), and that is not followed"
    return f"it answers with an error (HTTP {status})"

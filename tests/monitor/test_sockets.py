from __future__ import annotations

import os
import socket

from hypothesis import given
from hypothesis import strategies as st

from pagewise.monitor.processes import socket_inodes
from pagewise.monitor.sockets import listeners, of_process, parse_listeners

HEAD = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n"


def row(address: str, state: str = "0A") -> str:
    return f"   0: {address} 00000000:0000 {state} 00000000:00000000 00:00000000 00000000  1000        0 777 1 0 100\n"


def test_a_socket_that_listens_everywhere_is_reached_over_loopback() -> None:
    both = HEAD + row("00000000:1F90") + row("00000000000000000000000000000000:1F91")
    assert [entry.url for entry in parse_listeners(both)] == ["http://127.0.0.1:8080", "http://[::1]:8081"]


def test_addresses_are_read_in_the_machines_byte_order() -> None:
    text = HEAD + row("0100007F:1F90") + row("0000000000000000FFFF00000100007F:1F91")
    assert [(entry.address, entry.port, entry.uid) for entry in parse_listeners(text)] == [
        ("127.0.0.1", 8080, 1000),
        ("127.0.0.1", 8081, 1000),
    ]


def test_connections_are_no_listeners() -> None:
    assert parse_listeners(HEAD + row("0100007F:1F90", "01")) == ()


@given(st.text())
def test_any_text_is_read(text: str) -> None:
    parse_listeners(text)


def test_a_real_socket_is_found_as_this_process_has_it() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        found = of_process(socket_inodes(os.getpid()), listeners())
        assert ("127.0.0.1", server.getsockname()[1]) in [(entry.address, entry.port) for entry in found]
    assert server.fileno() == -1

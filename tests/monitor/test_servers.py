from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest
from tests.monitor.fake_server import FakeServer, llama_server, serving

from pagewise.monitor import http, servers
from pagewise.monitor.http import NoAnswer, get, parse_url
from pagewise.monitor.poller import Poller
from pagewise.monitor.servers import Server
from pagewise.readings import ServerReadings


@pytest.fixture
def fake() -> Iterator[FakeServer]:
    with serving() as server:
        yield server


def asked(fake: FakeServer) -> Server:
    return Server(fake.url, parse_url(fake.url))


def why(readings: ServerReadings, metric: str) -> str:
    return next((entry.why for entry in readings.missing if entry.metric == metric), "")


def test_llama_server_tells_its_slots_and_counters(fake: FakeServer) -> None:
    llama_server(fake, decoded=10)
    readings = asked(fake).ask()
    assert (readings.kind, readings.processing, readings.waiting) == ("llama-server", 1, 3)
    assert (readings.kv_used, readings.kv_size) == (110, 8192)
    assert readings.kv_pct == pytest.approx(100 * 110 / 8192)
    assert readings.decode_rate is None
    assert "one answer" in why(readings, "decode_rate")


def test_what_a_server_says_never_acts_on_a_terminal(fake: FakeServer) -> None:
    llama_server(fake)
    assert asked(fake).ask().model == "/models/\ufffd[31mevil.gguf"


def test_the_speed_of_a_running_request_is_the_growth_of_its_slot(fake: FakeServer) -> None:
    server = asked(fake)
    llama_server(fake, decoded=10)
    server.ask()
    first = server._last
    llama_server(fake, decoded=50)
    readings = server.ask()
    second = server._last
    assert first is not None
    assert second is not None
    assert readings.decode_source == "slots"
    assert readings.decode_rate == pytest.approx(40 / (second.at_s - first.at_s))


def test_requests_that_ended_between_two_answers_are_read_from_the_counters(fake: FakeServer) -> None:
    server = asked(fake)
    llama_server(fake, predicted=100, seconds=2.0)
    fake.pages["/slots"] = 501
    server.ask()
    llama_server(fake, predicted=160, seconds=4.0)
    fake.pages["/slots"] = 501
    readings = server.ask()
    assert (readings.decode_rate, readings.decode_source) == (30.0, "counters")
    assert readings.prefill_rate == 300.0
    assert "HTTP 501" in why(readings, "kv_used")


def test_a_request_that_is_not_counted_yet_is_not_called_idle(fake: FakeServer) -> None:
    server = asked(fake)
    llama_server(fake)
    fake.pages["/slots"] = 501
    server.ask()
    readings = server.ask()
    assert readings.decode_rate is None
    assert "when it ends" in why(readings, "decode_rate")


def test_counters_that_go_backwards_are_no_rate_and_say_so(fake: FakeServer) -> None:
    server = asked(fake)
    llama_server(fake, predicted=500, seconds=9.0)
    fake.pages["/slots"] = 501
    server.ask()
    llama_server(fake, predicted=3, seconds=0.1)
    fake.pages["/slots"] = 501
    readings = server.ask()
    assert (readings.decode_rate, readings.prefill_rate) == (None, None)
    assert "backwards" in why(readings, "decode_rate")
    assert "backwards" in why(readings, "prefill_rate")
    llama_server(fake, predicted=33, seconds=1.1)
    fake.pages["/slots"] = 501
    assert server.ask().decode_rate == pytest.approx(30.0)


def test_the_time_to_the_first_token_is_estimated_from_outside(fake: FakeServer) -> None:
    server = asked(fake)
    llama_server(fake)
    fake.pages["/slots"][0]["is_processing"] = False
    assert server.ask().ttft_ms is None
    llama_server(fake, decoded=0)
    readings = server.ask()
    assert readings.ttft_ms is None
    assert readings.kv_used == 80
    llama_server(fake, decoded=4)
    readings = server.ask()
    assert readings.ttft_ms is not None
    assert readings.ttft_is_estimate


def test_a_mean_time_to_the_first_token_is_taken_where_the_server_counts_it(fake: FakeServer) -> None:
    server = asked(fake)
    text = "vllm:time_to_first_token_seconds_sum {}\nvllm:time_to_first_token_seconds_count {}\n"
    fake.pages["/metrics"] = text.format(10.0, 20)
    server.ask()
    fake.pages["/metrics"] = text.format(11.0, 24)
    readings = server.ask()
    assert (readings.kind, readings.ttft_ms, readings.ttft_is_estimate) == ("vLLM", 250.0, False)


def test_ollama_tells_which_model_it_has_and_that_it_counts_nothing(fake: FakeServer) -> None:
    fake.pages["/api/ps"] = {"models": [{"name": "gemma3:12b", "size_vram": 8_900_000_000, "context_length": 8192}]}
    readings = asked(fake).ask()
    assert (readings.kind, readings.model, readings.vram_bytes) == ("Ollama", "gemma3:12b", 8_900_000_000)
    assert readings.decode_rate is None
    assert "counts no tokens" in why(readings, "decode_rate")


def test_a_web_page_is_not_taken_for_figures(fake: FakeServer) -> None:
    fake.pages = dict.fromkeys(("/props", "/slots", "/metrics", "/api/ps"), "<!doctype html><h1>hello</h1>")
    readings = asked(fake).ask()
    assert readings.kind == ""
    assert "web page" in why(readings, "server")


@pytest.mark.parametrize("answer", [b"\xff\xfe", "[" * 100_000, "17", '{"models": 3}', '[[1], "x"]', "{}"])
def test_any_other_answer_is_said_not_to_be_one(fake: FakeServer, answer: bytes | str) -> None:
    fake.pages = dict.fromkeys(("/props", "/slots", "/api/ps"), answer)
    readings = asked(fake).ask()
    assert readings.decode_rate is None
    assert why(readings, "server")


def test_an_api_key_that_is_wanted_is_named(fake: FakeServer) -> None:
    fake.pages = dict.fromkeys(("/props", "/slots", "/metrics", "/api/ps"), 401)
    assert "API key" in why(asked(fake).ask(), "server")


@pytest.mark.parametrize(("status", "words"), [(500, "answers with an error (HTTP 500)"), (503, "still loading")])
def test_an_error_is_said_in_words(fake: FakeServer, status: int, words: str) -> None:
    fake.pages = dict.fromkeys(("/props", "/slots", "/metrics", "/api/ps"), status)
    readings = asked(fake).ask()
    assert words in why(readings, "server")
    assert (readings.decode_rate, readings.kv_used, readings.processing) == (None, None, None)


def test_nothing_that_listens_is_said() -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        url = f"http://127.0.0.1:{closed.getsockname()[1]}"
    assert "nothing listens" in why(Server(url, parse_url(url)).ask(), "server")


@pytest.mark.parametrize("drops", [False, True])
def test_a_slow_answer_is_given_up_after_its_time(fake: FakeServer, drops: bool) -> None:
    fake.pages["/props"] = {}
    fake.slow, fake.drops = not drops, drops
    with pytest.raises(NoAnswer, match="no whole answer within"):
        get(parse_url(fake.url), "/props", 0.2)


def test_an_answer_without_end_is_cut(fake: FakeServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http, "MOST_BYTES", 1000)
    fake.pages["/props"] = "x" * 5000
    with pytest.raises(NoAnswer, match="longer than"):
        get(parse_url(fake.url), "/props", 5.0)


def test_a_slow_server_does_not_hold_up_whoever_reads(fake: FakeServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(servers, "WITHIN_S", 0.2)
    fake.slow = True
    poller = Poller()
    try:
        poller.want([(fake.url, "")])
        waiting = poller.latest(fake.url)
        assert waiting is not None
        assert "not answered yet" in why(waiting, "server")
        poller.settle(10.0)
        given_up = poller.latest(fake.url)
        assert given_up is not None
        assert "no whole answer" in why(given_up, "server")
    finally:
        poller.close()


def test_a_server_that_is_not_wanted_any_more_is_forgotten(fake: FakeServer) -> None:
    llama_server(fake)
    poller = Poller()
    try:
        poller.want([(fake.url, "")])
        poller.settle(10.0)
        latest = poller.latest(fake.url)
        assert latest is not None
        assert latest.kind == "llama-server"
        poller.want([])
        assert poller.latest(fake.url) is None
    finally:
        poller.close()


@pytest.mark.parametrize("url", ["ftp://x", "http://", "http://host:99999", "http://[::1"])
def test_what_is_no_address_is_refused(url: str) -> None:
    with pytest.raises(ValueError):
        parse_url(url)


def test_only_get_is_asked_and_only_known_pages(fake: FakeServer) -> None:
    asked(fake).ask()
    assert set(fake.asked) == {"/props", "/metrics", "/slots", "/api/ps"}

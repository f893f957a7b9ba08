from __future__ import annotations

import contextlib
import re
import urllib.error
import urllib.request
from collections.abc import Iterator

import pytest
from msgspec.structs import replace
from tests.monitor import samples

from pagewise.monitor.choice import ChoiceError
from pagewise.monitor.exposition import CONTENT_TYPE, exposition
from pagewise.monitor.listen import Listener
from pagewise.monitor.metrics import parse_metrics

_LINE = re.compile(r'^[a-z_]+(\{([a-z]+="([^"\\\n]|\\.)*",?)*\})? [-0-9.e+]+$')


@contextlib.contextmanager
def listening(where: str = "127.0.0.1:0") -> Iterator[Listener]:
    listener = Listener(where)
    try:
        yield listener
    finally:
        listener.close()


def test_every_line_is_of_the_text_format_and_names_are_declared_once() -> None:
    text = exposition(samples.sample(device=True))
    lines = text.splitlines()
    assert text.endswith("\n")
    assert all(_LINE.match(line) for line in lines if not line.startswith("# "))
    declared = [line.split()[2] for line in lines if line.startswith("# TYPE")]
    assert len(declared) == len(set(declared))
    assert {line.partition("{")[0].split()[0] for line in lines if not line.startswith("#")} <= set(declared)


def test_figures_are_those_of_the_sample_and_what_is_not_known_is_left_out() -> None:
    found = parse_metrics(exposition(samples.sample(samples.busy()))).values
    assert found["pagewise_page_in_bytes_per_second"] == 1.1e9
    assert found["pagewise_decode_tokens_per_second"] == 61.2
    assert found["pagewise_time_to_first_token_seconds"] == pytest.approx(0.41)
    assert found["pagewise_layer_bytes"] == 50 * (samples.GIB // 3)
    hidden = parse_metrics(exposition(samples.sample(samples.hidden()))).values
    assert "pagewise_process_resident_bytes" not in hidden
    assert hidden["pagewise_model_up"] == 1


def test_labels_cannot_break_out_of_their_quotes() -> None:
    evil = replace(samples.busy(), models=(samples.held('a"} 1\n\\evil'),))
    lines = exposition(samples.sample(evil)).splitlines()
    assert 'model="a\\"} 1\\n\\\\evil"' in next(line for line in lines if line.startswith("pagewise_model_up"))


def test_prometheus_is_given_the_latest_sample() -> None:
    with listening() as listener:
        listener.show(samples.sample(samples.hidden()))
        listener.show(samples.sample(samples.busy()))
        with urllib.request.urlopen(listener.url, timeout=10) as answer:
            assert answer.headers["Content-Type"] == CONTENT_TYPE
            assert b"pagewise_process_threads" in answer.read()


def test_other_pages_are_not_there() -> None:
    with listening() as listener, pytest.raises(urllib.error.HTTPError) as raised:
        listener.show(samples.sample())
        urllib.request.urlopen(listener.url.replace("/metrics", "/etc/passwd"), timeout=10)
    assert raised.value.code == 404


@pytest.mark.parametrize("where", ["", "9184", "127.0.0.1:", "127.0.0.1:x", "127.0.0.1:99999", "203.0.113.1:9184"])
def test_an_address_that_cannot_be_listened_on_says_why(where: str) -> None:
    with pytest.raises(ChoiceError) as raised:
        Listener(where)
    assert raised.value.failure.next


def test_a_port_that_is_taken_says_so() -> None:
    with listening() as listener, pytest.raises(ChoiceError) as raised:
        Listener(listener.url.removeprefix("http://").removesuffix("/metrics"))
    assert "in use" in raised.value.failure.why

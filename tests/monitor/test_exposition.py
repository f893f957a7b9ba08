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
from pagewise.readings import Devices

_LINE = re.compile(r'^[a-z_][a-z0-9_]*(\{([a-z_]+="([^"\\\n]|\\.)*",?)*\})? [-0-9.e+]+$')


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


def test_what_each_layer_read_of_the_disk_is_told_apart() -> None:
    text = exposition(samples.sample(samples.own()))
    read = {line for line in text.splitlines() if line.startswith("pagewise_layer_read_bytes{")}
    assert len(read) == 2 * 50
    assert sum('layer="0",kind="demand"} 4096' in line for line in read) == 1
    assert sum('layer="1",kind="read-ahead"} 8000000' in line for line in read) == 1


def test_a_device_tells_its_work_and_what_it_does_not_tell_is_left_out() -> None:
    plain = exposition(samples.sample(device=True))
    assert "pagewise_device_temperature_celsius" in plain and "dram" not in plain and "held_back" not in plain
    sample = samples.sample(device=True)
    (device,) = sample.devices.devices
    told = replace(
        device,
        dram_bytes_s=3.1e12,
        pcie_rx_bytes_s=1.2e9,
        pcie_tx_bytes_s=8e7,
        sm_clock_mhz=1410.0,
        energy_j=5000.0,
        held_back=("power limit", "heat"),
    )
    lines = exposition(replace(sample, devices=Devices((told,)))).splitlines()
    labels = 'device="0",name="RTX 4060"'
    assert f"pagewise_device_dram_bytes_per_second{{{labels}}} 3100000000000" in lines
    assert f'pagewise_device_pcie_bytes_per_second{{{labels},direction="to"}} 1200000000' in lines
    assert f'pagewise_device_pcie_bytes_per_second{{{labels},direction="from"}} 80000000' in lines
    assert f"pagewise_device_sm_clock_hertz{{{labels}}} 1410000000" in lines
    assert f"pagewise_device_energy_joules{{{labels}}} 5000" in lines
    assert f'pagewise_device_clocks_held_back{{{labels},reason="power limit"}} 1' in lines
    assert all(_LINE.match(line) for line in lines if not line.startswith("# "))


def test_everything_that_the_screen_shows_is_there() -> None:
    text = exposition(samples.sample(samples.busy(), samples.own()))
    told = parse_metrics(text).values
    for name in ("io_pressure_percent", "memory_pressure_percent", "disk_read_bytes_per_second", "process_swap_bytes"):
        assert f"pagewise_{name}" in told, name
    assert told["pagewise_box_cpu_percent"] == 51.0
    assert told["pagewise_time_per_output_token_seconds"] == pytest.approx(0.0235)
    assert "pagewise_inter_token_latency_p95_seconds" not in told, "it is not known while a reply is written"
    (info,) = [line for line in text.splitlines() if line.startswith("pagewise_model_info{") and 'pid="4121"' in line]
    assert 'quant="Q4_K_M"' in info and 'held="mapped"' in info and 'file="present"' in info and info.endswith(" 1")
    assert 'bound_by="disk"} 1' in text


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


def test_only_the_head_is_given_to_whoever_wants_no_more() -> None:
    with listening() as listener:
        listener.show(samples.sample())
        question = urllib.request.Request(listener.url, method="HEAD")
        with urllib.request.urlopen(question, timeout=10) as answer:
            assert int(answer.headers["Content-Length"]) > 1000
            assert answer.read() == b""


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

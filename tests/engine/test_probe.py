"""The layer clock."""

from __future__ import annotations

from itertools import pairwise
from statistics import median

import pytest
from tests.engine.harness import EngineProcess, Reply, profile
from tests.synthetic import make_model

from pagewise.engine.llamacpp.probe import boundaries
from pagewise.messages import ModelInfo
from pagewise.settings import Sampling

NAMES = ("input", "0", "1", "2", "3", "output")


def probed(engine: EngineProcess, every: int, tokens: int = 100, **shape: object) -> tuple[ModelInfo, Reply]:
    settings = profile(make_model(**shape), probe_every=every, sampling=Sampling(temperature=0.0, max_tokens=tokens))
    model = engine.load(settings).model
    engine.generate("hello")
    return model, engine.generate("hello again")


@pytest.mark.parametrize("architecture", ["llama", "gemma3", "mamba", "lfm2"])
def test_one_token_in_sixteen_has_its_layers_timed(shared: EngineProcess, architecture: str) -> None:
    _, reply = probed(shared, 16, architecture=architecture)
    timing = reply.finished.timing
    assert timing is not None and timing.n_probed == len(reply.layers)
    assert [event.clock.token for event in reply.layers] == [2, 18, 34, 50, 66, 82, 98]
    for event in reply.layers:
        clock = event.clock
        assert clock.names == NAMES
        assert len(clock.ms) == len(clock.devices) == len(clock.stalls) == len(NAMES)
        assert all(ms > 0 for ms in clock.ms)
        assert sum(clock.ms) == pytest.approx(clock.total_ms)
        assert clock.total_ms <= timing.itl_ms[clock.token - 1]
        assert set(clock.devices) == {"CPU"}
        assert clock.page_in_bytes == () or len(clock.page_in_bytes) == len(NAMES)


def test_the_probe_changes_no_token(shared: EngineProcess) -> None:
    _, without = probed(shared, 0)
    _, every = probed(shared, 1)
    assert without.ids == every.ids
    assert without.layers == [] and len(every.layers) > 90


def test_probe_is_switched_live(shared: EngineProcess) -> None:
    probed(shared, 0)
    sampling = Sampling(temperature=0.0, max_tokens=20)
    shared.load(profile(make_model(), probe_every=4, sampling=sampling), "live")
    shared.generate("hello")
    assert len(shared.generate("hello").layers) == 5
    shared.load(profile(make_model(), probe_every=0, sampling=sampling), "live")
    assert shared.generate("hello").layers == []


def test_probe_survives_the_growth_of_the_context(shared: EngineProcess) -> None:
    """llama.cpp rebuilds its graph each time the padded KV length grows, and takes the callback away."""
    _, reply = probed(shared, 2, tokens=700)
    tokens = [event.clock.token for event in reply.layers]
    assert len(tokens) > 330
    assert max(later - earlier for earlier, later in pairwise(tokens)) <= 6


def test_a_heavy_layer_is_seen(shared: EngineProcess) -> None:
    """Layer 2 has four times the bytes of the others: it must take longer than any of them."""
    _, reply = probed(shared, 2, tokens=60, n_embd=512, n_ff=2048, weights="Q8_0", heavy_layer=2)
    medians = {name: median(event.clock.ms[index] for event in reply.layers) for index, name in enumerate(NAMES)}
    assert medians["2"] > 1.3 * max(medians[name] for name in ("0", "1", "3"))


def test_ends_of_layers_by_their_output_nodes() -> None:
    names = ["embd", "norm-0", "attn-0", "l_out-0", "norm-1", "l_out-1", "norm", "result_output"]
    assert boundaries(names) == {0: "input", 3: "0", 5: "1"}


def test_ends_of_layers_without_output_nodes() -> None:
    names = ["embd", "inp_scaled", "norm-0", "ffn-0", "norm-1", "ffn-1", "result_output"]
    assert boundaries(names) == {1: "input", 3: "0", 5: "1"}


@pytest.mark.parametrize("names", [[], ["embd"], ["a-1", "a-0"], ["x-0", "y-1", "x-0"]])
def test_graphs_that_say_nothing_of_layers(names: list[str]) -> None:
    assert boundaries(names) == {}

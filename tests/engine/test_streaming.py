from __future__ import annotations

import sys
from pathlib import Path

import pytest
from tests.engine.harness import GREEDY, EngineProcess, profile
from tests.synthetic import make_model

from pagewise.engine.llamacpp.follow import Follower
from pagewise.messages import Loaded, Tokens
from pagewise.settings import Keep, Profile, Sampling

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="streaming needs Linux")

KEPT = Keep("24MiB")
LONG = " ".join(["a story of ships and of the sea"] * 12)


@pytest.fixture(scope="module")
def model() -> Path:
    return make_model(n_layer=8, n_embd=512, n_ff=2048, n_head=8, n_head_kv=2, n_vocab=1024)


def streamed(path: Path, **changes: object) -> Profile:
    return profile(path, n_ubatch=32, **{"placement": KEPT, **changes})


def is_streamed(loaded: Loaded) -> bool:
    return any("read again for every token" in note for note in loaded.model.notes)


def test_streaming_changes_no_bit(shared: EngineProcess, model: Path) -> None:
    assert is_streamed(shared.load(streamed(model)))
    ours = [shared.generate(text) for text in (LONG, "hello")]
    assert not is_streamed(shared.load(streamed(model, placement="off")))
    stock = [shared.generate(text) for text in (LONG, "hello")]
    assert [reply.ids for reply in ours] == [reply.ids for reply in stock]
    assert all(len(reply.ids) == GREEDY.max_tokens for reply in ours)


def test_sampled_text_is_the_same(shared: EngineProcess, model: Path) -> None:
    hot = Sampling(temperature=1.5, seed=5, top_k=0, top_p=1.0, min_p=0.0, max_tokens=40)
    shared.load(streamed(model))
    ours = shared.generate(LONG, hot)
    shared.load(streamed(model, placement="off"))
    assert shared.generate(LONG, hot).ids == ours.ids


def test_the_layer_clock_works_beside_it(shared: EngineProcess, model: Path) -> None:
    assert is_streamed(shared.load(streamed(model, probe_every=8)))
    reply = shared.generate(LONG)
    assert reply.layers
    clock = reply.layers[-1].clock
    assert clock.names == ("input", *map(str, range(8)), "output")
    assert sum(clock.ms) == pytest.approx(clock.total_ms)


def test_a_stop_in_mid_reply_is_followed_by_the_same_reply(shared: EngineProcess, model: Path) -> None:
    shared.load(streamed(model))
    whole = shared.generate(LONG)
    shared.generate("something else", stop_when=lambda event: isinstance(event, Tokens))
    assert shared.generate(LONG).ids == whole.ids


def test_another_context_on_the_same_weights(shared: EngineProcess, model: Path) -> None:
    shared.load(streamed(model))
    whole = shared.generate(LONG)
    loaded = shared.load(streamed(model, n_ctx=768), "context")
    assert is_streamed(loaded)
    assert shared.generate(LONG).ids == whole.ids


@pytest.mark.parametrize("architecture", ["gemma3", "mamba", "lfm2"])
def test_other_architectures(shared: EngineProcess, architecture: str) -> None:
    path = make_model(architecture=architecture, n_layer=6, n_embd=512, n_ff=1024, n_head=8, n_head_kv=2)
    kept = {"placement": Keep("6MiB")}
    assert is_streamed(shared.load(streamed(path, **kept)))
    ours = shared.generate(LONG).ids
    shared.load(streamed(path, placement="off"))
    assert shared.generate(LONG).ids == ours


@pytest.mark.parametrize("changes", [{"load_mode": "none"}, {"placement": "auto"}, {"placement": Keep("1GiB")}])
def test_nothing_is_streamed_where_it_need_not_or_cannot_be(
    shared: EngineProcess, model: Path, changes: dict[str, object]
) -> None:
    assert not is_streamed(shared.load(streamed(model, **changes)))
    assert shared.generate("hello").ids


def test_where_no_layer_output_is_named_the_last_node_of_a_layer_is_its_end(monkeypatch: pytest.MonkeyPatch) -> None:
    names = ["embd", "norm-0", "ffn-0", "norm-1", "ffn-1", "result"]
    monkeypatch.setattr(
        "pagewise.engine.llamacpp.follow.library.tensor_name", lambda tensor: names[tensor - 1].encode()
    )
    done: list[int] = []
    follower = Follower(("0", "1", "output"), done.append)

    def run() -> None:
        for tensor in range(1, len(names) + 1):
            if follower.callback(tensor, True, None):
                follower.callback(tensor, False, None)

    run()
    assert done == []
    follower.learn()
    run()
    assert done == [0, 1]

from __future__ import annotations

import sys
from collections import Counter
from pathlib import Path

import pytest
from tests.engine.harness import GREEDY, EngineProcess, profile
from tests.synthetic import make_model

from pagewise.engine.llamacpp.follow import Follower
from pagewise.messages import Event, Loaded, Operators, ProfileOperators, Streamed, Tokens
from pagewise.placement.file_system import not_steerable
from pagewise.settings import Keep, Profile, Sampling

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="streaming needs Linux")

KEPT = Keep("24MiB")
LONG = " ".join(["a story of ships and of the sea"] * 12)


@pytest.fixture(scope="module")
def model() -> Path:
    path = make_model(n_layer=8, n_embd=512, n_ff=2048, n_head=8, n_head_kv=2, n_vocab=1024)
    if not_steerable(path):
        pytest.skip("the temporary folder is on a file system that keeps its pages")
    return path


def mixture(architecture: str, **changes: object) -> Path:
    return make_model(
        **{"architecture": architecture, "n_layer": 6, "n_embd": 512, "n_ff": 512, "n_head": 8, "n_head_kv": 2}
        | {"weights": "Q8_0"}
        | MIXTURES[architecture]
        | changes
    )


def streamed(path: Path, **changes: object) -> Profile:
    return profile(path, n_ubatch=32, **{"placement": KEPT, **changes})


def is_streamed(loaded: Loaded) -> bool:
    return any("larger than the memory it can have" in note for note in loaded.model.notes)


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


def test_what_is_read_ahead_is_told_by_layer_and_adds_up_to_what_the_kernel_counts(
    shared: EngineProcess, model: Path
) -> None:
    """The second instrument is the engine's own account in /proc, read from here between two tokens."""
    assert is_streamed(shared.load(streamed(model, probe_every=1)))
    shared.generate(LONG)
    read: list[int] = []

    def note(event: Event) -> bool:
        if isinstance(event, Tokens):
            read.append(read_bytes(shared))
        return False

    reply = shared.generate(LONG, Sampling(temperature=0.0, max_tokens=60), stop_when=note)
    clocks = [event.clock for event in reply.layers]
    assert len(clocks) > 50 and all(clock.read_ahead_bytes for clock in clocks)
    told = sum((clock.demand_total or 0) + (clock.read_ahead_total or 0) for clock in clocks)
    per_token = told / len(clocks)
    assert per_token * (len(reply.ids) - 1) == pytest.approx(read[-1] - read[0], rel=0.1)
    of_layers = [sum(sizes) for sizes in zip(*(clock.read_ahead_bytes for clock in clocks), strict=True)]
    # Of every layer the same share is streamed.
    assert max(of_layers[1:9]) < 4 * min(of_layers[1:9])
    assert sum(sum(clock.demand_bytes) for clock in clocks) < 0.1 * told


def read_bytes(engine: EngineProcess) -> int:
    text = Path(f"/proc/{engine.process.pid}/io").read_text(encoding="ascii")
    return int(next(line.split()[1] for line in text.splitlines() if line.startswith("read_bytes")))


@pytest.mark.parametrize("probe_every", [0, 2])
def test_operators_are_profiled_while_layers_are_streamed(shared: EngineProcess, model: Path, probe_every: int) -> None:
    """Both are asked by one callback: the profile is whole, what is streamed still arrives, and no bit changes."""
    assert is_streamed(shared.load(streamed(model, probe_every=probe_every)))
    plain = shared.generate(LONG)
    shared.send(ProfileOperators(5))
    seen = len(shared.seen)
    reply = shared.generate(LONG)
    assert reply.ids == plain.ids
    answer = next(event for event in shared.seen[seen:] if isinstance(event, Operators))
    assert answer.id == 5 and answer.failure is None and answer.profile is not None
    nodes = answer.profile.nodes
    products = Counter(node.layer for node in nodes if node.operator == "MUL_MAT" and node.tensor)
    assert products == {**dict.fromkeys(map(str, range(8)), 7), "output": 1}
    assert len([event for event in reply.tokens if event.profiled]) == 1
    told = [event.streaming for event in shared.seen[seen:] if isinstance(event, Streamed)][-1]
    assert told.streamed_bytes > 0 and told.kept_bytes <= KEPT.bytes


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


MIXTURES = {
    "llama": {"n_expert": 8},
    "ernie4_5-moe": {"n_expert": 16, "n_expert_used": 4, "skew": 1.5},
}


@pytest.mark.parametrize("architecture", MIXTURES)
@pytest.mark.parametrize("weights", ["Q8_0", "F16"])
def test_streaming_experts_changes_no_bit(shared: EngineProcess, architecture: str, weights: str) -> None:
    path = mixture(architecture, weights=weights)
    kept = Keep("16MiB" if weights == "Q8_0" else "24MiB")
    assert is_streamed(shared.load(streamed(path, placement=kept)))
    ours = [shared.generate(text) for text in (LONG, "hello")]
    told = [event.streaming for event in shared.seen if isinstance(event, Streamed)][-1]
    assert told.missed_pct is not None and 0 < told.missed_pct < 100
    assert 0 < told.kept_bytes <= kept.bytes
    assert not is_streamed(shared.load(streamed(path, placement="off")))
    stock = [shared.generate(text) for text in (LONG, "hello")]
    assert [reply.ids for reply in ours] == [reply.ids for reply in stock]
    assert all(len(reply.ids) == GREEDY.max_tokens for reply in ours)


def test_what_routers_chose_is_still_shown_beside_streaming(shared: EngineProcess) -> None:
    path = mixture("ernie4_5-moe")
    assert is_streamed(shared.load(streamed(path, placement=Keep("16MiB"), probe_every=8)))
    clock = shared.generate(LONG).layers[-1].clock
    assert clock.n_expert == 16
    assert {len(chosen) for name, chosen in zip(clock.names, clock.experts, strict=True) if name.isdigit()} == {4}


def test_a_stop_in_mid_reply_of_a_mixture(shared: EngineProcess) -> None:
    shared.load(streamed(mixture("ernie4_5-moe"), placement=Keep("16MiB")))
    whole = shared.generate(LONG)
    shared.generate("something else", stop_when=lambda event: isinstance(event, Tokens))
    assert shared.generate(LONG).ids == whole.ids


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


def test_nodes_that_nobody_waits_for_are_looked_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Until the graph is another one at the same addresses, which a token may have to itself."""
    names = ["embd", "norm-0", "l_out-0", "norm-1", "l_out-1", "result"]
    looked: list[int] = []

    def name(tensor: int) -> bytes:
        looked.append(tensor)
        return names[tensor - 1].encode()

    monkeypatch.setattr("pagewise.engine.llamacpp.follow.library.tensor_name", name)
    done: list[int] = []
    follower = Follower(("0", "1", "output"), done.append)

    def evaluate(until: int = len(names), n_tokens: int = 1) -> list[int]:
        done.clear()
        looked.clear()
        follower.begin(n_tokens)
        for tensor in range(1, until + 1):
            if follower.callback(tensor, True, None) and tensor < until:
                assert follower.callback(tensor, False, None)
        follower.end()
        return list(done)

    evaluate()
    follower.learn()
    assert evaluate() == [0, 1] and len(looked) == len(names)
    for _ in range(2):
        assert evaluate() == [0, 1] and looked == [3, 5]
    assert evaluate(until=3) == []
    assert evaluate() == [0, 1]
    assert evaluate() == [0, 1] and looked == [3, 5]
    assert evaluate(n_tokens=2) == [0, 1] and len(looked) == len(names)
    evaluate()
    names[:] = ["embd", "l_out-0", "norm-1", "l_out-1", "other", "result"]
    evaluate()
    assert evaluate() == [0, 1]

    heard: list[int] = []
    follower.listen(lambda tensor, ask, _data: heard.append(tensor) is not None)
    assert evaluate() == [0, 1] and heard == list(range(1, len(names) + 1))
    follower.listen(None)
    assert evaluate() == [0, 1]


def test_a_node_at_which_a_token_was_stopped_is_not_waited_for_in_the_next(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "pagewise.engine.llamacpp.follow.library.tensor_name", lambda tensor: f"l_out-{tensor}".encode()
    )
    done: list[int] = []
    follower = Follower(("0", "1", "output"), done.append)
    follower.begin(1)
    assert follower.callback(1, True, None)
    follower.end()
    follower.active = False
    follower.begin(1)
    assert not follower.callback(7, True, None)
    follower.end()
    assert done == []

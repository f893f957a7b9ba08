"""The operator profile, and the choices of a mixture's routers."""

from __future__ import annotations

from collections import Counter

import pytest
from tests.engine.harness import EngineProcess, profile
from tests.synthetic import make_model

from pagewise.messages import Finished, ModelInfo, Operators, ProfileOperators, Tokens
from pagewise.readings import OperatorProfile
from pagewise.settings import Sampling

LAYERS = ["input", "0", "1", "2", "3", "output"]


def profiled(engine: EngineProcess, tokens: int = 40, **shape: object) -> tuple[ModelInfo, OperatorProfile]:
    """The profile of the first token that can be, of a reply of so many tokens."""
    sampling = Sampling(temperature=0.0, max_tokens=tokens)
    model = engine.load(profile(make_model(**shape), sampling=sampling)).model
    engine.generate("hello")
    engine.send(ProfileOperators(7))
    seen = len(engine.seen)
    engine.generate("hello again")
    found = [event for event in engine.seen[seen:] if isinstance(event, Operators)]
    assert [event.id for event in found] == [7]
    assert found[0].failure is None and found[0].profile is not None
    return model, found[0].profile


def test_every_node_of_a_token_has_its_time_and_its_bytes(shared: EngineProcess) -> None:
    _, found = profiled(shared, weights="F16")
    assert found.token >= 1 and found.depth > 0
    assert {node.layer for node in found.nodes} == set(LAYERS)
    assert {node.device for node in found.nodes} == {"CPU"}
    assert {"MUL_MAT", "RMS_NORM", "ROPE", "GET_ROWS"} <= {node.operator for node in found.nodes}
    assert not {"VIEW", "RESHAPE", "PERMUTE"} & {node.operator for node in found.nodes}
    assert all(node.ms > 0 and node.bytes > 0 for node in found.nodes)
    assert sum(node.ms for node in found.nodes) < found.step_ms
    assert found.usual_ms is not None and found.usual_ms > 0
    assert found.idle_node_ms is not None and found.idle_node_ms >= 0


def test_the_weights_that_are_read_are_those_of_the_file(shared: EngineProcess) -> None:
    model, found = profiled(shared, weights="F16")
    read = Counter(node.tensor for node in found.nodes if node.tensor)
    for layer in range(4):
        for name in ("attn_q", "attn_k", "attn_v", "attn_output", "ffn_gate", "ffn_up", "ffn_down", "attn_norm"):
            assert read[f"blk.{layer}.{name}.weight"] == 1, name
    assert read["output.weight"] == read["token_embd.weight"] == read["output_norm.weight"] == 1
    products = [node for node in found.nodes if node.operator == "MUL_MAT" and node.tensor]
    assert {node.type for node in products} == {"f16"}
    up = next(node for node in products if node.tensor == "blk.2.ffn_up.weight")
    assert up.layer == "2"
    assert up.bytes == 2 * 128 * 256 + 4 * 128 + 4 * 256
    weights = sum(node.bytes for node in products)
    assert weights == pytest.approx(model.bytes_per_token, rel=0.1)


def test_quantized_rows_are_counted_in_blocks(shared: EngineProcess) -> None:
    _, found = profiled(shared, weights="Q8_0")
    down = next(node for node in found.nodes if node.tensor == "blk.0.ffn_down.weight")
    assert down.type == "q8_0"
    assert down.bytes == 256 * 128 // 32 * 34 + 4 * 256 + 4 * 128
    rows = next(node for node in found.nodes if node.tensor == "token_embd.weight")
    assert rows.bytes == 128 // 32 * 34 + 4 + 4 * 128


@pytest.mark.parametrize("architecture", ["gemma3", "mamba", "lfm2"])
def test_other_architectures(shared: EngineProcess, architecture: str) -> None:
    _, found = profiled(shared, architecture=architecture)
    assert {node.layer for node in found.nodes} == set(LAYERS)


def test_the_profiled_token_counts_in_no_rate(shared: EngineProcess) -> None:
    shared.load(profile(make_model(), probe_every=4, sampling=Sampling(temperature=0.0, max_tokens=30)))
    shared.generate("hello")
    shared.send(ProfileOperators(2))
    seen = len(shared.seen)
    reply = shared.generate("hello again")
    found = next(event for event in shared.seen[seen:] if isinstance(event, Operators))
    timing = reply.finished.timing
    assert timing is not None and found.profile is not None
    # A token whose graph had to be built anew cannot be profiled; it was watched and is left out as well.
    assert timing.profiled[-1] == found.profile.token and len(timing.profiled) <= 2
    assert tuple(event.n_output - 1 for event in reply.tokens if event.profiled) == timing.profiled
    others = [gap for index, gap in enumerate(timing.itl_ms, 1) if index not in timing.profiled]
    assert len(others) == timing.n_output - 1 - len(timing.profiled)
    assert timing.tpot_ms == pytest.approx(sum(others) / len(others))
    assert timing.itl_percentile(100) == max(others)


def test_it_changes_no_token(shared: EngineProcess) -> None:
    shared.load(profile(make_model()))
    plain = shared.generate("hello")
    shared.load(profile(make_model()))
    shared.send(ProfileOperators(1))
    assert shared.generate("hello").ids == plain.ids


def test_it_is_taken_from_the_reply_in_hand(shared: EngineProcess) -> None:
    shared.load(profile(make_model(), sampling=Sampling(temperature=0.0, max_tokens=400)))
    asked = False

    def ask(event: object) -> bool:
        nonlocal asked
        if isinstance(event, Tokens) and event.n_output == 20 and not asked:
            asked = True
            shared.send(ProfileOperators(3))
        return isinstance(event, Operators)

    seen = len(shared.seen)
    assert shared.generate("hello", stop_when=ask).finished.reason == "stopped"
    kinds = [type(event) for event in shared.seen[seen:]]
    assert kinds.index(Operators) < kinds.index(Finished)
    found = next(event for event in shared.seen[seen:] if isinstance(event, Operators))
    assert found.id == 3 and found.profile is not None and found.profile.token >= 20


def test_a_token_beside_the_layer_clock(shared: EngineProcess) -> None:
    """Both want the scheduler: the layer clock leaves out the token that is profiled."""
    shared.load(profile(make_model(), probe_every=1, sampling=Sampling(temperature=0.0, max_tokens=30)))
    shared.generate("hello")
    shared.send(ProfileOperators(5))
    seen = len(shared.seen)
    reply = shared.generate("hello again")
    found = next(event for event in shared.seen[seen:] if isinstance(event, Operators))
    assert found.profile is not None
    assert found.profile.token not in [event.clock.token for event in reply.layers]
    assert found.profile.usual_ms is None


def test_a_mixture_reads_only_the_experts_it_chose(shared: EngineProcess) -> None:
    _, found = profiled(shared, n_expert=8, weights="F16")
    up = next(node for node in found.nodes if node.tensor == "blk.1.ffn_up_exps.weight")
    assert up.operator == "MUL_MAT_ID"
    assert up.bytes == pytest.approx(2 * 2 * 128 * 256, rel=0.1)


def test_the_choices_of_the_routers(shared: EngineProcess) -> None:
    sampling = Sampling(temperature=0.0, max_tokens=60)
    shared.load(profile(make_model(n_expert=8), probe_every=2, sampling=sampling))
    shared.generate("hello")
    reply = shared.generate("hello again")
    assert len(reply.layers) > 20
    chosen = Counter[int]()
    for event in reply.layers:
        clock = event.clock
        assert clock.n_expert == 8
        assert [len(experts) for experts in clock.experts] == [0, 2, 2, 2, 2, 0]
        for experts in clock.experts:
            assert all(0 <= expert < 8 for expert in experts) and len(set(experts)) == len(experts)
            chosen.update(experts)
    assert len(chosen) > 2


def test_a_dense_model_has_no_experts(shared: EngineProcess) -> None:
    shared.load(profile(make_model(), probe_every=4))
    shared.generate("hello")
    clocks = [event.clock for event in shared.generate("hello again").layers]
    assert clocks and all(clock.experts == () and clock.n_expert == 0 for clock in clocks)

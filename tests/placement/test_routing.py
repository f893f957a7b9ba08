from __future__ import annotations

import random

from pagewise.placement.routing import Foresight

N_LAYER, N_EXPERT, N_USED = 4, 32, 2
EVERYTHING = range(N_EXPERT)


def run(foresight: Foresight, tokens: list[list[set[int]]]) -> tuple[int, int]:
    """(experts that were foretold, those of them that were needed), nothing being in memory."""
    told = right = 0
    for layers in tokens:
        likely: list[int] = []
        for layer, chosen in enumerate(layers):
            told += len(likely)
            right += len(chosen.intersection(likely))
            foresight.learn(layer, chosen)
            likely = foresight.next((layer + 1) % N_LAYER, chosen, EVERYTHING)
    return told, right


def test_nothing_is_foretold_of_a_router_without_a_pattern() -> None:
    dice = random.Random(3)
    foresight = Foresight(N_LAYER, N_EXPERT, N_USED)
    tokens = [[set(dice.sample(EVERYTHING, N_USED)) for _ in range(N_LAYER)] for _ in range(400)]
    assert run(foresight, tokens)[0] == 0
    assert foresight.by_token.precision is not None
    assert foresight.by_token.precision < 0.2


def test_a_router_that_repeats_itself_is_foretold_by_the_token_before() -> None:
    dice = random.Random(3)
    foresight = Foresight(N_LAYER, N_EXPERT, N_USED)
    tokens, now = [], [set(dice.sample(EVERYTHING, N_USED)) for _ in range(N_LAYER)]
    for _ in range(400):
        if dice.random() < 0.1:
            now = [set(dice.sample(EVERYTHING, N_USED)) for _ in range(N_LAYER)]
        tokens.append(now)
    told, right = run(foresight, tokens)
    assert told > 100
    assert right > 0.7 * told


def test_a_router_that_follows_the_layer_before_is_foretold_by_it() -> None:
    dice = random.Random(3)
    foresight = Foresight(N_LAYER, N_EXPERT, N_USED)
    tokens = []
    for _ in range(1500):
        first = set(dice.sample(EVERYTHING, N_USED))
        tokens.append([{(expert * 5 + layer) % N_EXPERT for expert in first} for layer in range(N_LAYER)])
    told, right = run(foresight, tokens)
    assert told > 500
    assert right > 0.7 * told
    assert not foresight.by_token.believed


def test_a_pattern_that_ends_is_believed_no_longer() -> None:
    dice = random.Random(3)
    foresight = Foresight(N_LAYER, N_EXPERT, N_USED)
    always = [{layer, layer + 1} for layer in range(N_LAYER)]
    run(foresight, [always] * 200)
    assert foresight.by_token.believed
    run(foresight, [[set(dice.sample(EVERYTHING, N_USED)) for _ in range(N_LAYER)] for _ in range(2000)])
    assert not foresight.by_token.believed


def test_a_router_that_nothing_foretells_is_watched_now_and_then() -> None:
    dice = random.Random(3)
    foresight = Foresight(N_LAYER, N_EXPERT, N_USED)
    always = [{layer, layer + 1} for layer in range(N_LAYER)]
    run(foresight, [[set(dice.sample(EVERYTHING, N_USED)) for _ in range(N_LAYER)] for _ in range(600)])
    watched = 0
    for _ in range(100):
        chosen = [set(dice.sample(EVERYTHING, N_USED)) for _ in range(N_LAYER)]
        for layer, experts in enumerate(chosen):
            foresight.learn(layer, experts)
            watched += foresight.wanted
    assert watched == 100 * N_LAYER // 4
    run(foresight, [always] * 2000)
    assert foresight.wanted and foresight.by_token.believed

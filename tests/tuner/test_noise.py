"""How sure a comparison is, and from when on that is known."""

from __future__ import annotations

import math
import random

import pytest

from pagewise.tuner.noise import Noise


def test_the_first_guess_is_never_told() -> None:
    noise = Noise()
    assert noise.learned is None and noise.sigma > 0
    noise.begin([100.0, 101.0])
    assert noise.learned is None
    noise.learn([0.01, -0.01, 0.02])
    assert noise.learned is not None and 0.005 < noise.learned < 0.03


def test_the_start_alone_tells_how_much_a_pair_scatters() -> None:
    source = random.Random(1)
    found = []
    for _ in range(200):
        noise = Noise()
        noise.begin([60.0 * math.exp(source.gauss(0, 0.1)) for _ in range(8)])
        assert noise.learned is not None
        found.append(noise.learned)
    # Two measurements that scatter by 10 % each differ by √2 of that.
    assert sum(found) / len(found) == pytest.approx(math.sqrt(2) * 0.1, rel=0.15)


def test_a_hiccup_among_many_measurements_of_the_start_is_no_noise() -> None:
    noise = Noise()
    noise.begin([60.0, 60.6, 59.4, 60.3, 59.7, 60.1, 59.9, 600.0])
    assert noise.sigma < 0.05


def test_an_interval_that_rests_on_little_is_wider() -> None:
    little, much = Noise(), Noise()
    for _ in range(10):
        much.learn([0.03, -0.03, 0.03, -0.03])
    assert little.interval([0.0]).high > much.interval([0.0]).high

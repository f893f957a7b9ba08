"""What the person sees of a model that is larger than memory."""

from __future__ import annotations

import pytest

from app import scenes
from app.fake_client import FakeClient
from app.scenes_streaming import streaming
from app.stage import make_app, until
from pagewise import messages
from pagewise.app.gauges.model_file import GAUGE, cell
from pagewise.app.profiler.curve import draw_curve
from pagewise.app.readout import Readout
from pagewise.app.screens.curve import CurveScreen
from pagewise.app.spans import plain, width_of
from pagewise.app.widgets.gauges import GaugeColumn
from pagewise.readings import LayerResidency, Streaming


def layer(name: str, cached: int) -> LayerResidency:
    return LayerResidency(name, 100, cached, 0, "mapped", "CPU", 0.0)


def shown(told: Streaming | None) -> Readout:
    readout = Readout()
    readout.take(messages.Loaded(1, scenes.LAPTOP, scenes.qwen(), "process", 2000.0))
    readout.take(messages.Reading(scenes.snapshot()))
    if told is not None:
        readout.take(messages.Streamed(told))
    return readout


def test_a_cell_says_whether_its_layer_is_kept_streamed_or_read_ahead() -> None:
    told = streaming()
    assert cell(layer("4", 70), told) == "read ahead"
    assert cell(layer("9", 70), told) == "streaming"
    assert cell(layer("9", 100), streaming(kept=1.0, streamed_bytes=5)) == "kept"
    assert cell(layer("9", 0), streaming(kept=1.0, streamed_bytes=5)) == "disk"
    assert cell(layer("9", 100), streaming(kept=1.0)) == "RAM"
    assert cell(layer("output", 100), told) == "RAM"
    assert cell(layer("9", 100), None) == "RAM"


def test_the_gauge_shows_and_explains_it() -> None:
    readout = shown(streaming())
    text = [plain(line) for line in GAUGE.draw(readout, 45, 2)]
    assert any("▤ streaming" in line for line in text)
    sentences = " ".join(GAUGE.state(readout))
    assert "stay" in sentences and "streamed" in sentences and "640 ms of 700 ms" in sentences
    assert "experts" in " ".join(GAUGE.state(shown(streaming(missed_pct=12.0))))
    assert "streamed" not in " ".join(GAUGE.state(shown(None)))


@pytest.mark.parametrize("width", [24, 45, 76, 116])
def test_the_curve_keeps_its_width_and_marks_what_was_measured(width: int) -> None:
    lines = draw_curve(shown(streaming()), width)
    assert all(width_of(line) <= width for line in lines)
    text = "\n".join(plain(line) for line in lines)
    assert text.count("◆") == 2
    assert "tok/s" in text


def test_the_curve_says_what_more_memory_would_bring() -> None:
    text = " ".join(plain(line) for line in draw_curve(shown(streaming()), 116))
    assert "1.43 tok/s were measured" in text
    assert "more all of it would stay in memory: 25.0 tok/s" in text


def test_without_figures_the_curve_says_what_is_missing() -> None:
    assert "once a reply" in plain(draw_curve(Readout(), 100)[0])
    fits = streaming(kept=1.0, curve=())
    assert "All of the file fits" in plain(draw_curve(shown(fits), 100)[0])


@pytest.mark.parametrize("size", [(120, 40), (80, 24)])
async def test_c_opens_it_from_the_gauges(size: tuple[int, int]) -> None:
    app = make_app(FakeClient())
    async with app.run_test(size=size) as pilot:
        await until(pilot, lambda: app.session.model is not None)
        app.session.readout.take(messages.Streamed(streaming()))
        await pilot.press("f3")
        await until(pilot, lambda: bool(app.screen.query(GaugeColumn)))
        await pilot.press("c")
        await until(pilot, lambda: isinstance(app.screen, CurveScreen))
        await pilot.press("escape")
        await until(pilot, lambda: not isinstance(app.screen, CurveScreen))

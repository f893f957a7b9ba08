from __future__ import annotations

import msgspec
import pytest

from app import scenes, scenes_profiles
from pagewise.app.profiles.plan import draw_plan
from pagewise.app.profiles.planner import Shown
from pagewise.app.spans import Line, plain, width_of
from pagewise.jobs.plan import MemoryPlan
from pagewise.messages import Failure

FITS = scenes_profiles.plan(scenes.LAPTOP, scenes.gpu())
OVER = scenes_profiles.plan(msgspec.structs.replace(scenes.LAPTOP, n_gpu_layers="all", n_ctx=65536), scenes.gpu())


def drawn(plan: MemoryPlan, width: int = 104, stale: bool = False) -> str:
    return "\n".join(map(plain, draw_plan(Shown(plan, None, stale), width)))


def roles(lines: list[Line]) -> set[str]:
    return {word for line in lines for _, role in line for word in role.split()}


@pytest.mark.parametrize("width", [20, 34, 62, 74, 92, 104, 160])
@pytest.mark.parametrize("plan", [FITS, OVER], ids=["fits", "over"])
@pytest.mark.parametrize("brief", [True, False])
def test_every_width_is_kept(plan: MemoryPlan, width: int, brief: bool) -> None:
    for stale in (True, False):
        assert all(width_of(line) <= width for line in draw_plan(Shown(plan, None, stale), width, brief))


def test_each_device_has_its_parts_and_what_stays_free() -> None:
    text = drawn(FITS)
    gpu = next(line for line in text.splitlines() if line.startswith("RTX 4060"))
    assert gpu.split()[-12:] == ["2.7", "GiB", "278", "MiB", "300", "MiB", "410", "MiB", "3.7", "GiB", "2.4", "GiB"]
    assert "fits" in text and "1.7 GiB mapped" in text and "18 of 29 layers on GPU" in text
    assert "2 % more than planned" in text


def test_what_does_not_fit_says_how_much_and_what_would() -> None:
    text = drawn(OVER)
    assert "does not fit: 2.5 GiB over" in text and "−2.5 GiB" in text
    assert "→ n_gpu_layers = 12" in text
    assert "warn" in roles(draw_plan(Shown(OVER, None, False), 104))


def test_figures_that_wait_are_quiet_and_marked() -> None:
    lines = draw_plan(Shown(OVER, None, True), 104)
    assert "on their way" in plain(lines[0])
    assert not roles(lines) & {"warn", "accent", "value"}


def test_no_plan_says_why() -> None:
    failure = Failure("There is no file", "It is gone.", "Get it again.")
    text = "\n".join(map(plain, draw_plan(Shown(None, failure, False), 80)))
    assert "cannot be made" in text and "It is gone." in text and "Get it again." in text
    assert "being made" in plain(draw_plan(Shown(None, None, True), 80)[0])


def test_a_driver_that_was_never_seen_is_not_nothing() -> None:
    devices = tuple(msgspec.structs.replace(device, driver_bytes=None) for device in FITS.devices)
    text = drawn(msgspec.structs.replace(FITS, devices=devices))
    gpu = next(line for line in text.splitlines() if line.startswith("RTX 4060"))
    assert "?" in gpu


def test_names_from_the_host_never_act_on_the_terminal() -> None:
    devices = tuple(msgspec.structs.replace(device, description="\x1b[2J\nGPU") for device in FITS.devices)
    plan = msgspec.structs.replace(FITS, devices=devices, notes=("a\x1b[31m",))
    assert "\x1b" not in drawn(plan)

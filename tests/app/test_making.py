from __future__ import annotations

from pathlib import Path

import pytest

from app import scenes
from app.fake_client import FakeClient
from app.stage import make_app, staged, text_of, until
from app.test_sheets import open_profiles
from pagewise.app.app import PagewiseApp
from pagewise.jobs.base import JobFailed, JobProgress
from pagewise.jobs.quantize import Quantize, Quantized, RoundingError
from pagewise.messages import Failure, Stop
from pagewise.profiles.files import resolve

MODEL = "/models/qwen2.5-7b-q4_k_m.gguf"
BEST = "/models/qwen2.5-7b-q6_k.gguf"
NO_ROOM = Failure("There is no room", "The disk has 1 GiB.", "Free some.")


@pytest.fixture(autouse=True)
def folder(own_folders: Path) -> Path:
    folder = own_folders / "config" / "pagewise" / "profiles"
    folder.mkdir(parents=True)
    (folder / "qwen.toml").write_text(f'model = "{MODEL}"\nn_gpu_layers = 18\n')
    return folder


def started() -> tuple[FakeClient, PagewiseApp]:
    client = FakeClient(devices=scenes.gpu())
    return client, make_app(client, resolve("qwen"))


def quantized(asked: Quantize, permission: bool = False) -> Quantized:
    return Quantized(
        id=asked.id,
        path="/models/qwen2.5-7b-Q5_K_M.gguf",
        source=asked.source,
        source_level="Q6_K",
        level=asked.level,
        source_bytes=6_000_000_000,
        bytes=5_100_000_000,
        bits_per_weight=5.7,
        types=(),
        error=RoundingError(0.01, 0.02, 0.018),
        free_bytes=120_000_000_000,
        needs_permission=permission,
        notes=("The source is coarse already.",) if permission else (),
        dry_run=asked.dry_run,
    )


async def test_the_dial_steps_through_levels_that_are_there() -> None:
    _, app = started()
    async with staged(app) as pilot:
        await open_profiles(pilot)
        await until(pilot, lambda: "[Q4_K_M]" in text_of(app, "detail"))
        await pilot.press("left")
        assert "[Q3_K_M]" in text_of(app, "detail") and "qwen2.5-7b-q3_k_m" in text_of(app, "list")
        await pilot.press("left")
        assert "[Q2_K+]" in text_of(app, "detail")
        await pilot.press("left", "right", "right", "right", "right")
        assert "[Q6_K]" in text_of(app, "detail")


async def test_a_level_that_is_not_there_is_weighed_made_and_taken() -> None:
    client, app = started()
    async with staged(app) as pilot:
        await open_profiles(pilot)
        await until(pilot, lambda: "[Q4_K_M]" in text_of(app, "detail"))
        await pilot.press("right")
        dry = client.last(Quantize)
        assert isinstance(dry, Quantize) and dry.dry_run and dry.source == BEST and dry.level == "Q5_K_M"
        assert "size is being found" in text_of(app, "detail")
        client.say(quantized(dry))
        await until(pilot, lambda: "4.7 GiB, 5.7 bits a weight" in text_of(app, "detail"))
        assert "⏎ make it" in text_of(app, "keys")
        await pilot.press("enter")
        asked = client.last(Quantize)
        assert isinstance(asked, Quantize) and not asked.dry_run
        client.say(JobProgress(asked.id, "quantize", 2_000_000_000, 5_100_000_000, "bytes", "blk.3.ffn_up.weight"))
        await until(pilot, lambda: "1.9 / 4.7 GiB" in text_of(app, "detail"))
        assert "blk.3.ffn_up.weight" in text_of(app, "detail") and "S stop making" in text_of(app, "keys")
        client.say(quantized(asked))
        await until(pilot, lambda: "qwen2.5-7b-Q5_K_M" in text_of(app, "list"))
        await pilot.press("escape")
        await until(pilot, lambda: "Q5_K_M is made" in text_of(app, "conversation"))


async def test_making_can_be_stopped_and_what_fails_says_why() -> None:
    client, app = started()
    async with staged(app) as pilot:
        await open_profiles(pilot)
        await until(pilot, lambda: "[Q4_K_M]" in text_of(app, "detail"))
        await pilot.press("right")
        dry = client.last(Quantize)
        assert isinstance(dry, Quantize)
        client.say(quantized(dry))
        await until(pilot, lambda: "makes it" in text_of(app, "detail"))
        await pilot.press("enter", "s")
        asked = client.last(Quantize)
        assert isinstance(asked, Quantize) and client.last(Stop) == Stop(asked.id)
        client.say(JobFailed(asked.id, NO_ROOM, cancelled=True))
        await until(pilot, lambda: "making Q5_K_M" not in text_of(app, "detail"))
        await pilot.press("enter")
        again = client.last(Quantize)
        assert isinstance(again, Quantize) and again.id != asked.id
        client.say(JobFailed(again.id, NO_ROOM))
        await until(pilot, lambda: "Free some." in text_of(app, "detail"))


async def test_a_coarse_source_asks_twice() -> None:
    client, app = started()
    async with staged(app) as pilot:
        await open_profiles(pilot)
        await until(pilot, lambda: "[Q4_K_M]" in text_of(app, "detail"))
        await pilot.press("right")
        dry = client.last(Quantize)
        assert isinstance(dry, Quantize)
        client.say(quantized(dry, permission=True))
        await until(pilot, lambda: "coarse already" in text_of(app, "detail"))
        await pilot.press("enter")
        assert client.last(Quantize) == dry and "⏎ again makes it" in text_of(app, "detail")
        await pilot.press("enter")
        asked = client.last(Quantize)
        assert isinstance(asked, Quantize) and asked.allow_requantize

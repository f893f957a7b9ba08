"""What is wrong with a profile is said in the switcher and by the command line, with what, why and what to do."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from app import scenes
from app.fake_client import FakeClient
from app.stage import make_app, staged, text_of, until
from app.test_sheets import open_profiles

CASES = {
    "two of one name": ({"a.toml": 'name = "x"\n', "b.toml": 'name = "x"\n'}, "Two files hold a profile named x"),
    "extends what is gone": ({"a.toml": 'extends = "gone"\n'}, "'gone', and there is no usable profile"),
    "a circle": ({"a.toml": 'extends = "b"\n', "b.toml": 'extends = "a"\n'}, "in a circle: a → b → a"),
    "a wrong regular expression": ({"a.toml": 'tensor_overrides = ["ffn_[=CPU"]\n'}, "regular expression is wrong"),
    "an override without a buffer": ({"a.toml": 'tensor_overrides = ["ffn_.*"]\n'}, "it names no buffer"),
    "a split that gives nothing": ({"a.toml": "tensor_split = [0, 0]\n"}, "nothing to any GPU"),
    "a negative split": ({"a.toml": "tensor_split = [-1, 2]\n"}, "numbers, 0 or more"),
    "a negative number": ({"a.toml": "n_ctx = -1\n"}, "not -1"),
    "a huge number": ({"a.toml": "n_batch = 999999999999999999999999\n"}, "so large a number"),
    "a key that is nearly right": ({"a.toml": "n_gpu_layer = 3\n"}, "Did you mean n_gpu_layers?"),
}


@pytest.fixture(params=CASES, ids=[name.replace(" ", "-") for name in CASES])
def words(request: pytest.FixtureRequest, own_folders: Path) -> str:
    folder = own_folders / "config" / "pagewise" / "profiles"
    folder.mkdir(parents=True)
    files, words = CASES[request.param]
    for name, text in files.items():
        (folder / name).write_text(text)
    return words


async def test_in_the_switcher(words: str) -> None:
    app = make_app(FakeClient(model=scenes.guide_model()), scenes.GUIDE)
    async with staged(app, (160, 60)) as pilot:
        await open_profiles(pilot)
        await until(pilot, lambda: "cannot be used" in text_of(app, "detail"))
        shown = " ".join(text_of(app, "detail").split())
        assert words in shown and ".toml" in shown
        assert "guide-q4" in text_of(app, "list")


def test_on_the_command_line(words: str) -> None:
    done = subprocess.run([sys.executable, "-m", "pagewise", "profiles"], capture_output=True, text=True, check=False)
    assert words in done.stderr and "  next  " in done.stderr and "Traceback" not in done.stderr
    assert "guide-q4" in done.stdout

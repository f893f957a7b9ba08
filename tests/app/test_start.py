"""What happens before the first frame: nothing heavy."""

from __future__ import annotations

import subprocess
import sys

import pytest

from app import scenes
from app.fake_client import FakeClient
from app.stage import make_app, staged
from pagewise.app.widgets.conversation import Conversation

HEAVY = ("llama_cpp", "numpy", "markdown_it", "pygments", "sqlite3", "py_spy", "pynvml", "psutil", "jinja2")


def test_importing_the_app_imports_nothing_heavy() -> None:
    program = f"import sys, pagewise.app.app; print([name for name in {HEAVY!r} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_using_the_whole_app_never_imports_llama_cpp_or_numpy() -> None:
    program = (
        "import sys, importlib, pagewise.app; from pkgutil import walk_packages as walk;"
        "[importlib.import_module(found.name) for found in walk(pagewise.app.__path__, 'pagewise.app.')];"
        "import pagewise.history.store, pagewise.profiles.files;"
        "print([name for name in ('llama_cpp', 'numpy') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


async def test_the_first_frame_is_drawn_before_the_host_is_started(monkeypatch: pytest.MonkeyPatch) -> None:
    client = FakeClient()
    app = make_app(client, scenes.GUIDE)
    drawn: list[bool] = []
    start = client.start

    async def watched() -> None:
        drawn.append(bool(app.screen.query_one(Conversation)._lines))
        await start()

    monkeypatch.setattr(client, "start", watched)
    async with staged(app):
        assert drawn == [True]

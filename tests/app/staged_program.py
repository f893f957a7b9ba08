"""The app with a scripted host as a program of its own, for a pseudo-terminal: ``python staged_program.py FOLDER``."""

from __future__ import annotations

import sys
from pathlib import Path

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parents[1]))
    from app import scenes
    from app.fake_client import FakeClient
    from pagewise.app.app import PagewiseApp
    from pagewise.history.store import History

    client = FakeClient(answer="word **bold** ", token_s=0.01, readings_hz=5, devices=scenes.gpu(), endless=True)
    PagewiseApp(scenes.LAPTOP, client, History(Path(sys.argv[1]) / "history.db"), hz=5.0).run()

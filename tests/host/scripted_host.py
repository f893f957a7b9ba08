"""A host whose engines are scripts, and whose watchdog has little patience."""

from __future__ import annotations

import sys
from pathlib import Path

from pagewise.host.main import main
from pagewise.host.watchdog import Limits

if __name__ == "__main__":
    main((sys.executable, str(Path(__file__).with_name("fake_engine.py"))), Limits(stop=1.0, answer=1.5, hang=2.5))

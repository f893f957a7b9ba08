"""Where the files that ship with the program are: inside the wheel, or in the checkout of an editable install."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path
from typing import Literal

import pagewise


def shipped_folder(kind: Literal["profiles", "themes"]) -> Path:
    """The folder of the shipped ``kind``. It exists in every installation that is whole."""
    packaged = Path(str(files(pagewise))) / "shipped" / kind
    return packaged if packaged.is_dir() else Path(pagewise.__file__).parents[2] / kind

"""The guide's file as it ships, and the quant levels that can be made of it."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path

from pagewise.messages import Failure

SHIPPED_QUANT = "F16"
QUANTS = ("F16", "Q8_0", "Q6_K", "Q5_K_M", "Q4_K_M", "Q4_0", "Q3_K_M", "Q2_K")
"""Quant levels of the guide, largest first; the first is the file that ships."""


class GuideError(Exception):
    """The guide, or a quant level of it, cannot be had; ``failure`` says why."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(f"{failure.what}: {failure.why}")
        self.failure = failure


def guide_path() -> Path:
    """The shipped file, F16. Raises GuideError if this installation has none."""
    path = Path(str(files("pagewise") / "guide" / "guide-f16.gguf"))
    if not path.is_file():
        raise GuideError(
            Failure(
                "The guide is not there",
                f"This installation has no file {path}.",
                "Install pagewise again, or train it with `make guide`. A model of your own works: --model FILE.gguf.",
            )
        )
    return path


def check_quant(quant: str) -> str:
    """``quant`` as it is written in QUANTS, whatever its case. Raises GuideError for any other."""
    if quant.upper() in QUANTS:
        return quant.upper()
    shown = "".join(letter if letter.isprintable() else "\N{REPLACEMENT CHARACTER}" for letter in quant[:40])
    raise GuideError(
        Failure(
            f"The guide has no quant level {shown!r}",
            f"Its levels are {', '.join(QUANTS)}.",
            "Choose one of them, or leave `quant` out for the file as it ships.",
        )
    )

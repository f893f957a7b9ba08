"""TTFT as the person felt it: from Enter to the first text on the terminal, and what of it was whose."""

from __future__ import annotations

from dataclasses import dataclass
from time import perf_counter

from pagewise.readings import TurnTiming


@dataclass
class Felt:
    """Moments of one turn by the app's one clock, in seconds; durations come out in ms.

    ``asked_s``: Enter; ``sent_s``: the question went to the host, as soon as a model was there for it.
    """

    asked_s: float
    sent_s: float
    arrived_s: float | None = None
    """The first text was there to be drawn."""
    drawn_s: float | None = None
    """It was handed to the terminal; None too where nobody could see it come."""
    is_being_drawn: bool = False

    def text_arrived(self) -> None:
        """Text that can be seen has come."""
        if self.arrived_s is None:
            self.arrived_s = perf_counter()

    @property
    def is_awaited(self) -> bool:
        """Whether the first text has come and nothing has been done about it yet."""
        return self.arrived_s is not None and not self.is_being_drawn

    def drawn(self) -> None:
        """What had come is on the terminal now."""
        self.drawn_s = perf_counter()

    @property
    def ms(self) -> float | None:
        """From Enter to the first text on the terminal."""
        return None if self.drawn_s is None else 1000.0 * (self.drawn_s - self.asked_s)

    @property
    def waited_ms(self) -> float:
        """Of it: for a model to be loaded, or for a former reply to end."""
        return 1000.0 * (self.sent_s - self.asked_s)

    @property
    def drawing_ms(self) -> float | None:
        """Of it: between the text's arrival and its being drawn."""
        if self.drawn_s is None or self.arrived_s is None:
            return None
        return 1000.0 * (self.drawn_s - self.arrived_s)

    def network_ms(self, timing: TurnTiming) -> float | None:
        """Of it: on the way between app and engine, there and back. A difference of durations, of two clocks."""
        engine = timing.ttft_text_ms if timing.ttft_text_ms is not None else timing.ttft_ms
        if self.ms is None or self.drawing_ms is None or engine is None:
            return None
        return max(0.0, self.ms - self.waited_ms - self.drawing_ms - engine)

"""The app on a stage of a given size, with a scripted host and a history in memory."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from textual.pilot import Pilot

from app import scenes
from app.fake_client import FakeClient
from pagewise.app.app import PagewiseApp
from pagewise.app.spans import plain
from pagewise.app.widgets.painted import Painted
from pagewise.history.store import History
from pagewise.settings import Profile

SIZES = ((80, 24), (120, 40), (200, 50))


def make_app(
    client: FakeClient,
    profile: Profile = scenes.LAPTOP,
    history: History | None = None,
    theme: str = "dark",
    continue_last: bool = False,
) -> PagewiseApp:
    return PagewiseApp(
        profile, client, history or History.in_memory(), theme=theme, hz=50.0, continue_last=continue_last
    )


@asynccontextmanager
async def staged(app: PagewiseApp, size: tuple[int, int] = (120, 40)) -> AsyncIterator[Pilot[None]]:
    """The app running, its first model loaded unless the host is a manual one."""
    async with app.run_test(size=size) as pilot:
        client = app.session._client
        if isinstance(client, FakeClient) and not client.manual:
            await until(pilot, lambda: app.session.model is not None)
        else:
            await until(pilot, lambda: app.session.host is not None)
        yield pilot


async def until(pilot: Pilot[None], true: Callable[[], bool], seconds: float = 10.0) -> None:
    """Wait for a condition; fail when it does not come true."""
    end = asyncio.get_running_loop().time() + seconds
    while not true():
        assert asyncio.get_running_loop().time() < end, "the condition did not come true"
        await asyncio.sleep(0.01)
    await pilot.pause()


def text_of(app: PagewiseApp, name: str) -> str:
    """What a painted widget shows, line by line."""
    widget = app.screen.query_one(f"#{name}", Painted)
    size = widget.content_size
    return "\n".join(plain(line).rstrip() for line in widget.paint(size.width, size.height))


def screen_text(app: PagewiseApp) -> str:
    """All painted widgets of the top screen."""
    return "\n".join(text_of(app, widget.id) for widget in app.screen.query(Painted) if widget.id)

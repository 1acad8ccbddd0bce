"""What stands on the screen of an application, as text."""

from __future__ import annotations

import asyncio
import html
import re
from collections import defaultdict
from collections.abc import Callable, Sequence

from textual.content import Content
from textual.pilot import Pilot

from aiospinach import Engine
from aiospinach.top import TopApp

COLUMN = 12.2
"""How wide a column is in a picture."""
_TEXT = re.compile(r'<text class="[^"]*-r\d+" x="([\d.]+)" y="([\d.]+)"[^>]*>(.*?)</text>')


def text_of(app: TopApp) -> str:
    """The lines of the screen, without spaces at their ends; read from the picture that Textual exports."""
    lines: defaultdict[float, list[tuple[int, str]]] = defaultdict(list)
    for x, y, text in _TEXT.findall(app.export_screenshot()):
        lines[float(y)].append((round(float(x) / COLUMN), html.unescape(text).replace("\xa0", " ")))
    drawn = []
    for _, parts in sorted(lines.items()):
        line = ""
        for column, text in sorted(parts):
            line = line.ljust(column) + text
        drawn.append(line.rstrip())
    return "\n".join(drawn)


class Driver:
    """Presses keys, and waits for what they show."""

    def __init__(self, app: TopApp, pilot: Pilot[None]) -> None:
        self.app = app
        self.pilot = pilot

    async def press(self, *keys: str) -> None:
        await self.pilot.press(*keys)

    async def type(self, text: str) -> None:
        await self.pilot.press(*("space" if char == " " else char for char in text))

    async def until(self, *words: str, without: Sequence[str] = ()) -> str:
        """Return the screen as soon as it has all these words, and none of the others."""
        return await self.until_true(
            lambda text: all(word in text for word in words) and not any(word in text for word in without),
            f"{words} without {without}",
        )

    async def until_true(self, condition: Callable[[str], bool], what: str) -> str:
        text = ""
        for _ in range(400):
            await self.pilot.pause()
            text = text_of(self.app)
            if condition(text):
                return text
            await asyncio.sleep(0.02)
        raise AssertionError(f"{what} is not on the screen:\n{text}")


def app_of(engine: Engine, *, interval: float = 0.1) -> TopApp:
    return TopApp(engine, interval=interval)


def plain(lines: Sequence[Content]) -> list[str]:
    return [line.plain.rstrip() for line in lines]

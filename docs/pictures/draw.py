"""Draws the pictures of docs/architecture.md.

    python docs/pictures/draw.py            # writes them beside this script
    python docs/pictures/draw.py FOLDER     # writes them elsewhere

It needs Python alone. A test fails if a picture is not what this script draws.
"""

from __future__ import annotations

import sys
from html import escape
from pathlib import Path

WIDTH = 840
"""Pixels; a page of docs is about as wide, so that the letters keep their size."""
LETTER = {"title": 15, "line": 13, "call": 12, "head": 13, "label": 12}
"""Pixels of the letters of each kind of text."""
WIDEST = {"title": 0.66, "line": 0.58, "call": 0.62, "head": 0.58, "label": 0.58}
"""How wide a letter is at most in the mean, as a part of its height: readers have different fonts."""

STYLE = """
  .ground { fill: #ffffff; }
  .lane { fill: #f4f6f8; stroke: #d5dbe1; }
  .part { fill: #e6effa; stroke: #4f7cac; }
  .store { fill: #fcefd6; stroke: #b07a1e; }
  .gone { fill: none; stroke: #b07a1e; stroke-dasharray: 5 4; }
  .signal { fill: #e2f3e7; stroke: #3d8b57; }
  .way { fill: none; stroke: #57636f; stroke-width: 1.5; }
  .tip { fill: #57636f; }
  text { fill: #1c2128; font-family: Helvetica, Arial, sans-serif; text-anchor: middle; }
  .title { font-size: 15px; font-weight: bold; }
  .line { font-size: 13px; }
  .head { font-size: 13px; font-style: italic; }
  .call { font-size: 12px; font-family: Menlo, Consolas, monospace; }
  .label { font-size: 12px; }
  .label.right { text-anchor: start; }
  .label.left { text-anchor: end; }
  @media (prefers-color-scheme: dark) {
    .ground { fill: #0f141a; }
    .lane { fill: #171d25; stroke: #313a45; }
    .part { fill: #1d3048; stroke: #78a6d8; }
    .store { fill: #3a2c10; stroke: #d9a74a; }
    .gone { stroke: #d9a74a; }
    .signal { fill: #15331f; stroke: #63bd82; }
    .way { stroke: #a5b1bd; }
    .tip { fill: #a5b1bd; }
    text { fill: #e8edf2; }
  }
"""

Point = tuple[float, float]


class Picture:
    """Boxes with text, and ways between them."""

    def __init__(self, title: str, description: str, height: int) -> None:
        self._height = height
        self._parts = [
            f"<title>{escape(title)}</title>",
            f"<desc>{escape(description)}</desc>",
            f"<style>{STYLE}</style>",
            '<defs><marker id="tip" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="8" markerHeight="8"'
            ' markerUnits="userSpaceOnUse" orient="auto-start-reverse">'
            '<path class="tip" d="M 0 0 L 8 4 L 0 8 z"/></marker></defs>',
            f'<rect class="ground" width="{WIDTH}" height="{height}" rx="8"/>',
        ]

    def lane(self, left: int, top: int, right: int, bottom: int, *heads: str) -> None:
        """A field that boxes stand in, with one or two lines at its top that say what it is."""
        self._rect("lane", left, top, right, bottom)
        for number, (kind, text) in enumerate(zip(("title", "head"), heads, strict=False)):
            self._text(kind, (left + right) / 2, top + 24 + 18 * number, text, right - left)

    def head(self, left: int, right: int, y: float, text: str) -> None:
        """A line in italics above boxes."""
        self._text("head", (left + right) / 2, y, text, right - left)

    def box(
        self,
        left: int,
        top: int,
        right: int,
        bottom: int,
        title: str,
        *lines: str,
        calls: str = "",
        kind: str = "part",
    ) -> None:
        """A part: its name, what it does, and which methods of the broker it calls."""
        self._rect(kind, left, top, right, bottom)
        texts = [("title", title), *(("line", line) for line in lines)]
        texts += [("call", calls)] if calls else []
        first = (top + bottom) / 2 - 9 * (len(texts) - 1) + 5
        for number, (word, text) in enumerate(texts):
            self._text(word, (left + right) / 2, first + 18 * number, text, right - left - 8)

    def signal(self, left: int, top: int, right: int, *names: str) -> None:
        """Signals that are sent here."""
        bottom = top + 10 + 18 * len(names)
        self._rect("signal", left, top, right, bottom, radius=13)
        for number, name in enumerate(names):
            self._text("call", (left + right) / 2, top + 18 + 18 * number, name, right - left - 8)

    def way(self, *points: Point, is_double: bool = False) -> None:
        """An arrow along these points."""
        path = " L ".join(f"{x:g} {y:g}" for x, y in points)
        start = ' marker-start="url(#tip)"' if is_double else ""
        self._parts.append(f'<path class="way" d="M {path}"{start} marker-end="url(#tip)"/>')

    def label(self, x: float, y: float, *lines: str, side: str = "middle") -> None:
        """Words beside a way: centred at this point, or to the right or the left of it."""
        for number, line in enumerate(lines):
            self._text(f"label {side}", x, y + 15 * number, line, WIDTH)

    def svg(self) -> str:
        """The file."""
        size = f'width="{WIDTH}" height="{self._height}" viewBox="0 0 {WIDTH} {self._height}"'
        head = f'<svg xmlns="http://www.w3.org/2000/svg" {size} role="img">'
        return "\n".join([head, *self._parts, "</svg>", ""])

    def _rect(self, kind: str, left: int, top: int, right: int, bottom: int, radius: int = 6) -> None:
        size = f'width="{right - left}" height="{bottom - top}" rx="{radius}"'
        self._parts.append(f'<rect class="{kind}" x="{left}" y="{top}" {size}/>')

    def _text(self, kind: str, x: float, y: float, text: str, room: float) -> None:
        word = kind.split()[0]
        if len(text) * LETTER[word] * WIDEST[word] > room:
            raise ValueError(f"{text!r} does not fit into {room:g} pixels")
        self._parts.append(f'<text class="{kind}" x="{x:g}" y="{y:g}">{escape(text)}</text>')


def way_of_a_job() -> Picture:
    """From ``schedule`` to ``job_finished``."""
    picture = Picture(
        "The way of a job",
        "A program schedules a job through the Producer, which has the broker store it. The consumer of a"
        " worker leases it. A run prepares, performs, settles, concludes and reports it.",
        height=786,
    )
    picture.lane(16, 16, 200, 770, "Program", "schedules")
    picture.box(28, 90, 188, 146, "schedule", "a call of a task")
    picture.way((108, 146), (108, 196))
    picture.box(28, 196, 188, 288, "Producer", "finds the task", "writes arguments", "reads them back")
    picture.way((188, 242), (266, 242))
    picture.label(233, 234, "enqueue")
    picture.way((108, 288), (108, 338))
    picture.label(115, 317, "it is stored", side="right")
    picture.signal(28, 338, 188, "job_scheduled")

    picture.lane(266, 16, 490, 770, "Broker", "stores, in memory or Redis")
    picture.box(278, 90, 432, 146, "future", "is not due yet", kind="store")
    picture.way((355, 146), (355, 214))
    picture.label(362, 184, "when due", side="right")
    picture.box(278, 214, 432, 270, "ready, lanes", "wait for a slot", kind="store")
    picture.way((355, 270), (355, 338))
    picture.label(362, 308, "leased", side="right")
    picture.box(278, 338, 432, 394, "leases", "a worker runs it", kind="store")
    picture.way((432, 356), (451, 356), (451, 118), (432, 118))
    picture.label(457, 308, "retry", side="right")
    picture.way((355, 394), (355, 462))
    picture.label(362, 432, "done", side="right")
    picture.box(278, 462, 432, 518, "gone", "ended for ever", kind="gone")
    picture.way((432, 376), (451, 376), (451, 614), (432, 614))
    picture.label(457, 432, "fail", side="right")
    picture.box(278, 586, 432, 642, "dead", "failed for ever", kind="store")

    picture.lane(558, 16, 824, 770, "Worker", "runs")
    picture.box(570, 90, 812, 146, "Consumer", "settles and leases in one call")
    picture.way((490, 118), (570, 118), is_double=True)
    picture.label(524, 110, "exchange")
    picture.way((641, 146), (641, 196))
    picture.label(648, 175, "a lease", side="right")
    picture.box(570, 196, 712, 246, "prepare", "reads arguments")
    picture.way((641, 246), (641, 272))
    picture.signal(570, 272, 712, "job_started")
    picture.way((641, 300), (641, 326))
    picture.box(570, 326, 712, 376, "perform", "runs the body")
    picture.way((641, 376), (641, 402))
    picture.box(570, 402, 712, 452, "settle", "judges the run")
    picture.way((712, 427), (738, 427))
    picture.box(738, 402, 812, 452, "Outbox")
    picture.way((794, 402), (794, 146))
    picture.label(787, 262, "goes", "with", "the next", "exchange", side="left")
    picture.way((641, 452), (641, 478))
    picture.way((794, 452), (794, 503), (712, 503))
    picture.label(787, 482, "result", side="left")
    picture.box(570, 478, 712, 528, "conclude", "hears the result")
    picture.way((641, 528), (641, 554))
    picture.box(570, 554, 712, 604, "report", "sends signals")
    picture.way((641, 604), (641, 630))
    picture.signal(570, 630, 812, "job_schedule_retry, job_failed", "or job_cancelled, or none")
    picture.way((641, 676), (641, 702))
    picture.signal(570, 702, 812, "job_finished")
    return picture


def services_of_a_pool() -> Picture:
    """What works within a pool, and on what it stands."""
    picture = Picture(
        "The services of a pool",
        "The supervisor starts the services. Sweeper and Listener look for work in spans of queues. Each"
        " queue has Maintenance and a Consumer. The pool has a Heartbeat and a LeaseWatchdog. They share"
        " slots, outboxes and runs, and all stand on the PoolState.",
        height=668,
    )
    first, second, third = (28, 252), (308, 532), (588, 812)
    picture.box(
        16, 16, 824, 76, "Supervisor", "starts the services, waits for the stop, drains, ends the services"
    )
    for (left, right), head in ((first, "for each span of queues"), (second, "for each queue")):
        picture.lane(left - 12, 96, right + 12, 376)
        picture.head(left, right, 118, head)
    picture.lane(third[0] - 12, 96, third[1] + 12, 376)
    picture.head(*third, 118, "for the whole pool")

    looks = ("looks from time to time", "whether there is work")
    picture.box(first[0], 132, first[1], 222, "Sweeper", *looks, calls="sweep")
    dues = ("queues what is due", "and finds lost jobs")
    picture.box(second[0], 132, second[1], 222, "Maintenance", *dues, calls="register, tick, fire")
    beats = ("renews all leases after", "a quarter of their time")
    picture.box(third[0], 132, third[1], 222, "Heartbeat", *beats, calls="renew")
    waits = ("waits while slots are free", "and queues are empty")
    picture.box(first[0], 274, first[1], 364, "Listener", *waits, calls="wait, nudge")
    trades = ("settles and leases jobs,", "one call at a time")
    picture.box(second[0], 274, second[1], 364, "Consumer", *trades, calls="exchange")
    watches = ("ends bodies whose lease", "is not trusted any more")
    picture.box(third[0], 274, third[1], 364, "LeaseWatchdog", *watches)

    picture.way((252, 177), (308, 177))
    picture.label(280, 168, "due")
    picture.way((210, 222), (210, 248), (360, 248), (360, 274))
    picture.label(280, 242, "wakes")
    picture.way((252, 319), (308, 319))
    picture.label(280, 310, "wakes")
    picture.way((532, 177), (588, 177))
    picture.label(560, 153, "renews", "first")
    picture.way((676, 274), (676, 222))
    picture.label(684, 252, "renews early", side="right")

    picture.box(first[0], 424, first[1], 496, "Slots", "count what runs,", "and whose turn it is")
    picture.box(second[0], 424, second[1], 496, "Outbox", "keeps settlements", "until the next exchange")
    picture.box(third[0], 424, third[1], 496, "Runs", "each from its lease", "to its last signal")
    picture.way((340, 364), (340, 400), (140, 400), (140, 424))
    picture.label(280, 394, "claims")
    picture.way((420, 424), (420, 364), is_double=True)
    picture.label(427, 405, "takes", side="right")
    picture.way((500, 364), (500, 400), (640, 400), (640, 424))
    picture.label(560, 394, "starts")
    picture.way((740, 364), (740, 424))
    picture.label(747, 405, "suspects", side="right")
    picture.way((588, 460), (532, 460))
    picture.label(560, 451, "settle")
    picture.way((676, 496), (676, 524), (140, 524), (140, 496))
    picture.label(417, 518, "free a slot")

    picture.box(
        16,
        560,
        824,
        652,
        "PoolState",
        "broker, tasks, threads and signals; it knows none of the parts above",
        "Phase: WORKING, DRAINING, INTERRUPTED, CLOSING",
    )
    return picture


PICTURES = {"job.svg": way_of_a_job, "pool.svg": services_of_a_pool}


def main(folder: Path) -> None:
    for name, draw in PICTURES.items():
        (folder / name).write_text(draw().svg(), "utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent)

"""Draws the pictures of the terminal view: ``python docs/pictures/top.py``, or with a folder to draw into.

The queues are those of a shop on a Friday evening, in a broker in memory. Its clock stands still, so the
pictures are always the same.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import math
import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple
from unittest.mock import patch

from textual.pilot import Pilot

from aiospinach import Engine, MemoryBroker
from aiospinach.brokers import (
    Envelope,
    Pause,
    QueueReport,
    Settlement,
    TaskRow,
    WorkerReport,
    WorkerRow,
)
from aiospinach.outcome import Action
from aiospinach.top import TopApp
from aiospinach.top.live_screen import LiveScreen

NOW = datetime(2026, 11, 27, 19, 30, 42, tzinfo=UTC)
SCREENS = Path(__file__).parent / "screens"
TRACEBACK = """Traceback (most recent call last):
  File "/srv/shop/payments.py", line 41, in capture
    answer = await client.post(url, json=order.as_json())
  File "/srv/shop/.venv/lib/python3.13/site-packages/httpx/_client.py", line 1859, in post
    return await self.request("POST", url, json=json)
httpx.ConnectTimeout: no answer of api.bank.example within 5 s
"""


class StandingClock:
    """A clock that stands still."""

    def time(self) -> float:
        """Seconds since 1970."""
        return NOW.timestamp()

    monotonic = time


class Rhythm(NamedTuple):
    """How many jobs of a queue end in a minute, and which part of them fails in which minutes ago."""

    base: float
    swing: float
    failing: Mapping[int, float]


class Worker(NamedTuple):
    """A worker, and how many jobs of which queue it runs."""

    host: str
    pid: int
    number: int
    lag: float
    running: Mapping[str, int]


NUMBERS = itertools.count(84211)
TASKS = {
    "images": ("images.thumbnail",),
    "mail": ("mail.send", "mail.digest"),
    "payments": ("payments.capture", "payments.refund"),
    "reports": ("reports.monthly",),
    "webhooks": ("webhooks.deliver",),
}
RHYTHMS = {
    "images": Rhythm(64, 0.2, {}),
    "mail": Rhythm(310, 0.35, {}),
    "payments": Rhythm(120, 0.25, dict.fromkeys(range(3, 12), 0.6)),
    "webhooks": Rhythm(210, 0.5, dict.fromkeys(range(20, 31), 0.1)),
}
WORKERS = (
    Worker("gpu-1", 812, 8, 0.0031, {"images": 8}),
    Worker("web-1", 4711, 20, 0.0012, {"mail": 9, "payments": 3, "webhooks": 6}),
    Worker("web-2", 4702, 20, 0.0009, {"mail": 11, "payments": 2, "webhooks": 4}),
)


def milliseconds(ago: float) -> int:
    """The moment of some seconds ago."""
    return int((NOW.timestamp() - ago) * 1000)


def rows(queue: str, share: int) -> list[WorkerRow]:
    """What a worker did in the minutes of the last hour, if so many share the queue."""
    base, swing, failing = RHYTHMS[queue]
    found = []
    for ago in range(60):
        wave = 1 + swing * math.sin(ago / 7 + len(queue)) + 0.12 * math.sin(ago * 2.7 + len(queue))
        count = round(base / share * wave * (0.7 if ago == 0 else 1))
        failed = round(count * failing.get(ago, 0.0))
        numbers = {TASKS[queue][0]: TaskRow(count - failed, 0, failed)}
        found.append(WorkerRow(int(NOW.timestamp()) // 60 - ago, numbers))
    return found


async def put(
    broker: MemoryBroker, queue: str, count: int, ago: float, *, apart: float = 0.1, **fields: Any
) -> None:
    """Store jobs, the first of which has been due for some seconds."""
    tasks = TASKS[queue]
    jobs: list[Envelope] = []
    for number in range(count):
        at = milliseconds(ago - number * apart)
        values: dict[str, Any] = {"max_retries": 3, "created": at - 1000, **fields}
        jobs.append(
            Envelope(f"{queue}-{next(NUMBERS)}", tasks[number % len(tasks)], b"[[],{}]", at, **values)
        )
    await broker.enqueue(queue, jobs)


async def die(broker: MemoryBroker, queue: str, count: int) -> None:
    """Let jobs fail for ever."""
    detail = {
        "reason": "exhausted",
        "error": "httpx.ConnectTimeout",
        "message": "no answer of api.bank.example within 5 s",
        "traceback": TRACEBACK,
    }
    await put(broker, queue, count, 900, apart=40, retries=3)
    leases = (await broker.exchange(queue, [], count)).leases
    failed = [Settlement(lease, Action.FAIL, 0.0, json.dumps(detail).encode()) for lease in leases]
    await broker.exchange(queue, failed, 0)


async def run(broker: MemoryBroker, worker: Worker) -> None:
    """Report as a worker, and lease its jobs."""
    queues = tuple(worker.running)
    report = WorkerReport(
        name=f"{worker.host}-{worker.pid}",
        host=worker.host,
        pid=worker.pid,
        number=worker.number,
        running=sum(worker.running.values()),
        started=milliseconds(9.4 * 3600),
        version="0.1.0",
        lag=worker.lag,
        queues=queues,
    )
    shares = {queue: sum(queue in each.running for each in WORKERS) for queue in queues}
    reports = {queue: QueueReport(TASKS[queue], rows=rows(queue, shares[queue])) for queue in queues}
    await broker.sweep(queues, report, reports)
    for queue, count in worker.running.items():
        await broker.exchange(queue, [], count)


def shop(broker: MemoryBroker) -> Engine:
    """The engine of the shop, with its tasks."""
    engine = Engine(broker, namespace="shop")

    async def work() -> None: ...

    for queue, names in TASKS.items():
        for name in names:
            engine.task(name=name, queue=queue, max_retries=3)(work)
    return engine


async def fill(broker: MemoryBroker) -> None:
    """Store the jobs of the evening, and let the workers take some."""
    await die(broker, "payments", 14)
    await put(broker, "images", 8, 2)
    await put(broker, "mail", 46, 4)
    await put(broker, "payments", 5, 7)
    await put(broker, "webhooks", 10, 3)
    for worker in WORKERS:  # each in an event loop of its own, as it is in a process of its own
        await asyncio.to_thread(asyncio.run, run(broker, worker))
    await put(broker, "images", 1240, 640, apart=0.5, named=False)
    await put(broker, "webhooks", 3, 1.2)
    await put(broker, "payments", 128, -40, apart=-3.1, retries=1, error="httpx.ConnectTimeout")
    await put(broker, "reports", 12, -5400, apart=-900)
    await broker.steer("mail", Pause("mail.digest", 0, "web-1-4711", "its template is being mended"))


async def draw(folder: Path) -> None:
    """Draw each screen."""
    broker = MemoryBroker(clock=StandingClock())
    engine = shop(broker)
    await fill(broker)
    with patch.object(LiveScreen, "now", return_value=NOW):
        await draw_one(engine, folder / "top.svg", (124, 28), ["down"])
        await draw_one(engine, folder / "top-jobs.svg", (124, 24), ["down", "down", "enter", "left"])
        await draw_one(engine, folder / "top-job.svg", (124, 24), ["down", "down", "enter", "left", "enter"])
    await broker.aclose()


async def draw_one(engine: Engine, path: Path, size: tuple[int, int], keys: Sequence[str]) -> None:
    """Draw the screen that some keys lead to."""
    app = TopApp(engine)
    async with app.run_test(size=size) as pilot:
        await settle(pilot)
        for key in keys:
            await pilot.press(key)
            await settle(pilot)
        picture = app.export_screenshot(title="aiospinach top")
    await asyncio.to_thread(path.write_text, picture, "utf-8")


async def settle(pilot: Pilot[None]) -> None:
    """Wait until what was asked is shown."""
    for _ in range(5):
        await pilot.pause(0.05)


if __name__ == "__main__":
    asyncio.run(draw(Path(sys.argv[1]) if len(sys.argv) > 1 else SCREENS))

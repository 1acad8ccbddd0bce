"""What ``top`` costs the store: ``python -m benchmarks.profiles.terminal --url URL``.

Five queues, one of which has a million jobs, seen over a link of 200 ms. For each screen: calls a second, and
the longest command by the clock of the server.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import time
from typing import Any

import redis.asyncio
from textual.pilot import Pilot

from aiospinach import Engine, RedisBroker
from aiospinach.brokers import Envelope
from aiospinach.top import TopApp
from benchmarks.ledger import send
from benchmarks.program import run

QUEUES = 5
BATCH = 10_000
SECONDS = 12.0
SCREENS: dict[str, list[str]] = {
    "overview": [],
    "ready jobs": ["enter"],
    "waiting jobs": ["enter", "right", "right"],
    "jobs of a task": ["enter", "slash", *"task-9", "enter"],
    "a job": ["enter", "enter"],
    "workers": ["w"],
}


class Far(RedisBroker):
    """A broker at the other end of a slow link. Counts the calls."""

    delay = 0.0
    calls = 0

    async def overview(self, *args: Any) -> Any:
        await self._pass()
        return await super().overview(*args)

    async def look(self, *args: Any) -> Any:
        await self._pass()
        return await super().look(*args)

    async def _pass(self) -> None:
        self.calls += 1
        await asyncio.sleep(self.delay)


async def measure(url: str, count: int, delay: float) -> None:
    broker = Far(url)
    engine = Engine(broker, "bench")
    for number in range(QUEUES):

        @engine.task(queue=f"queue-{number}", name=f"task-{number}")
        async def work() -> None: ...

    client = redis.asyncio.from_url(url)
    async with engine:
        now = broker.now()
        for first in range(0, count, BATCH):
            half = count // 2  # one half is ready, and the other one waits
            jobs = [
                Envelope(f"job-{n}", "task-0", b"[[],{}]", now + (3_600_000 if n >= half else 0))
                for n in range(first, min(count, first + BATCH))
            ]
            await broker.enqueue("queue-0", jobs)
        broker.delay = delay
        await client.config_set("slowlog-log-slower-than", 100)
        for name, keys in SCREENS.items():
            async with TopApp(engine).run_test(size=(120, 40)) as pilot:
                await settle(pilot, delay)
                for key in keys:
                    await pilot.press(key)
                    await settle(pilot, delay)
                await client.slowlog_reset()
                before, began = broker.calls, time.monotonic()
                await asyncio.sleep(SECONDS)
                calls = (broker.calls - before) / (time.monotonic() - began)
            slow = [entry["duration"] / 1000 for entry in await client.slowlog_get(1000)]
            send({"screen": name, "calls a second": calls, "longest command in ms": max(slow, default=0.1)})
    await client.aclose()


async def settle(pilot: Pilot[None], delay: float) -> None:
    """Wait until what was asked is shown."""
    await pilot.pause(0.5 + 6 * delay)


def main() -> None:
    logging.disable(logging.CRITICAL)
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--url", required=True)
    parser.add_argument("--count", type=int, default=1_000_000, help="how many jobs (default: 1,000,000)")
    parser.add_argument("--delay", type=float, default=0.2, help="seconds of a call (default: 0.2)")
    arguments = parser.parse_args()
    run(measure(arguments.url, arguments.count, arguments.delay), uvloop=False)


if __name__ == "__main__":
    main()

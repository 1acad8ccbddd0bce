"""The time and the size of each page of the web view: ``python -m benchmarks.profiles.web_pages``.

One queue has a million queued jobs, and ten thousand dead ones with tracebacks, of ten tasks and five errors.
Each page is asked for thirty times, within the process and without a network between it and the browser.
*first* is the time of the first answer, with all caches empty. Commands that kept the store for 10 ms are
listed. All of it takes half a minute.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import statistics
import time
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import redis.asyncio

from aiospinach import Batch, Engine, RedisBroker
from aiospinach.brokers import Settlement
from aiospinach.contrib.web import Access, web_view
from aiospinach.failures import describe
from aiospinach.outcome import Action
from benchmarks.program import BATCH, run
from benchmarks.report import table
from benchmarks.server import Server, find_binary

QUEUE = "default"
TASKS, DEAD, PERIODIC = 10, 10_000, 20
ROUNDS = 30
SLOWEST, LARGEST = 0.050, 50_000
"""Seconds and bytes that a page may take."""
SLOW_COMMAND = 10_000
"""Microseconds that a command may keep the store."""
ERRORS = (KeyError, ValueError, TimeoutError, ConnectionResetError, PermissionError)
PAGES = {
    "overview": "./",
    "queued": f"queue?name={QUEUE}",
    "queued, of one task": f"queue?name={QUEUE}&task=task-3",
    "waiting": f"queue?name={QUEUE}&status=waiting",
    "dead, one by one": f"queue?name={QUEUE}&status=dead",
    "dead, of one group": f"queue?name={QUEUE}&status=dead&task=task-3&error=builtins.ConnectionResetError",
    "dead, in groups": "dead",
    "a queued job": f"job?id=job-0&queue={QUEUE}",
    "a dead job": f"job?id=dead-9999&queue={QUEUE}",
    "periodic": "periodic",
    "workers": "workers",
    "events": "events",
    "events, of one task": "events?task=task-3",
    "schedule": "schedule",
}


def declare(engine: Engine) -> None:
    for number in range(TASKS):

        @engine.task(name=f"task-{number}")
        async def task(n: int) -> None: ...

    for number in range(PERIODIC):

        @engine.task(name=f"periodic-{number}", periodicity=timedelta(hours=1))
        async def periodic() -> None: ...


async def fill(engine: Engine, jobs: int, depth: int) -> None:
    """Store dead jobs, queued ones and some that wait."""
    details = [describe(failure(kind, depth), "exhausted") for kind in ERRORS]
    print(f"a dead job keeps {statistics.mean(map(len, details)):,.0f} bytes of its error")
    for first in range(0, DEAD, BATCH):
        numbers = range(first, min(first + BATCH, DEAD))
        await store(engine, "dead", numbers)
        leases = (await engine._broker.exchange(QUEUE, [], len(numbers))).leases
        assert len(leases) == len(numbers)
        ends = [
            Settlement(lease, Action.FAIL, detail=details[number % len(ERRORS)])
            for number, lease in zip(numbers, leases, strict=True)
        ]
        await engine._broker.exchange(QUEUE, ends, 0)
    for first in range(0, jobs, BATCH):
        await store(engine, "job", range(first, min(first + BATCH, jobs)))
    for number in range(200):
        await engine.schedule_at(f"task-{number % TASKS}", datetime.now(UTC) + timedelta(hours=1), number)


async def store(engine: Engine, name: str, numbers: range) -> None:
    batch = Batch()
    for number in numbers:
        task = engine.tasks[f"task-{number % TASKS}"]
        batch.schedule(task.options(id=f"{name}-{number}"), number)
    await engine.schedule_batch(batch)


def failure(kind: type[Exception], depth: int) -> Exception:
    """An error with a traceback of so many frames."""

    def even(left: int) -> None:
        odd(left - 1) if left else fail()

    def odd(left: int) -> None:  # two functions, since a traceback shortens calls of one by itself
        even(left - 1) if left else fail()

    def fail() -> None:
        raise kind("the service of the bank does not answer")

    try:
        even(depth)
    except Exception as error:
        return error
    raise AssertionError("it fails")


async def measure(client: httpx.AsyncClient, page: str) -> tuple[float, float, int]:
    """The milliseconds of the first answer, the median of all, and the bytes of the last."""
    times: list[float] = []
    size = 0
    for _ in range(ROUNDS):
        began = time.perf_counter()
        response = await client.get(page)
        times.append(time.perf_counter() - began)
        assert response.status_code == 200, page
        size = len(response.content)
    return times[0], statistics.median(times), size


async def pages(jobs: int, depth: int, binary: str) -> None:
    with Server(binary) as server:
        async with Engine(RedisBroker(server.url, events=10_000), "bench") as engine:
            declare(engine)
            await fill(engine, jobs, depth)
            await engine.pause(queue=QUEUE)
            await engine.start_workers(10, block=False)  # it registers the periodic tasks
            await asyncio.sleep(1)
            client = redis.asyncio.from_url(server.url)
            await client.config_set("slowlog-log-slower-than", SLOW_COMMAND)
            await client.slowlog_reset()
            await report(engine)
            slow = [f"{entry['duration'] / 1e3:.1f} ms" for entry in await client.slowlog_get(10)]
            print(f"commands over {SLOW_COMMAND / 1e3:.0f} ms: {', '.join(slow) or 'none'}")
            await client.aclose()
            await engine.stop_workers()


async def report(engine: Engine) -> None:
    everything: Any = Access.ALL | Access.SCHEDULE
    app = web_view(engine, access=lambda request: everything)
    transport = httpx.ASGITransport(app)
    rows, misses = [], []
    async with httpx.AsyncClient(transport=transport, base_url="http://view") as client:
        await client.get("static/view.css")
        for name, page in PAGES.items():
            first, median, size = await measure(client, page)
            rows.append([name, f"{first * 1e3:.1f}", f"{median * 1e3:.1f}", f"{size:,}"])
            if first > SLOWEST or size > LARGEST:
                misses.append(name)
    print("\n".join(table(["page", "first ms", "median ms", "bytes"], rows)))
    print(f"over {SLOWEST * 1e3:.0f} ms or {LARGEST:,} bytes: {', '.join(misses) or 'none'}")


def main() -> None:
    logging.disable(logging.CRITICAL)
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument(
        "--jobs", type=int, default=1_000_000, help="how many queued jobs (default: 1,000,000)"
    )
    parser.add_argument("--depth", type=int, default=12, help="how many frames tracebacks have (default: 12)")
    parser.add_argument("--server", metavar="BINARY", help="the server to measure on")
    arguments = parser.parse_args()
    run(pages(arguments.jobs, arguments.depth, arguments.server or find_binary()), uvloop=True)


if __name__ == "__main__":
    main()

"""How late a job starts that was scheduled ahead: ``python benchmarks/punctuality.py [--redis URL]``.

An idle worker, and 200 jobs, each scheduled 300 ms ahead when the one before it has run; then the same
while the worker sleeps until a job that is due in an hour. Prints how many milliseconds after their due
time the bodies began, by the broker's clock: half of them, 99 of 100, and the extremes.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import secrets
from datetime import UTC, datetime, timedelta

from aiospinach import Broker, Engine, MemoryBroker, RedisBroker, current_job


async def measure(broker: Broker, title: str, count: int, *, with_later: bool) -> None:
    engine = Engine(broker, f"punctuality-{secrets.token_hex(4)}")
    late: list[float] = []
    ran = asyncio.Event()

    @engine.task
    async def job() -> None:
        due = current_job()
        assert due is not None
        late.append((datetime.fromtimestamp(broker.now() / 1000, UTC) - due.at).total_seconds() * 1000)
        ran.set()

    async with engine:
        await engine.start_workers(5, block=False)
        if with_later:
            await job.schedule_at(datetime.now(UTC) + timedelta(hours=1))
        for _ in range(count):
            ran.clear()
            due = datetime.fromtimestamp(broker.now() / 1000, UTC) + timedelta(milliseconds=300)
            await job.schedule_at(due)
            await ran.wait()
    late.sort()
    half, almost_all = late[len(late) // 2], late[int(len(late) * 0.99)]
    print(f"| {title:34} | {late[0]:5.1f} | {half:5.1f} | {almost_all:5.1f} | {late[-1]:5.1f} |", flush=True)


async def main() -> None:
    logging.disable(logging.CRITICAL)
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--redis", metavar="URL", help="measure this server too, such as redis://localhost")
    parser.add_argument("--count", type=int, default=200, help="how many jobs (default: 200)")
    arguments = parser.parse_args()
    print("| ms after the due time              | least |  half |   99% |  most |")
    print("|---|---:|---:|---:|---:|")
    for name, url in (("memory", None), ("Redis", arguments.redis)):
        for with_later in (False, True):
            title = f"{name}, asleep until a later one" if with_later else f"{name}, idle"
            if url is not None:
                await measure(RedisBroker(url), title, arguments.count, with_later=with_later)
            elif name == "memory":
                await measure(MemoryBroker(), title, arguments.count, with_later=with_later)


if __name__ == "__main__":
    asyncio.run(main())

"""How late jobs start that were scheduled ahead: ``python -m benchmarks.profiles.punctuality [--url URL]``.

An idle worker gets one job after the other, each scheduled 100 ms ahead. With ``--later`` another job waits
that is due in an hour. Figures are milliseconds after the due time, by the broker's clock.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
from datetime import UTC, datetime, timedelta

from aiospinach import Broker, Engine, MemoryBroker, RedisBroker, current_job
from benchmarks.ledger import send
from benchmarks.program import run


async def measure(broker: Broker, count: int, *, with_later: bool) -> None:
    engine = Engine(broker, "bench")
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
            due = datetime.fromtimestamp(broker.now() / 1000, UTC) + timedelta(milliseconds=100)
            await job.schedule_at(due)
            await ran.wait()
    late.sort()
    send({"p50 ms": late[len(late) // 2], "p99 ms": late[int(len(late) * 0.99)], "worst ms": late[-1]})


def main() -> None:
    logging.disable(logging.CRITICAL)
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--url", help="a Redis (default: the MemoryBroker)")
    parser.add_argument("--count", type=int, default=50, help="how many jobs (default: 50)")
    parser.add_argument("--later", action="store_true")
    arguments = parser.parse_args()
    broker = RedisBroker(arguments.url) if arguments.url else MemoryBroker()
    run(measure(broker, arguments.count, with_later=arguments.later), uvloop=True)


if __name__ == "__main__":
    main()

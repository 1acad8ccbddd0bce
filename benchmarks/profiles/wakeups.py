"""How many of 100 idle workers wake for one job: ``python -m benchmarks.profiles.wakeups --url URL``."""

from __future__ import annotations

import argparse
import asyncio
import logging
from collections.abc import Sequence

from aiospinach import Engine, RedisBroker
from benchmarks.ledger import send
from benchmarks.program import run

ROUNDS = 20


class Watched(RedisBroker):
    """Counts how often it was woken."""

    wakings = 0

    async def wait(self, queues: Sequence[str], timeout: float) -> str | None:
        woken = await super().wait(queues, timeout)
        if woken is not None:
            Watched.wakings += 1
        return woken


async def measure(url: str, count: int) -> None:
    engines = [Engine(Watched(url), "bench") for _ in range(count)]
    ran = asyncio.Event()
    for engine in engines:

        @engine.task(name="job")
        async def job() -> None:
            ran.set()

    for engine in engines:
        await engine.start_workers(1, block=False)
    await asyncio.sleep(1)
    client = Engine(RedisBroker(url), "bench")
    client.task(name="job")(job.function)
    woken = []
    async with client:
        for _ in range(ROUNDS):
            before = Watched.wakings
            ran.clear()
            await client.schedule("job")
            await ran.wait()
            await asyncio.sleep(0.1)
            woken.append(Watched.wakings - before)
    await asyncio.gather(*(engine.stop_workers() for engine in engines))
    send({"workers": count, "woken": sum(woken) / len(woken), "woken at most": max(woken)})


def main() -> None:
    logging.disable(logging.CRITICAL)
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--url", required=True)
    parser.add_argument("--count", type=int, default=100, help="how many workers (default: 100)")
    arguments = parser.parse_args()
    run(measure(arguments.url, arguments.count), uvloop=True)


if __name__ == "__main__":
    main()

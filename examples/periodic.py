"""Run one task every fifth of a second, and another by a calendar.

    python examples/periodic.py

prints ``tick 1``, ``tick 2`` and ``tick 3``, and ends after the third.
"""

import asyncio
import itertools
from datetime import timedelta

from aiospinach import Cron, Engine, MemoryBroker

engine = Engine(MemoryBroker())
ticks = itertools.count(1)


@engine.task(periodicity=timedelta(seconds=0.2))
async def tick() -> None:
    number = next(ticks)
    print(f"tick {number}")
    if number == 3:
        await engine.stop_workers()  # within a job it returns at once, so that the job can end


@engine.task(periodicity=Cron("0 0 1 jan *", tz="Europe/Paris"))
async def celebrate() -> None:
    print("bonne année")


if __name__ == "__main__":
    asyncio.run(engine.start_workers(number=1))

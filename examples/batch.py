"""Schedule a thousand jobs together, and in the same batch one for later.

    python examples/batch.py

prints ``stored 1001 jobs``, a second later ``good night``, and ``the sum of the squares is 332833500``.
"""

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

from aiospinach import Batch, Engine, Job, MemoryBroker, signals

engine = Engine(MemoryBroker())
results: list[int] = []


@engine.task
async def square(number: int) -> int:
    return number * number


@engine.task
def say_good_night() -> int:
    print("good night")
    return 0


@signals.job_finished.connect_via(engine.namespace)
async def collect(namespace: str, job: Job, result: Any, **kwargs: Any) -> None:
    results.append(result)
    if len(results) == 1001:
        print(f"the sum of the squares is {sum(results)}")
        await engine.stop_workers()


async def main() -> None:
    batch = Batch().schedule_at(say_good_night, datetime.now(UTC) + timedelta(seconds=1))
    for number in range(1000):
        batch.schedule(square, number)
    jobs = await engine.schedule_batch(batch)  # all or none, in one round trip
    print(f"stored {len(jobs)} jobs")
    await engine.start_workers(number=20)


if __name__ == "__main__":
    asyncio.run(main())

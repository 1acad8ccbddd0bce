"""A program that runs workers, the first of which is killed after the body of its job.

``python -m tests.faults.result_worker URL NAMESPACE``"""

from __future__ import annotations

import asyncio
import os
import signal
import sys

from aiospinach import Engine, RedisBroker, Tasks, current_job

tasks = Tasks()


@tasks.task(name="kept", result_ttl=60, max_retries=5)
async def kept() -> tuple[int, int]:
    """Returns its process and how many workers it has lost. The first run is killed before it is settled."""
    job = current_job()
    assert job is not None
    if not job.crashes:
        # Nothing is sent before the next turn of the event loop.
        asyncio.get_running_loop().call_soon(os.kill, os.getpid(), signal.SIGKILL)
    return os.getpid(), job.crashes


async def main() -> None:
    engine = Engine(RedisBroker(sys.argv[1], lease=3), sys.argv[2])
    engine.attach_tasks(tasks)
    async with engine:
        await engine.start_workers(1)


if __name__ == "__main__":
    asyncio.run(main())

"""Schedule jobs from plain functions, in threads that run no event loop.

    python examples/plain_callers.py

prints ``queued`` with the id of a job, once for each of three pictures, and then
``made ann.jpg, bob.jpg, eve.jpg``.
"""

import asyncio
from concurrent.futures import ThreadPoolExecutor

from aiospinach import Engine, MemoryBroker

engine = Engine(MemoryBroker(), namespace="pictures")
made: list[str] = []


@engine.task(max_retries=3)
async def thumbnail(name: str) -> None:
    made.append(name)


def upload(name: str) -> str:
    """A plain function, like a view of Flask or Django: it waits until the job is stored."""
    return engine.blocking.schedule(thumbnail, name).id


def main() -> None:
    with engine.blocking, ThreadPoolExecutor() as threads:
        for job_id in threads.map(upload, ["ann.jpg", "bob.jpg", "eve.jpg"]):
            print(f"queued {job_id}")
    asyncio.run(engine.start_workers(stop_when_queue_empty=True))
    print(f"made {', '.join(sorted(made))}")


if __name__ == "__main__":
    main()

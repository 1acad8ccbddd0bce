"""The id of a request reaches its job, the tries of the job, and the jobs that the job schedules.

    python examples/request_context.py

prints

    r-1: charge order 1
    r-1: charge order 1
    r-1: receipt for order 1
    r-2: charge order 2
    r-2: receipt for order 2
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from contextvars import ContextVar

from aiospinach import Engine, Job, MemoryBroker, RetryException

request_id: ContextVar[str] = ContextVar("request_id")

engine = Engine(MemoryBroker(), namespace="context")
engine.carry(request_id)


@engine.around
@asynccontextmanager
async def patient(job: Job) -> AsyncIterator[None]:
    try:
        yield
    except ConnectionError as error:  # a receiver of a signal could only report it
        raise RetryException("the provider is away") from error


def say(words: str) -> None:
    print(f"{request_id.get()}: {words}")


tries = 0


@engine.task(max_retries=3, backoff=lambda retry: 0)
async def charge(order: int) -> None:
    global tries
    tries += 1
    say(f"charge order {order}")
    if tries == 1:
        raise ConnectionError
    await receipt.schedule(order)


@engine.task
def receipt(order: int) -> None:  # a plain function, in a thread
    say(f"receipt for order {order}")


async def request(number: int) -> None:
    """A request of a web application."""
    request_id.set(f"r-{number}")
    await charge.schedule(number)


async def main() -> None:
    async with engine:
        for number in (1, 2):
            await asyncio.create_task(request(number))  # a context of its own, as in a web server
            await engine.start_workers(1, stop_when_queue_empty=True)


if __name__ == "__main__":
    asyncio.run(main())

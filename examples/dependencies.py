"""Pass a session and a client to jobs, within a lifespan of the workers.

    python examples/dependencies.py

prints what is opened and closed around two jobs, the second of which fails.
"""

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated

from aiospinach import Depends, Engine, MemoryBroker, Provided, Shared, current_job


@asynccontextmanager
async def resources(engine: Engine) -> AsyncIterator[None]:
    print("lifespan: enter")
    yield
    print("lifespan: leave")


async def get_client() -> AsyncIterator[str]:
    print("client: connect")
    yield "client"
    print("client: disconnect")


async def get_session() -> AsyncIterator[list[str]]:
    job = current_job()
    assert job is not None
    rows: list[str] = []
    try:
        yield rows
    except Exception as error:
        print(f"session of order {job.args[0]}: roll back, {error}")
        raise
    print(f"session of order {job.args[0]}: commit {rows}")


engine = Engine(MemoryBroker(), lifespan=resources)


@engine.task
async def bill(
    order: int,
    rows: Annotated[list[str], Depends(get_session)] = Provided,
    client: Annotated[str, Shared(get_client)] = Provided,
) -> None:
    if order == 13:
        raise ValueError("nobody pays this")
    rows.append(f"bill {order} by {client}")


async def main() -> None:
    logging.getLogger("aiospinach").setLevel(logging.CRITICAL)
    await bill.schedule(17)
    await bill.schedule(13)
    await engine.start_workers(1, stop_when_queue_empty=True)


if __name__ == "__main__":
    asyncio.run(main())

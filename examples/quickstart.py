"""Schedule a job and run it.

    python examples/quickstart.py

prints ``5 + 3 = 8``.
"""

import asyncio

from aiospinach import Engine, MemoryBroker

engine = Engine(MemoryBroker())


@engine.task(max_retries=3, timeout=30)
async def compute(a: int, b: int) -> int:
    print(f"{a} + {b} = {a + b}")
    return a + b


async def main() -> None:
    await compute.schedule(5, 3)  # type checkers know its arguments
    await engine.start_workers(stop_when_queue_empty=True)


if __name__ == "__main__":
    asyncio.run(main())

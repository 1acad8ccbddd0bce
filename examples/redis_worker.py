"""A worker process: it runs the jobs that other processes schedule, until SIGTERM or SIGINT.

    pip install aiospinach
    python examples/redis_worker.py redis://localhost:6379/0

The URL may also be in ``$REDIS_URL``. Start as many workers as you like, on as many machines. This schedules
a job for them,

    python examples/redis_worker.py redis://localhost:6379/0 --schedule Ann

and prints ``scheduled`` and the job's id; a worker prints ``hello, Ann``. Exit status: 0, after a signal and
the end of the running jobs; 2, wrong usage.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import sys

from aiospinach import Engine, RedisBroker, Tasks

tasks = Tasks()


@tasks.task(max_retries=3, timeout=30)
async def greet(name: str) -> None:
    print(f"hello, {name}", flush=True)


def engine_on(url: str) -> Engine:
    """An engine that is the same in every process: it has the tasks, and a namespace of its own."""
    engine = Engine(RedisBroker(url), namespace="greetings")
    engine.attach_tasks(tasks)
    return engine


async def schedule(url: str, name: str) -> None:
    async with engine_on(url) as engine:
        job = await engine.schedule(greet, name)
        print(f"scheduled {job.id}")


async def work(url: str, number: int) -> None:
    async with engine_on(url) as engine:
        await engine.start_workers(number, shutdown_timeout=20)  # until a signal, and then it drains


def main() -> int:
    usage, _, rest = (__doc__ or "").partition("\n\n")
    parser = argparse.ArgumentParser(
        description=usage, epilog=rest, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("url", nargs="?", default=os.environ.get("REDIS_URL"), help="where Redis is")
    parser.add_argument("--number", type=int, default=10, metavar="N", help="jobs at once (default: 10)")
    parser.add_argument("--schedule", metavar="NAME", help="schedule a greeting, and run nothing")
    options = parser.parse_args()
    if options.url is None:
        parser.error("give the URL of Redis, or set REDIS_URL")
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    if options.schedule is not None:
        asyncio.run(schedule(options.url, options.schedule))
    else:
        asyncio.run(work(options.url, options.number))
    return 0


if __name__ == "__main__":
    sys.exit(main())

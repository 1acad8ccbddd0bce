"""An engine that was made before a process forks, as a preloading server does it, works in every child."""

from __future__ import annotations

import asyncio
import sys
from collections import Counter
from pathlib import Path

from ..brokers_under_test import shared_server

JOBS = 40
PROGRAM = """
import asyncio, os, sys, time
from aiospinach import Engine, RedisBroker

url, namespace, path, jobs = sys.argv[1:]
engine = Engine(RedisBroker(url), namespace)

@engine.task
async def job(number: int) -> None:
    with open(path, "a") as file:
        file.write(f"{number}\\n")
    await asyncio.sleep(0.05)

async def schedule() -> None:
    for number in range(int(jobs)):
        await engine.schedule(job, number)

async def work() -> None:
    async with engine:
        await engine.start_workers(4, stop_when_queue_empty=True)

asyncio.run(schedule())  # the parent has used it, too
children = []
for _ in range(3):
    child = os.fork()
    if child == 0:
        asyncio.run(work())
        os._exit(0)
    children.append(child)
for child in children:
    assert os.waitpid(child, 0)[1] == 0
"""


async def test_children_of_one_process_share_no_job(namespace: str, tmp_path: Path) -> None:
    path = tmp_path / "ran"
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", PROGRAM, shared_server().url, namespace, str(path), str(JOBS)
    )
    assert await process.wait() == 0
    assert Counter(path.read_text().split()) == Counter(map(str, range(JOBS)))

"""What is known of jobs whose workers are other processes: where a body hangs, and what follows a kill."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest

from aiospinach import Engine, Explanation, Job, RedisBroker, Verdict

from ..servers import Server

LEASE = 1.2
ROOT = Path(__file__).parents[2]
WORKER = """
import asyncio, sys, time
from aiospinach import Engine, RedisBroker

engine = Engine(RedisBroker(sys.argv[1], lease=1.2), sys.argv[2])

async def never_answers():
    await asyncio.Event().wait()  # hangs here

@engine.task(name="hang", max_retries=9)
async def hang() -> None:
    await never_answers()

@engine.task(name="block")
def block() -> None:
    time.sleep(60)  # blocks here

asyncio.run(engine.start_workers(3))
"""


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    server = Server().start()
    yield server
    server.close()


@pytest.fixture
async def engine(server: Server, namespace: str) -> AsyncIterator[Engine]:
    async with Engine(RedisBroker(server.url, lease=LEASE), namespace) as engine:

        @engine.task(name="hang", max_retries=9)
        async def hang() -> None: ...

        @engine.task(name="block")
        def block() -> None: ...

        yield engine


@pytest.fixture
def start(server: Server, namespace: str, tmp_path: Path) -> Iterator[Callable[[], subprocess.Popen[bytes]]]:
    """Starts workers in processes of their own."""
    program = tmp_path / "hanging_worker.py"
    program.write_text(WORKER)
    started: list[subprocess.Popen[bytes]] = []

    def start() -> subprocess.Popen[bytes]:
        command = [sys.executable, "-P", str(program), server.url, namespace]
        started.append(subprocess.Popen(command, cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)}))
        return started[-1]

    yield start
    for process in started:
        process.kill()
        process.wait()


async def explained(
    engine: Engine, job: Job, condition: Callable[[Explanation], object], *, stack: bool = False
) -> Explanation:
    """Explain the job until the condition is true."""
    async with asyncio.timeout(30):
        while not condition(why := await engine.explain(job, stack=stack)):
            await asyncio.sleep(0.01)
    return why


async def test_the_line_is_shown_where_a_body_in_another_process_hangs(
    engine: Engine, start: Callable[[], subprocess.Popen[bytes]]
) -> None:
    start()
    hanging, blocking = await engine.schedule("hang"), await engine.schedule("block")
    lines = WORKER.splitlines()
    for job, comment, function in (
        (hanging, "hangs here", "never_answers"),
        (blocking, "blocks here", "block"),
    ):
        number = next(number for number, line in enumerate(lines, 1) if comment in line)
        shown = f"hanging_worker.py:{number} {function}"
        why = await explained(engine, job, lambda why: shown in str(why), stack=True)  # noqa: B023
        assert why.verdict is Verdict.RUNNING


async def test_a_job_of_a_killed_worker_is_lost_and_then_runs_elsewhere(
    engine: Engine, start: Callable[[], subprocess.Popen[bytes]]
) -> None:
    first = start()
    job = await engine.schedule("hang")
    why = await explained(engine, job, lambda why: why.verdict is Verdict.RUNNING and why.job.worker)  # type: ignore[union-attr]
    assert why.job is not None
    killed = why.job.worker
    assert [(worker.name, worker.pid) for worker in await engine.workers()] == [(killed, first.pid)]
    second = start()
    async with asyncio.timeout(30):
        while len(await engine.workers()) < 2:
            await asyncio.sleep(0.01)
    os.kill(first.pid, signal.SIGKILL)
    seen: list[Verdict] = []

    def is_elsewhere(why: Explanation) -> bool:
        if why.verdict not in seen[-1:]:
            seen.append(why.verdict)
        return why.verdict is Verdict.RUNNING and why.job is not None and why.job.worker != killed

    why = await explained(engine, job, is_elsewhere)
    assert seen[:2] == [Verdict.RUNNING, Verdict.LOST]
    assert seen[-1] is Verdict.RUNNING
    assert set(seen) <= {Verdict.RUNNING, Verdict.LOST, Verdict.RETRY, Verdict.QUEUED}
    assert why.job is not None
    assert (why.job.crashes, why.job.error) == (1, "aiospinach.WorkerLost")
    async with asyncio.timeout(3 * LEASE + 5):
        while len(workers := await engine.workers()) > 1:
            await asyncio.sleep(0.01)
    assert [(worker.name, worker.pid) for worker in workers] == [(why.job.worker, second.pid)]

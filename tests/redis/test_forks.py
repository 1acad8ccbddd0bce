"""An engine created before a fork, as in a preloading server, works in every child."""

from __future__ import annotations

import asyncio
import sys
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from ..brokers_under_test import shared_server
from .tls import Authority, TLSProxy

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


async def test_no_job_runs_in_two_children(namespace: str, tmp_path: Path) -> None:
    path = tmp_path / "ran"
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", PROGRAM, shared_server().url, namespace, str(path), str(JOBS)
    )
    assert await process.wait() == 0
    assert Counter(path.read_text().split()) == Counter(map(str, range(JOBS)))


USED_LOOP = """
import asyncio, os, sys
from aiospinach import Engine, RedisBroker
from aiospinach.engine import queue_watch

queue_watch.WARN_AFTER = 60  # no worker runs yet
url, namespace, path, forks, jobs = sys.argv[1:]
engine = Engine(RedisBroker(url, enqueue_timeout=3), namespace)
loop = asyncio.new_event_loop()  # kept by a module of the program, and used by each child as well

@engine.task
async def job(who: int, number: int) -> None:
    with open(path, "a") as file:
        file.write(f"{who}/{number}\\n")

def schedule(who: int) -> int:
    returned = 0
    for number in range(int(jobs)):
        try:
            loop.run_until_complete(asyncio.wait_for(job.schedule(who, number), 5))
            returned += 1
        except Exception as error:
            print(who, number, repr(error), file=sys.stderr)
    return returned

def work(who: int) -> int:
    async def main():
        async with engine:
            await engine.start_workers(4, stop_when_queue_empty=True)
    loop.run_until_complete(main())
    return 0

def fork(do, meanwhile) -> int:
    children = []
    for who in range(1, 1 + int(forks)):
        child = os.fork()
        if child == 0:
            os._exit(do(who))
        children.append(child)
    return meanwhile() + sum(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children)

returned = schedule(0)
returned += fork(schedule, lambda: schedule(-1))  # the parent's connection lives on
assert fork(work, lambda: 0) == 0
returned += schedule(-2)

async def end():
    async with engine:  # which closes its connections
        await engine.start_workers(4, stop_when_queue_empty=True)

loop.run_until_complete(end())
print(returned)
"""


@pytest.fixture
async def tls(tmp_path: Path) -> AsyncIterator[str]:
    """The URL of a TLS proxy in front of the shared server."""
    authority = Authority(tmp_path / "ca")
    async with TLSProxy(shared_server().port, authority.server("127.0.0.1")) as proxy:
        yield f"{proxy.url}?ssl_ca_certs={authority.ca_certs}"


@pytest.mark.parametrize("how", ["plain", "tls"])
async def test_a_loop_used_before_a_fork_can_be_used_after_it(
    namespace: str, tmp_path: Path, tls: str, how: str
) -> None:
    """A child uses neither its parent's connection nor its session, whose calls would count as repeats."""
    path, forks, jobs = tmp_path / "ran", 4, 50
    url = tls if how == "tls" else shared_server().url
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", USED_LOOP, url, namespace, str(path), str(forks), str(jobs)),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, errors = await process.communicate()
    assert errors.decode() == ""
    assert int(out) == (forks + 3) * jobs
    ran = Counter(path.read_text().split())
    assert ran == Counter(f"{who}/{number}" for who in range(-2, 1 + forks) for number in range(jobs))


SESSIONS = """
import os
from aiospinach import RedisBroker

broker = RedisBroker()
parent = broker._calls.producer_session.session
child = os.fork()
if child == 0:
    os._exit(broker._calls.producer_session.session == parent)
assert os.waitpid(child, 0)[1] == 0
assert broker._calls.producer_session.session == parent
"""


async def test_a_child_has_its_own_producer_session() -> None:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", SESSIONS, stderr=asyncio.subprocess.PIPE
    )
    _, errors = await process.communicate()
    assert process.returncode == 0, errors.decode()


IDLE_CHILD = """
import asyncio, os, signal, sys, time
from aiospinach import Engine, RedisBroker

url, namespace = sys.argv[1:]
engine = Engine(RedisBroker(url, enqueue_timeout=60), namespace)  # it is not asked again meanwhile
job = engine.task(name="job")(lambda: None)
loop = asyncio.new_event_loop()
loop.run_until_complete(job.schedule())
watching, says_so = os.pipe()
child = os.fork()
if child == 0:
    loop.call_soon(os.write, says_so, b"!")
    loop.run_until_complete(asyncio.sleep(30))  # it watches what its parent watches
    os._exit(0)

async def schedule_slowly() -> None:
    call = asyncio.create_task(job.schedule())
    for _ in range(3):
        await asyncio.sleep(0)  # the command is on its way
    time.sleep(0.01)  # the child has the answer for itself, if it reads at all
    await asyncio.wait_for(call, 2)

try:
    os.read(watching, 1)
    for _ in range(20):
        loop.run_until_complete(schedule_slowly())
finally:
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
"""


async def test_a_child_does_not_read_the_answers_of_its_parent(namespace: str) -> None:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", IDLE_CHILD, shared_server().url, namespace, stderr=asyncio.subprocess.PIPE
    )
    _, errors = await process.communicate()
    assert process.returncode == 0, errors.decode()


IN_MEMORY = """
import asyncio, os
from aiospinach import Engine, MemoryBroker

engine = Engine(MemoryBroker(), "forks")
loop = asyncio.new_event_loop()
ran = []

@engine.task
async def job(number: int) -> None:
    ran.append(number)
    if number == 1:
        child = os.fork()
        if child == 0:
            os._exit(not asyncio.run(elsewhere()))
        ran.append(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))

async def elsewhere() -> bool:
    # The workers and the jobs of the parent are no business of a child.
    assert not engine.health().is_running
    await asyncio.wait_for(engine.stop_workers(), 5)
    ran.clear()
    await job.schedule(3)
    await asyncio.wait_for(engine.start_workers(stop_when_queue_empty=True), 5)
    return ran == [3]

async def main() -> None:
    await job.schedule(1)
    await job.schedule(2)
    await engine.start_workers(1, stop_when_queue_empty=True)

loop.run_until_complete(main())
assert ran == [1, 0, 2], ran
"""


async def test_a_child_does_not_inherit_workers_or_jobs_in_memory() -> None:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", IN_MEMORY, stderr=asyncio.subprocess.PIPE
    )
    _, errors = await process.communicate()
    assert process.returncode == 0, errors.decode()

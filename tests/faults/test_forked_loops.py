"""An event loop used before forks works in the parent and in every child, while connections are cut."""

from __future__ import annotations

import asyncio
import json
import sys
from collections import Counter
from pathlib import Path

from ..redis.proxy import Proxy
from ..servers import Server
from .conftest import Report, Size

PROGRAM = """
import asyncio, json, os, sys
from aiospinach import BrokerUnavailable, Engine, EnqueueUncertain, RedisBroker

url, namespace, folder, forks, jobs = sys.argv[1:]
engine = Engine(RedisBroker(url, lease=2, enqueue_timeout=20), namespace)
loop = asyncio.new_event_loop()

@engine.task
async def job(who: int, number: int) -> None:
    with open(os.path.join(folder, "ran"), "a") as file:
        file.write(f"{who}/{number}\\n")
    await asyncio.sleep(0.005)

def schedule(who: int) -> None:
    stored = []
    for number in range(int(jobs)):
        try:
            stored.append(loop.run_until_complete(job.schedule(who, number)).id)
        except EnqueueUncertain as error:
            stored.append(loop.run_until_complete(error.retry()).id)
    with open(os.path.join(folder, f"stored-{who}"), "w") as file:
        json.dump(stored, file)

def work() -> None:
    async def main():
        while True:
            try:
                async with engine:
                    return await engine.start_workers(4, stop_when_queue_empty=True)
            except BrokerUnavailable:
                pass  # a start tries once, as a wrong URL is to be seen at once
    loop.run_until_complete(main())

schedule(0)
children = []
for who in range(1, 1 + int(forks)):
    child = os.fork()
    if child == 0:
        schedule(who)  # once more before the next fork
        grandchild = os.fork()
        if grandchild == 0:
            schedule(100 + who)
            os._exit(0)
        assert os.waitpid(grandchild, 0)[1] == 0
        work()
        os._exit(0)
    children.append(child)
schedule(-1)
for child in children:
    assert os.waitpid(child, 0)[1] == 0
work()
"""


async def test_no_job_is_lost_or_run_twice_by_forks_of_a_used_loop(
    namespace: str, server: Server, tmp_path: Path, size: Size, report: Report
) -> None:
    forks, jobs = size(3, 8), size(40, 400)
    async with Proxy(server.port) as proxy:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-c", PROGRAM, proxy.url, namespace, str(tmp_path), str(forks), str(jobs)),
            stderr=asyncio.subprocess.PIPE,
        )
        ended = asyncio.create_task(process.communicate())
        cuts = 0
        while not (await asyncio.wait([ended], timeout=0.15))[0]:
            proxy.cut()
            cuts += 1
        _, errors = await ended
    assert process.returncode == 0, errors.decode()
    stored = [name for path in tmp_path.glob("stored-*") for name in json.loads(path.read_text())]
    ran = Counter((tmp_path / "ran").read_text().split())
    expected = (2 + 2 * forks) * jobs
    with server.client() as client:
        dead = client.zcard(f"ais2:{{{namespace}:default}}:dead")
    report(
        stored=len(stored),
        different=len(set(stored)),
        ran=len(ran),
        most=max(ran.values()),
        dead=dead,
        cuts=cuts,
    )
    assert len(stored) == len(set(stored)) == expected
    assert ran == Counter(dict.fromkeys(ran, 1)), "at-most-once jobs run once"
    assert len(ran) + dead == expected, "a lease whose answer was lost ends a job that may start once"
    assert cuts > 0

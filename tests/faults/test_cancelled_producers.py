"""A cancelled call to schedule stores its job once or not at all, and affects no other call."""

from __future__ import annotations

import asyncio
import json
from collections import Counter

import pytest

from aiospinach import Engine, Job, JobStatus, RedisBroker

from ..servers import Server
from .conftest import Report, Size
from .fleet import Store


@pytest.mark.parametrize("callers", [1, 4], ids=["alone", "sharing"])
async def test_schedule_is_cancelled_at_every_await(
    callers: int, server: Server, namespace: str, store: Store, size: Size, report: Report
) -> None:
    times = size(500, 10_000)
    returned: dict[str, str] = {}  # names of scheduled jobs, and the returned ids
    maybe: set[str] = set()
    turns, most_turns, rounds, cancelled, duplicates = 0, 0, 0, 0, 0
    connections = set()
    async with Engine(RedisBroker(server.unix_url), namespace) as engine:

        @engine.task
        async def job(name: str) -> None:
            pass

        known = job.options(id="known")
        returned["known"] = (await known.schedule("known")).id
        with server.client() as client:
            while cancelled < times:
                # Every third call schedules a duplicate, so that a misdirected answer is noticed.
                names = [f"{rounds}-{index}" for index in range(callers)]
                repeats = [(rounds + index) % 3 == 0 for index in range(callers)]
                calls = [
                    asyncio.create_task((known if is_repeat else job).schedule(name))
                    for name, is_repeat in zip(names, repeats, strict=True)
                ]
                for _ in range(turns):
                    await asyncio.sleep(0)
                victim = rounds % callers
                calls[victim].cancel()
                answers = await asyncio.gather(*calls, return_exceptions=True)
                is_cancelled = isinstance(answers[victim], asyncio.CancelledError)
                for name, is_repeat, answer in zip(names, repeats, answers, strict=True):
                    if is_cancelled and name == names[victim]:
                        if not is_repeat:
                            maybe.add(name)
                        continue
                    assert isinstance(answer, Job), answer
                    assert answer.args == (name,)
                    assert answer.status is (JobStatus.NOT_SET if is_repeat else JobStatus.QUEUED)
                    if is_repeat:
                        duplicates += 1
                    else:
                        returned[name] = answer.id
                cancelled += is_cancelled
                rounds += 1
                most_turns = max(most_turns, turns)
                turns = turns + 1 if is_cancelled else 0
                if rounds % 50 == 0:
                    connections.add(len(client.client_list()))
        returned["last"] = (await job.schedule("last")).id  # sent after all the others

        bodies = store("HGETALL", "jobs").items()
        stored = {json.loads(body.split(b"\n", 2)[2])[0][0]: job_id.decode() for job_id, body in bodies}
        queue = Counter(job_id.decode() for job_id in store("LRANGE", "ready", 0, -1))
    report(
        cancelled=cancelled,
        at_awaits=most_turns,
        returned=len(returned),
        duplicates=duplicates,
        cancelled_and_stored=len(stored.keys() & maybe),
        cancelled_and_not=len(maybe - stored.keys()),
        stored_more_than_once=sum(count > 1 for count in queue.values()),
        connections=connections,
    )
    assert returned.items() <= stored.items()
    assert stored.keys() <= returned.keys() | maybe
    assert queue == dict.fromkeys(stored.values(), 1)
    assert store.live == len(stored)
    assert len(connections) == 1
    assert maybe & stored.keys()
    assert maybe - stored.keys()

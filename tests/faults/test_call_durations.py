"""Calls are short however long the keys of a queue are: the next call continues where one ended."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from itertools import chain
from statistics import median
from typing import Any

import pytest
import redis

from aiospinach import RedisBroker
from aiospinach.brokers.records import Envelope, Parking, Settlement
from aiospinach.brokers.redis import scripts
from aiospinach.brokers.reports import WorkerReport
from aiospinach.outcome import Action

from .. import asking
from ..servers import Server
from .conftest import Report
from .fleet import Store

LENGTH = 100_000
SLOW = 30_000
"""In microseconds, the maximum of a call: three times its duration on an idle machine."""
CALLS_AT_MOST = 60
"""Of each kind; half of them may be slow, since a shared machine slows some."""
ENVELOPE = b"2 job 0 0 -\n0 0 0 0 - - - -\n[[],{}]"
LIMITED = b"2 limited 0 0 -\n0 0 0 0 - - - -\n[[],{}]"
HOUR = 3_600_000


class Queue:
    """A queue whose keys are filled without the broker, on a server of its own."""

    def __init__(self, broker: RedisBroker, client: redis.Redis, store: Store) -> None:
        self.broker = broker
        self.store = store
        self._client = client

    def fill(self, command: str, name: str, members: Iterable[Any]) -> None:
        """Add members, or pairs of members, to a key."""
        flat = list(chain.from_iterable(each if isinstance(each, tuple) else (each,) for each in members))
        for first in range(0, len(flat), 10_000):
            self.store(command, name, *flat[first : first + 10_000])

    def run(self, count: int, task: bytes = ENVELOPE, *, until: float = 9e15) -> list[str]:
        """Store running jobs of another worker, with leases until this moment."""
        ids = [f"running-{number}" for number in range(count)]
        self.fill("HSET", "jobs", ((job_id, task) for job_id in ids))
        self.fill("ZADD", "leases", ((until, f"{job_id}:elsewhere.1") for job_id in ids))
        return ids

    async def repeat(self, call: Callable[[], Awaitable[bool]]) -> tuple[int, list[int]]:
        """Repeat a call while it returns that there is more to do.

        Returns the number of calls, and the microseconds of those that took more than a millisecond. Time in
        which other processes had the processor does not count.
        """
        self._client.config_set("slowlog-log-slower-than", 1000)
        self._client.config_set("slowlog-max-len", 10_000)
        calls, busy, has_more = 0, [], True
        while has_more and calls < CALLS_AT_MOST:
            self._client.slowlog_reset()
            used = self._used()
            has_more = await call()
            used = self._used() - used
            entries = self._client.slowlog_get(10_000)
            ours = (b"EVAL", b"UNLINK", b"DEL")  # other commands are of the test itself
            busy += [
                min(entry["duration"], used) for entry in entries if entry["command"].upper().startswith(ours)
            ]
            calls += 1
        return calls, busy

    def _used(self) -> int:
        """The processor time of the server, in microseconds."""
        info = self._client.info("cpu")
        return int(1e6 * (info["used_cpu_user"] + info["used_cpu_sys"]))

    async def work(self) -> bool:
        """Exchange once, as a worker with free slots does."""
        exchanged = await self.broker.exchange("default", [], 10)
        assert not exchanged.leases
        return exchanged.is_something_left

    async def tick(self) -> bool:
        """Tick once."""
        return (await self.broker.tick("default")).next_due == 0


Play = Callable[[Queue], Awaitable[Callable[[], Awaitable[bool]]]]
LENGTHS: dict[str, Play] = {}


def length(into: dict[str, Play]) -> Callable[[Play], Play]:
    def add(play: Play) -> Play:
        into[play.__name__] = play
        return play

    return add


def three_times(call: Callable[[int], Awaitable[object]]) -> Callable[[], Awaitable[bool]]:
    numbers = iter(range(3))

    async def once() -> bool:
        number = next(numbers)
        await call(number)
        return number < 2

    return once


@length(LENGTHS)
async def ready_full_of_cancelled_jobs(queue: Queue) -> Callable[[], Awaitable[bool]]:
    ids = [f"job-{number}" for number in range(LENGTH)]
    queue.fill("HSET", "cancels", ((job_id, "gone") for job_id in ids))
    queue.fill("HSET", "control", [(" cancels", 1)])
    queue.fill("RPUSH", "ready", ids)
    return queue.work


@length(LENGTHS)
async def a_lane_full_of_cancelled_jobs(queue: Queue) -> Callable[[], Awaitable[bool]]:
    await queue.broker.register("default", {"limited": 3}, {})
    ids = [f"job-{number}" for number in range(LENGTH)]
    queue.fill("HSET", "cancels", ((job_id, "gone") for job_id in ids))
    entries = (f"limited\n{number:014}\n{job_id}" for number, job_id in enumerate(ids))
    queue.fill("ZADD", "lanes", ((0, entry) for entry in entries))
    queue.fill("SADD", "open", ["limited"])
    queue.fill("HSET", "control", [(" lanes", 1), (" cancels", 1)])
    return queue.work


@length(LENGTHS)
async def ready_full_of_jobs_of_an_unknown_task(queue: Queue) -> Callable[[], Awaitable[bool]]:
    ids = [f"job-{number}" for number in range(LENGTH)]
    queue.fill("HSET", "jobs", ((job_id, ENVELOPE) for job_id in ids))
    queue.fill("RPUSH", "ready", ids)

    async def work() -> bool:
        exchanged = await queue.broker.exchange("default", [], 10, Parking(unknown=["job"]))
        assert not exchanged.leases
        return exchanged.is_something_left

    return work


@length(LENGTHS)
async def many_unknown_tasks(queue: Queue) -> Callable[[], Awaitable[bool]]:
    entries = (f"?task-{number}\n{number:014}\njob" for number in range(LENGTH))
    queue.fill("ZADD", "lanes", ((0, entry) for entry in entries))
    queue.fill("HSET", "control", [(" lanes", 1)])

    async def sweep(number: int) -> None:
        [swept] = await queue.broker.sweep(["default"], WorkerReport("worker"))
        assert len(swept.parked) == 100

    return three_times(sweep)


@length(LENGTHS)
async def ready_full_of_jobs_that_may_not_run(queue: Queue) -> Callable[[], Awaitable[bool]]:
    await queue.broker.register("default", {"limited": 1}, {})
    ids = [f"job-{number}" for number in range(LENGTH)]
    queue.fill("HSET", "jobs", ((job_id, LIMITED) for job_id in ids))
    queue.fill("RPUSH", "ready", ids)
    assert len((await queue.broker.exchange("default", [], 1)).leases) == 1
    return queue.work


@length(LENGTHS)
async def ready_full_of_what_cannot_be_read(queue: Queue) -> Callable[[], Awaitable[bool]]:
    queue.fill("RPUSH", "ready", (f"job-{number}" for number in range(LENGTH)))
    return queue.work


@length(LENGTHS)
async def leases_that_have_expired(queue: Queue) -> Callable[[], Awaitable[bool]]:
    queue.run(LENGTH, until=1)
    return queue.tick


@length(LENGTHS)
async def expired_leases_of_what_cannot_be_read(queue: Queue) -> Callable[[], Awaitable[bool]]:
    await queue.broker.register("default", {"limited": LENGTH}, {})
    ids = queue.run(LENGTH, b"2 garbage", until=1)
    queue.fill("ZADD", "slots", ((0, f"limited\n{job_id}:elsewhere.1") for job_id in ids))
    return queue.tick


@length(LENGTHS)
async def a_future_that_is_due(queue: Queue) -> Callable[[], Awaitable[bool]]:
    queue.fill("ZADD", "future", ((1, f"job-{number}") for number in range(LENGTH)))
    return queue.tick


@length(LENGTHS)
async def periodic_tasks_of_long_ago(queue: Queue) -> Callable[[], Awaitable[bool]]:
    queue.fill("ZADD", "periodic", ((1, f"task-{number}") for number in range(LENGTH)))

    async def tick() -> bool:
        await queue.tick()
        return bool(queue.store("ZCARD", "periodic"))

    return tick


@length(LENGTHS)
async def dead_jobs(queue: Queue) -> Callable[[], Awaitable[bool]]:
    now = queue.broker.now()
    record = b"%d %d\n%s" % (now, len(ENVELOPE), ENVELOPE)
    queue.fill("ZADD", "dead", ((now + number / 1000, f"dead-{number}") for number in range(LENGTH)))
    queue.fill("HSET", "deadjobs", ((f"dead-{number}", record) for number in range(LENGTH)))

    async def die_and_list() -> bool:
        await queue.broker.enqueue("default", [Envelope("dies", "job", b"[[],{}]")])
        [lease] = (await queue.broker.exchange("default", [], 1)).leases
        await queue.broker.exchange("default", [Settlement(lease, Action.FAIL, 0, b"why")], 0)
        assert len(await asking.dead(queue.broker, "default", limit=300)) == 300
        return bool(queue.store("ZCARD", "dead") > 10_000)

    return die_and_list


@length(LENGTHS)
async def cancels(queue: Queue) -> Callable[[], Awaitable[bool]]:
    queue.fill("HSET", "cancels", ((f"other-{number}", "gone") for number in range(LENGTH)))
    queue.fill("HSET", "control", [(" cancels", 1)])

    async def run_one(number: int) -> None:
        await queue.broker.enqueue("default", [Envelope(f"job-{number}", "job", b"[[],{}]")])
        [lease] = (await queue.broker.exchange("default", [], 1)).leases
        await queue.broker.renew("default", [lease.id])
        await queue.broker.exchange("default", [Settlement(lease, Action.DONE)], 0)

    return three_times(run_one)


@length(LENGTHS)
async def remembered_ids(queue: Queue) -> Callable[[], Awaitable[bool]]:
    for name in ("dedup:0", "dedup:1"):
        queue.fill("SADD", name, (f"job-{number}" for number in range(LENGTH)))

    async def store(number: int) -> None:
        first = number * 1000
        jobs = [Envelope(f"job-{first + index}", "job", b"[[],{}]", named=True) for index in range(1000)]
        assert not any(await queue.broker.enqueue("default", jobs))

    return three_times(store)


@length(LENGTHS)
async def everything_when_it_is_forgotten(queue: Queue) -> Callable[[], Awaitable[bool]]:
    async def fill_and_flush(number: int) -> None:
        queue.run(LENGTH)
        queue.fill("RPUSH", "ready", (f"job-{number}" for number in range(LENGTH)))
        await queue.broker.flush("default")
        assert not queue.store("EXISTS", "jobs")

    return three_times(fill_and_flush)


@length(LENGTHS)
async def counts_with_many_cancelled_among_many_running_jobs(queue: Queue) -> Callable[[], Awaitable[bool]]:
    ids = queue.run(LENGTH)
    queue.fill("HSET", "cancels", ((job_id, "gone") for job_id in ids))
    queue.fill("HSET", "control", [(" cancels", 1)])

    async def count(number: int) -> None:
        assert (await asking.counts(queue.broker, "default")).running == LENGTH

    return three_times(count)


@length(LENGTHS)
async def cancelling_a_job_while_many_run(queue: Queue) -> Callable[[], Awaitable[bool]]:
    queue.run(4 * LENGTH)

    async def cancel(number: int) -> None:
        await queue.broker.enqueue("default", [Envelope(f"job-{number}", "job", b"[[],{}]")])
        await asking.cancel(queue.broker, "default", f"job-{number}")

    return three_times(cancel)


@length(LENGTHS)
async def the_first_limit_of_a_task_while_many_jobs_run(queue: Queue) -> Callable[[], Awaitable[bool]]:
    queue.run(LENGTH)
    return three_times(lambda number: queue.broker.register("default", {f"task-{number}": 1}, {}))


@length(LENGTHS)
async def limits_of_many_tasks(queue: Queue) -> Callable[[], Awaitable[bool]]:
    await queue.broker.register("default", {f"task-{number}": 1 for number in range(LENGTH // 3)}, {})
    return three_times(lambda number: queue.broker.exchange("default", [], 1))


@length(LENGTHS)
async def many_settlements_in_one_call(queue: Queue) -> Callable[[], Awaitable[bool]]:
    async def settle(number: int) -> None:
        jobs = [Envelope(f"job-{number}-{index}", "job", b"[[],{}]") for index in range(3000)]
        for first in range(0, len(jobs), 200):
            await queue.broker.enqueue("default", jobs[first : first + 200])
        leases = [
            lease for _ in range(15) for lease in (await queue.broker.exchange("default", [], 200)).leases
        ]
        failed = [Settlement(lease, Action.FAIL, 0, b"x" * 8000) for lease in leases]
        await queue.broker.exchange("default", failed, 0)

    return three_times(settle)


def find_orphans(queue: Queue, *, times: int = 3) -> Callable[[], Awaitable[bool]]:
    """A sweep that checks for orphans, and a page of the search for them."""
    cursors = [b"0"]
    calls = iter(range(times))

    async def find() -> bool:
        state = queue.broker._queue("default")
        state.next_orphan_check = 0.0
        await queue.broker.sweep(["default"], WorkerReport("worker"))
        state.ticks += 1
        arguments = [state.session, state.ticks, HOUR, cursors.pop()]
        _, cursor = await queue.broker._work(scripts.ORPHANS, state, arguments)
        cursors.append(cursor)
        return next(calls, None) is not None

    return find


@length(LENGTHS)
async def jobs_that_all_lie_nowhere(queue: Queue) -> Callable[[], Awaitable[bool]]:
    queue.fill("HSET", "jobs", ((f"job-{number}", ENVELOPE) for number in range(LENGTH)))
    return find_orphans(queue, times=9)


@length(LENGTHS)
async def a_stray_beside_lines_that_are_long(queue: Queue) -> Callable[[], Awaitable[bool]]:
    ids = [f"job-{number}" for number in range(LENGTH)]
    queue.fill("HSET", "jobs", ((job_id, ENVELOPE) for job_id in [*ids, "stray"]))
    queue.fill("RPUSH", "ready", ids)
    return find_orphans(queue)


@length(LENGTHS)
async def strays_beside_lines_of_many_gates(queue: Queue) -> Callable[[], Awaitable[bool]]:
    await queue.broker.register("default", {f"task-{number}": 1 for number in range(1000)}, {})
    queue.fill("HSET", "jobs", ((f"stray-{number}", LIMITED) for number in range(LENGTH)))
    entries = [f"task-{number}\n{number:014}\njob-{number}" for number in range(5000)]
    queue.fill("ZADD", "lanes", ((0, entry) for entry in entries))
    queue.fill("HSET", "control", [(" lanes", 1)])
    queue.fill("HSET", "cancels", ((f"job-{number}", "gone") for number in range(5000)))
    queue.fill("ZADD", "slots", ((0, f"limited\n{number}:elsewhere.1") for number in range(LENGTH)))
    queue.fill("RPUSH", "ready", (f"ready-{number}" for number in range(4000)))
    return find_orphans(queue, times=9)


@pytest.fixture
async def queue(server: Server, namespace: str, store: Store) -> AsyncIterator[Queue]:
    broker = RedisBroker(server.unix_url)
    await broker.open(namespace)
    with server.client() as client:
        yield Queue(broker, client, store)
    await broker.aclose()


async def check(queue: Queue, play: Play, report: Report) -> None:
    call = await play(queue)
    calls, busy = await queue.repeat(call)
    slow = sum(microseconds > SLOW for microseconds in busy)
    typical, slowest = median(busy or [0]), max(busy or [0])
    report(calls=calls, slow=slow, median=f"{typical / 1000:.1f} ms", slowest=f"{slowest / 1000:.1f} ms")
    assert slow <= calls / 2


@pytest.mark.parametrize("name", LENGTHS)
async def test_no_call_is_slow(queue: Queue, name: str, report: Report) -> None:
    await check(queue, LENGTHS[name], report)

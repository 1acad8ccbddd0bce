"""Every guard in a script is needed: without it, a scenario fails.

A guard is a line that ends in ``-- guard: name``. It is neutralised by its form:

- ``if A then``, ``elseif A then``, ``[local] x = A``: ``A`` becomes ``true``, in another mutant ``false``;
- a call with the range ``'-inf', A``: it ends at ``'+inf'``;
- a ZADD with the option ``'LT'``: the option is left out.

A mutant that cannot run a plain job does not test its guard; each guard has others.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable, Iterator, Sequence
from importlib.resources import files
from typing import Any

import pytest

from aiospinach import RedisBroker
from aiospinach.brokers.bulk import CancelSome, SteerDead
from aiospinach.brokers.events import LookEvents
from aiospinach.brokers.pauses import LookPauses
from aiospinach.brokers.places import JobFacts, LookJobFacts, LookPlace, Place
from aiospinach.brokers.progress import Step
from aiospinach.brokers.questions import Counts, LookJob, Requeue
from aiospinach.brokers.records import Envelope, Fired, Firing, Lease, Parking, Settlement
from aiospinach.brokers.redis import orphans, scripts
from aiospinach.brokers.redis.broker import EXPIRED_AT_ONCE
from aiospinach.brokers.redis.scripts import Script, Send
from aiospinach.brokers.reports import WorkerReport
from aiospinach.brokers.results import LookResults
from aiospinach.exceptions import BrokerError, BrokerUnavailable
from aiospinach.job import JobStatus
from aiospinach.outcome import Action

from .. import asking
from ..brokers_under_test import shared_server
from ..waiting import until
from .conftest import drain_wake_ups, fire, ids, job, make_dead, put, put_and_take, settle, take
from .raw_keys import RawKeys

QUEUE = "mail"
NOTHING = Counts(0, 0, 0, 0)
EVENTS = 50
"""How many rows of events a queue keeps."""
CALLS_AT_MOST = 100
"""A mutant may make its caller repeat a call endlessly."""
UNGUARDED = {
    *("check", "dead_groups", "nudge", "wake_another", "sweep", "workers", "pause", "overview"),
    "latest_events",
}
"""Scripts without a guard."""
UNGUARDED_PARTS = {
    *("prelude", "chunks", "prune_dead", "parking", "dead_records", "last_error", "forgetting"),
    *("counting", "seen_workers", "streams", "task_of", "lanes", "word_lists", "exchange_events"),
}
"""Parts that are included in scripts, and have no guard."""

_LUA = files("aiospinach.brokers.redis") / "lua"
_SOURCES = {
    path.name.removesuffix(".lua"): path.read_text("utf-8")
    for path in _LUA.iterdir()
    if path.name.endswith(".lua")
}
_GUARD = re.compile(r"^(?P<code>.*\S) *-- guard: (?P<name>.+)$", re.MULTILINE)
GUARDS = [
    (script, found["name"], found[0]) for script, text in _SOURCES.items() for found in _GUARD.finditer(text)
]


def is_part(name: str) -> bool:
    return not _SOURCES[name].startswith("#!lua")


def needs(script: Script, part: str) -> bool:
    return re.search(rf"^-- (?:needs|rare) .*\b{part}\b", _SOURCES[script.name], re.MULTILINE) is not None


def mutants(line: str) -> list[str]:
    """The line, neutralised in all ways that its form allows."""
    code = line.partition("-- guard:")[0].rstrip()
    if found := re.fullmatch(r"( *(?:else)?if ).* then", code):
        return [f"{found[1]}{constant} then" for constant in ("true", "false")]
    if "'LT', " in code:
        return [code.replace("'LT', ", "")]
    if "'-inf', " in code:
        return [re.sub(r"'-inf', [^,]+,", "'-inf', '+inf',", code)]
    if found := re.fullmatch(r"( *(?:local )?\w+ = ).*", code):
        return [f"{found[1]}{constant}" for constant in ("true", "false")]
    raise AssertionError(f"a guard has another form: {line}")


class Stage:
    """Two brokers with one queue, and the keys of that queue."""

    def __init__(self, namespace: str) -> None:
        url = shared_server().unix_url
        self.broker = RedisBroker(url, events=EVENTS)
        self.another = RedisBroker(url, events=EVENTS)
        self.client = shared_server().client()
        self.raw = RawKeys(self.client, namespace, QUEUE)
        self.calls: list[tuple[Script, Send, Sequence[str], Sequence[Any]]] = []

    async def open(self, namespace: str) -> None:
        await self.broker.open(namespace)
        await self.another.open(namespace)

    async def aclose(self) -> None:
        for name in self.client.keys(self.raw.prefix + "*"):
            self.client.delete(name)
        self.client.close()
        await self.broker.aclose()
        await self.another.aclose()

    async def repeat(self, number: int = -1) -> Any:
        """Send a call again, byte for byte, and return the server's answer."""
        script, send, keys, arguments = self.calls[number]
        return await script.run(send, keys, arguments)

    def expire(self, lease: Lease) -> None:
        self.client.zadd(self.raw.prefix + "leases", {lease.id: 1})

    def set_last_tick(self, *, ago: float = 0, paused_for: float = 0) -> None:
        """Set the last tick to ``ago`` ms before now, with a rescue pause of ``paused_for`` ms from then."""
        then = self.broker.now() - ago
        self.client.set(self.raw.prefix + "looked", f"{then:.0f} {then + paused_for:.0f}")

    @property
    def answers(self) -> str:
        """The key of the answers to calls of the first broker."""
        return f"{self.raw.prefix}answers:{self.broker._calls.producer_session.session}"

    def spoil(self, job_id: str) -> None:
        self.client.hset(self.raw.prefix + "jobs", job_id, b"2 garbage")


Scenario = Callable[[Stage], Awaitable[None]]
SCENARIOS: dict[str, Scenario] = {}


def scenario(guard: str) -> Callable[[Scenario], Scenario]:
    def add(play: Scenario) -> Scenario:
        SCENARIOS[guard] = play
        return play

    return add


async def a_plain_job(stage: Stage) -> None:
    """A mutant counts only if it loads, runs, and lets a job pass."""
    broker = stage.broker
    lease = await put_and_take(broker, QUEUE, "a")
    assert await settle(broker, QUEUE, lease, Action.DONE)
    assert await asking.counts(broker, QUEUE) == NOTHING
    await broker.register(QUEUE, {}, {})
    await broker.tick(QUEUE)
    await broker.renew(QUEUE, [])
    await fire(broker, QUEUE, "nightly", 1, 2, None)
    await asking.cancel(broker, QUEUE, "b")
    await asking.discard(broker, QUEUE, "b")
    await asking.reschedule(broker, QUEUE, "b")
    await broker.steer(QUEUE, CancelSome())
    await asking.resume(broker, QUEUE)


@scenario("repeated call")
async def a_repeated_call_stores_no_job(stage: Stage) -> None:
    await put(stage.broker, QUEUE, "a")
    assert await stage.broker.enqueue(QUEUE, [job("a"), job("b")]) == [False, True]
    call = len(stage.calls) - 1
    for lease in await take(stage.broker, QUEUE):
        assert await settle(stage.broker, QUEUE, lease, Action.DONE)
    before = stage.raw.read()
    assert (await stage.repeat(call))[1:] == [b"stored", [1]]
    assert stage.raw.read() == before, "I6"


@scenario("copy that comes late")
async def a_copy_that_arrives_after_a_later_call_stores_no_job(stage: Stage) -> None:
    await put(stage.broker, QUEUE, "a")
    late = len(stage.calls) - 1
    (lease,) = await take(stage.broker, QUEUE)
    assert await settle(stage.broker, QUEUE, lease, Action.DONE)
    await put(stage.broker, QUEUE, "b")
    before = stage.raw.read()
    assert (await stage.repeat(late))[1:] == [b"late"]
    assert stage.raw.read() == before, "I6"


@scenario("life of a session")
async def a_call_extends_the_life_of_its_session(stage: Stage) -> None:
    await put(stage.broker, QUEUE, "a")
    assert 1_100_000 < stage.client.pttl(stage.answers) <= 1_200_000
    stage.client.pexpire(stage.answers, 900_000)
    await put(stage.broker, QUEUE, "b")
    assert stage.client.pttl(stage.answers) <= 900_000, "a long time to live is not extended"
    number, since = map(int, (stage.client.hget(stage.answers, "0") or "").split())
    stage.client.hset(stage.answers, "0", f"{number} {since - 300_000} ")
    await put(stage.broker, QUEUE, "c")
    assert 1_100_000 < stage.client.pttl(stage.answers) <= 1_200_000


@scenario("moment of creation")
async def a_retry_keeps_the_moment_of_creation(stage: Stage) -> None:
    created = stage.broker.now()
    lease = await put_and_take(
        stage.broker, QUEUE, "a", at=created, at_once=True, max_retries=2, created=created
    )
    for _ in range(2):
        while stage.broker.now() <= lease.job.at:
            await asyncio.sleep(0.001)
        assert await settle(stage.broker, QUEUE, lease, Action.RETRY)
        (lease,) = await take(stage.broker, QUEUE)
        assert lease.job.created == created


@scenario("place of a cancelled job")
async def the_id_of_a_job_cancelled_in_the_queue_is_free(stage: Stage) -> None:
    await put(stage.broker, QUEUE, "a", "b")
    assert (await asking.cancel(stage.broker, QUEUE, "a")).status is JobStatus.QUEUED
    assert await stage.broker.enqueue(QUEUE, [job("a")]) == [True]
    stage.raw.check()
    assert ids(await take(stage.broker, QUEUE)) == ["a", "b"]


@scenario("moved in line")
async def a_job_for_later_does_not_run_early_in_the_position_of_a_cancelled_one(stage: Stage) -> None:
    await put(stage.broker, QUEUE, "a", "b")
    assert (await asking.cancel(stage.broker, QUEUE, "a")).status is JobStatus.QUEUED
    await put(stage.broker, QUEUE, "a", at=stage.broker.now() + 60_000)
    assert ids(await take(stage.broker, QUEUE)) == ["b"]
    stage.raw.check()
    assert (await asking.counts(stage.broker, QUEUE)).waiting == 1


@scenario("place in line")
async def a_requeued_job_takes_over_the_position_of_a_cancelled_one_of_its_id(stage: Stage) -> None:
    lease = await put_and_take(stage.broker, QUEUE, "a")
    await settle(stage.broker, QUEUE, lease, Action.FAIL)
    await put(stage.broker, QUEUE, "a")
    assert (await asking.cancel(stage.broker, QUEUE, "a")).status is JobStatus.QUEUED
    assert await asking.requeue(stage.broker, QUEUE, "a")
    stage.raw.check()
    [lease] = await take(stage.broker, QUEUE)
    await settle(stage.broker, QUEUE, lease, Action.FAIL)
    assert await asking.requeue(stage.broker, QUEUE, "a")
    assert ids(await take(stage.broker, QUEUE)) == ["a"]


async def test_a_requeued_job_is_in_line_although_its_cancellation_was_cut_off(namespace: str) -> None:
    """The exchange has left the word 'ended' to a program that did not come back for it."""

    async def scene(stage: Stage) -> None:
        lease = await put_and_take(stage.broker, QUEUE, "a")
        await settle(stage.broker, QUEUE, lease, Action.FAIL)
        stage.client.hset(stage.raw.prefix + "cancels", "a", "ended")
        stage.client.hset(stage.raw.prefix + "control", " cancels", 1)
        assert await asking.requeue(stage.broker, QUEUE, "a")
        assert ids(await take(stage.broker, QUEUE)) == ["a"]

    await play(scene, namespace)


@scenario("many leases")
async def whether_a_job_runs_is_looked_up_in_pages(stage: Stage) -> None:
    await put(stage.broker, QUEUE, "runs")
    await take(stage.broker, QUEUE)
    await put(stage.broker, QUEUE, "queued")
    stage.client.zadd(stage.raw.prefix + "leases", {f"x{number}:y.1": 1e15 for number in range(3000)})
    assert (await asking.cancel(stage.broker, QUEUE, "runs")).status is JobStatus.RUNNING
    assert (await asking.cancel(stage.broker, QUEUE, "queued")).status is JobStatus.QUEUED
    scripts_called = [script.name for script, *_ in stage.calls]
    assert scripts_called.count("steer") == 3, "a script looks at one page of leases"
    stage.client.zrem(stage.raw.prefix + "leases", *(f"x{number}:y.1" for number in range(3000)))


async def cancel_when_many_run(stage: Stage, then: Callable[[], Awaitable[object]]) -> JobStatus:
    """Cancel the job "a" while many run; ``then`` is called between the two calls that it takes."""
    other_leases = {f"x{number}:y.1": 1e15 for number in range(1100)}
    stage.client.zadd(stage.raw.prefix + "leases", other_leases)
    run, calls = Script.run, 0

    async def run_between(script: Script, *args: Any) -> Any:
        nonlocal calls
        calls += script.name == "steer"
        if script.name == "steer" and calls == 2:
            stage.client.zrem(stage.raw.prefix + "leases", *other_leases)
            await then()
        return await run(script, *args)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Script, "run", run_between)
        return (await asking.cancel(stage.broker, QUEUE, "a")).status


@scenario("asked for in line")
async def a_job_that_is_being_cancelled_is_not_leased(stage: Stage) -> None:
    await put(stage.broker, QUEUE, "a", "b")

    async def another_takes() -> None:
        assert ids(await take(stage.another, QUEUE)) == ["b"]

    assert await cancel_when_many_run(stage, another_takes) is JobStatus.QUEUED
    assert await stage.broker.enqueue(QUEUE, [job("a")]) == [True]
    stage.raw.check()
    assert ids(await take(stage.broker, QUEUE)) == ["a"]


@scenario("met in line")
async def cancelling_returns_queued_for_a_job_found_in_the_queue_meanwhile(stage: Stage) -> None:
    await a_job_that_is_being_cancelled_is_not_leased(stage)
    await put(stage.broker, QUEUE, "c")
    assert (await asking.cancel(stage.broker, QUEUE, "c")).status is JobStatus.QUEUED
    await put(stage.broker, QUEUE, "d", at=stage.broker.now() + 60_000)
    assert (await asking.cancel(stage.broker, QUEUE, "d")).status is JobStatus.WAITING


@scenario("ended meanwhile")
async def a_job_that_ends_during_its_cancellation_was_not_cancelled(stage: Stage) -> None:
    async def nothing() -> None:
        pass

    keys, send = stage.broker._queue(QUEUE).keys, stage.broker._calls.here().transport.producer_call
    await put(stage.broker, QUEUE, "a")
    (_, where, _) = await scripts.STEER.run(send, keys.of(scripts.STEER), ["cancel again", "a"])
    assert where == b"not_set"
    assert await cancel_when_many_run(stage, nothing) is JobStatus.QUEUED
    assert await take(stage.broker, QUEUE) == []


PAUSING = "web-1 429"


async def pauses_of(stage: Stage) -> list[tuple[str, int]]:
    """Names and ends of the pauses."""
    return [(pause.task, pause.until) for pause in await stage.broker.look(QUEUE, LookPauses())]


@scenario("paused task")
async def only_a_paused_task_starts_no_jobs(stage: Stage) -> None:
    await put(stage.broker, QUEUE, "a")
    await put(stage.broker, QUEUE, "b", task="other")
    await asking.pause(stage.broker, QUEUE, "send")
    assert ids(await take(stage.broker, QUEUE)) == ["b"]
    assert await asking.resume(stage.broker, QUEUE, "send")
    assert ids(await take(stage.broker, QUEUE)) == ["a"]


@scenario("paused queue")
async def a_paused_queue_moves_no_job(stage: Stage) -> None:
    await put(stage.broker, QUEUE, "a")
    await asking.pause(stage.broker, QUEUE)
    assert await take(stage.broker, QUEUE) == []
    assert stage.client.lrange(stage.raw.prefix + "ready", 0, -1) == [b"a"]
    assert await asking.resume(stage.broker, QUEUE)
    assert ids(await take(stage.broker, QUEUE)) == ["a"]


@scenario("left in a paused queue")
@scenario("nothing of a paused queue")
async def nothing_is_left_to_run_in_a_paused_queue(stage: Stage) -> None:
    await put(stage.broker, QUEUE, "a", "b", "c")
    exchanged = await stage.broker.exchange(QUEUE, [], 1)
    assert exchanged.is_something_left
    await asking.pause(stage.broker, QUEUE)
    assert not (await stage.broker.exchange(QUEUE, [], 1)).is_something_left
    await drain_wake_ups(stage.broker, QUEUE)
    await put(stage.broker, QUEUE, "later", at=stage.broker.now() + 5)
    await drain_wake_ups(stage.broker, QUEUE)
    await stage.broker.tick(QUEUE)
    assert await stage.broker.wait([QUEUE], 0.02) is None
    await asking.resume(stage.broker, QUEUE)
    assert await stage.broker.wait([QUEUE], 0.02) == QUEUE
    leases = await take(stage.broker, QUEUE)
    exchanged = await stage.broker.exchange(QUEUE, [Settlement(each, Action.DONE) for each in leases], 1)
    assert not exchanged.is_something_left
    assert await stage.broker.wait([QUEUE], 0.02) is None


@scenario("longer pause")
async def a_job_prolongs_a_pause_and_shortens_none(stage: Stage) -> None:
    now = stage.broker.now()
    for until_then, expected in ((0, 0), (now + 900_000, now + 900_000), (now + 1000, None)):
        await asking.pause(stage.broker, QUEUE, "send", until=until_then)
        await put(stage.broker, QUEUE, "a", task="send")
        await asking.resume(stage.broker, QUEUE, "send")
        [lease] = await take(stage.broker, QUEUE)
        await asking.pause(stage.broker, QUEUE, "send", until=until_then)
        await stage.broker.exchange(QUEUE, [Settlement(lease, Action.FAIL, 60.0, pause=PAUSING)], 0)
        [(_, end)] = await pauses_of(stage)
        assert end == expected or (expected is None and now + 1000 < end <= stage.broker.now() + 60_000)


@scenario("end of a pause")
async def a_tick_ends_a_pause_when_its_time_is_over(stage: Stage) -> None:
    now = stage.broker.now()
    await asking.pause(stage.broker, QUEUE, "over", until=now)
    await asking.pause(stage.broker, QUEUE, "later", until=now + 60_000)
    await asking.pause(stage.broker, QUEUE, "never")
    ticked = await stage.broker.tick(QUEUE)
    assert await pauses_of(stage) == [("later", now + 60_000), ("never", 0)]
    assert ticked.next_due is not None
    assert 0 < ticked.next_due <= 60


@scenario("turn of a pausing job")
async def only_a_job_that_pauses_its_task_keeps_its_turn(stage: Stage) -> None:
    await put(stage.broker, QUEUE, *"abc", max_retries=1)
    first, second = await take(stage.broker, QUEUE, 2)
    settled = [Settlement(first, Action.RETRY), Settlement(second, Action.RETRY, 60.0, pause=PAUSING)]
    await stage.broker.exchange(QUEUE, settled, 10)
    await asking.resume(stage.broker, QUEUE, "send")
    assert ids(await take(stage.broker, QUEUE)) == ["b", "c", "a"]


@scenario("paused tick")
async def a_tick_of_a_paused_task_stores_no_job(stage: Stage) -> None:
    await stage.broker.register(QUEUE, {}, {"nightly": 1, "daily": 1})
    await asking.pause(stage.broker, QUEUE, "nightly")
    firings = [Firing(task, 1, 2, job(f"{task}@1", task=task)) for task in ("nightly", "daily")]
    assert await stage.broker.fire(QUEUE, firings) == [Fired.PAUSED, Fired.MOVED]
    assert ids(await take(stage.broker, QUEUE)) == ["daily@1"]


@scenario("moved job")
async def a_mark_of_a_moved_job_cancels_nothing(stage: Stage) -> None:
    leases = [await put_and_take(stage.broker, QUEUE, name, max_retries=2) for name in ("moved", "cancelled")]
    stage.client.hset(stage.raw.prefix + "cancels", "moved", "later 5")
    stage.client.hset(stage.raw.prefix + "control", " cancels", "1")
    await asking.cancel(stage.broker, QUEUE, "cancelled")
    renewed = await stage.broker.renew(QUEUE, [lease.id for lease in leases])
    assert list(renewed.cancelled) == [leases[1].id]
    exchanged = await stage.broker.exchange(QUEUE, [Settlement(each, Action.RETRY) for each in leases], 0)
    assert list(exchanged.cancelled) == [leases[1].id]
    assert ids(await take(stage.broker, QUEUE)) == ["moved"]


async def move_when_many_run(
    stage: Stage, job_id: str, at: int, then: Callable[[], Awaitable[object]]
) -> JobStatus:
    """Move a job while many run; ``then`` is called between the two calls that it takes."""
    other_leases = {f"x{number}:y.1": 1e15 for number in range(1100)}
    stage.client.zadd(stage.raw.prefix + "leases", other_leases)
    run, calls = Script.run, 0

    async def run_between(script: Script, *args: Any) -> Any:
        nonlocal calls
        if script.name == "reschedule":
            calls += 1
            if calls == 2:
                await then()
        return await run(script, *args)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Script, "run", run_between)
        status = await asking.reschedule(stage.broker, QUEUE, job_id, at)
    assert calls == 2
    stage.client.zrem(stage.raw.prefix + "leases", *other_leases)
    return status


async def nothing() -> None:
    pass


@scenario("moment of a mark")
async def a_job_that_is_met_while_it_is_moved_is_put_off(stage: Stage) -> None:
    await put(stage.broker, QUEUE, "a", "b")
    later = stage.broker.now() + 60_000

    async def another_takes() -> None:
        assert ids(await take(stage.another, QUEUE)) == ["b"]

    assert await move_when_many_run(stage, "a", later, another_takes) is JobStatus.WAITING
    stage.raw.check()
    await put(stage.broker, QUEUE, "c")
    assert await asking.reschedule(stage.broker, QUEUE, "c", later) is JobStatus.QUEUED
    assert await take(stage.broker, QUEUE) == []
    assert (await asking.counts(stage.broker, QUEUE)).waiting == 2


@scenario("met meanwhile")
async def a_job_that_starts_while_it_is_moved_to_now_runs(stage: Stage) -> None:
    await put(stage.broker, QUEUE, "a", "b")

    async def another_takes() -> None:
        assert ids(await take(stage.another, QUEUE, 1)) == ["a"]

    assert await move_when_many_run(stage, "a", 0, another_takes) is JobStatus.RUNNING
    later = stage.broker.now() + 60_000
    assert await move_when_many_run(stage, "b", later, nothing) is JobStatus.QUEUED
    assert await take(stage.broker, QUEUE) == []


@scenario("last move")
async def the_last_of_two_moves_counts(stage: Stage) -> None:
    await put(stage.broker, QUEUE, "a")
    first, second = stage.broker.now() + 60_000, stage.broker.now() + 120_000

    async def another_moves() -> None:
        keys, send = stage.another._queue(QUEUE).keys, stage.another._calls.here().transport.producer_call
        for action in ("move", "move again"):
            await scripts.RESCHEDULE.run(send, keys.of(scripts.RESCHEDULE), [action, "a", second])

    assert await move_when_many_run(stage, "a", first, nothing) is JobStatus.QUEUED
    run = Script.run
    calls = 0

    async def run_between(script: Script, *args: Any) -> Any:
        nonlocal calls
        calls += script.name == "reschedule"
        if calls == 2 and script.name == "reschedule":
            calls += 1
            with pytest.MonkeyPatch.context() as again:
                again.setattr(Script, "run", run)
                await another_moves()
        return await run(script, *args)

    other_leases = {f"x{number}:y.1": 1e15 for number in range(1100)}
    stage.client.zadd(stage.raw.prefix + "leases", other_leases)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Script, "run", run_between)
        assert await asking.reschedule(stage.broker, QUEUE, "a", first) is JobStatus.QUEUED
    stage.client.zrem(stage.raw.prefix + "leases", *other_leases)
    moved = await stage.broker.look(QUEUE, LookJob("a"))
    assert moved is not None
    assert moved.at == second


@scenario("own mark")
async def a_running_job_keeps_the_mark_of_its_cancellation(stage: Stage) -> None:
    lease = await put_and_take(stage.broker, QUEUE, "a")

    async def another_cancels() -> None:
        await asking.cancel(stage.another, QUEUE, "a")

    later = stage.broker.now() + 60_000
    assert await move_when_many_run(stage, "a", later, nothing) is JobStatus.RUNNING
    assert not stage.client.exists(stage.raw.prefix + "cancels"), "the mark is taken back"
    assert await move_when_many_run(stage, "a", later, another_cancels) is JobStatus.RUNNING
    assert list((await stage.broker.renew(QUEUE, [lease.id])).cancelled) == [lease.id]


@scenario("many leases of others")
async def the_leases_are_searched_in_pages_if_there_are_many(stage: Stage) -> None:
    await put_and_take(stage.broker, QUEUE, "runs")
    await put(stage.broker, QUEUE, "queued")
    later = stage.broker.now() + 60_000
    before = len(stage.calls)
    assert await asking.reschedule(stage.broker, QUEUE, "runs", later) is JobStatus.RUNNING
    assert len(stage.calls) == before + 1
    assert await move_when_many_run(stage, "runs", later, nothing) is JobStatus.RUNNING
    assert await move_when_many_run(stage, "queued", later, nothing) is JobStatus.QUEUED


@scenario("not a running job")
@scenario("moved in its line")
async def only_a_job_that_does_not_run_is_moved(stage: Stage) -> None:
    later = stage.broker.now() + 60_000
    await put(stage.broker, QUEUE, "runs", max_retries=1)
    [lease] = await take(stage.broker, QUEUE)
    await put(stage.broker, QUEUE, "queued")
    await put(stage.broker, QUEUE, "waits", at=later)
    assert await asking.reschedule(stage.broker, QUEUE, "runs", later) is JobStatus.RUNNING
    assert await asking.reschedule(stage.broker, QUEUE, "queued", later) is JobStatus.QUEUED
    assert await asking.reschedule(stage.broker, QUEUE, "waits", later + 1) is JobStatus.WAITING
    stage.raw.check()
    assert await take(stage.broker, QUEUE) == []
    assert await settle(stage.broker, QUEUE, lease, Action.RELEASE)
    assert ids(await take(stage.broker, QUEUE)) == ["runs"]


@scenario("due at once")
async def a_job_that_is_moved_to_now_is_in_line_once(stage: Stage) -> None:
    await put(stage.broker, QUEUE, "queued")
    await put(stage.broker, QUEUE, "waits", at=stage.broker.now() + 60_000)
    assert await asking.reschedule(stage.broker, QUEUE, "queued") is JobStatus.QUEUED
    assert await asking.reschedule(stage.broker, QUEUE, "waits") is JobStatus.WAITING
    stage.raw.check()
    assert ids(await take(stage.broker, QUEUE)) == ["queued", "waits"]


@scenario("moved job lives")
async def a_job_that_does_not_live_is_not_moved(stage: Stage) -> None:
    assert await asking.reschedule(stage.broker, QUEUE, "a") is JobStatus.NOT_SET
    await make_dead(stage.broker, QUEUE, "dead")
    assert await asking.reschedule(stage.broker, QUEUE, "dead") is JobStatus.FAILED
    await put(stage.broker, QUEUE, "b")
    assert await asking.reschedule(stage.broker, QUEUE, "b") is JobStatus.QUEUED


@scenario("cancelled before")
async def a_job_that_is_being_cancelled_is_not_moved(stage: Stage) -> None:
    lease = await put_and_take(stage.broker, QUEUE, "runs")
    await asking.cancel(stage.broker, QUEUE, "runs")
    later = stage.broker.now() + 60_000
    stage.client.zadd(stage.raw.prefix + "leases", {f"x{number}:y.1": 1e15 for number in range(1100)})
    assert await asking.reschedule(stage.broker, QUEUE, "runs", later) is JobStatus.RUNNING
    stage.client.zrem(stage.raw.prefix + "leases", *(f"x{number}:y.1" for number in range(1100)))
    assert list((await stage.broker.renew(QUEUE, [lease.id])).cancelled) == [lease.id]
    await put(stage.broker, QUEUE, "queued")
    assert await asking.reschedule(stage.broker, QUEUE, "queued", later) is JobStatus.QUEUED


@scenario("dead job of another task")
@scenario("reason")
async def dead_jobs_are_chosen_by_their_task_and_reason(stage: Stage) -> None:
    for name, task, reason in (("a", "send", "lost"), ("b", "other", "lost"), ("c", "send", "poison")):
        lease = await put_and_take(stage.broker, QUEUE, name, task=task)
        detail = f'{{"reason":"{reason}"}}'.encode()
        assert await settle(stage.broker, QUEUE, lease, Action.FAIL, detail=detail)
    chosen = [
        sum(
            result.count
            for result in await asking.steer_dead(
                stage.broker, QUEUE, is_to_run=False, task=task, reason=reason
            )
        )
        for task, reason in (("send", "lost"), ("", "poison"), ("other", ""))
    ]
    assert chosen == [1, 1, 1]


@scenario("error")
async def dead_jobs_are_chosen_by_their_error(stage: Stage) -> None:
    for name, error in (("a", "KeyError"), ("b", "ValueError")):
        lease = await put_and_take(stage.broker, QUEUE, name)
        detail = f'{{"reason":"exhausted","error":"{error}"}}'.encode()
        assert await settle(stage.broker, QUEUE, lease, Action.FAIL, detail=detail)
    assert (await stage.broker.steer(QUEUE, SteerDead(False, error="KeyError"))).count == 1


@scenario("job of another task")
async def the_jobs_of_one_task_are_cancelled(stage: Stage) -> None:
    await put(stage.broker, QUEUE, "a")
    await put(stage.broker, QUEUE, "b", task="other")
    await put(stage.broker, QUEUE, "c", task="other", at=stage.broker.now() + 60_000)
    stage.client.hset(stage.raw.prefix + "jobs", "foreign", "3 other")
    stage.client.rpush(stage.raw.prefix + "ready", "foreign")
    assert sum(await asking.cancel_all(stage.broker, QUEUE, "other")) == 2
    assert sum(await asking.cancel_all(stage.broker, QUEUE)) == 1
    assert stage.client.lrange(stage.raw.prefix + "ready", 0, -1) == [b"foreign"], "an exchange parks it"
    assert await take(stage.broker, QUEUE) == []
    assert (await asking.counts(stage.broker, QUEUE)).parked == 1


@scenario("last job that stayed")
async def a_walk_over_waiting_jobs_goes_on_after_those_that_stay(stage: Stage) -> None:
    due = stage.broker.now() + 60_000
    for number in range(600):
        stage.client.zadd(stage.raw.prefix + "future", {f"other-{number:03}": due})
        envelope = f"2 other 0 0 -\n{due} 0 0 0 - - - -\n"
        stage.client.hset(stage.raw.prefix + "jobs", f"other-{number:03}", envelope)
    await put(stage.broker, QUEUE, "z", at=due)
    first = await stage.broker.steer(QUEUE, CancelSome("send"))
    assert first.cursor is not None
    assert await asking.reschedule(stage.broker, QUEUE, "other-499", due + 1) is JobStatus.WAITING
    again = await stage.broker.steer(QUEUE, CancelSome("send", cursor=first.cursor))
    assert again.cursor is not None
    assert again.count == 0, "the last job that stayed has moved, and the walk begins again"
    assert (await stage.broker.steer(QUEUE, CancelSome("send", cursor=again.cursor))).count == 1


@scenario("end of a place")
async def a_walk_ends_after_the_jobs_that_there_were(stage: Stage) -> None:
    await put(stage.broker, QUEUE, *(f"first-{number}" for number in range(600)))
    place: tuple[str | bytes | int, ...] = ("ready", "", -1)
    result = await stage.broker.steer(QUEUE, CancelSome(cursor=place))
    assert result.count == 500
    await put(stage.broker, QUEUE, *(f"second-{number}" for number in range(600)))
    assert result.cursor is not None
    result = await stage.broker.steer(QUEUE, CancelSome(cursor=result.cursor))
    assert result.count == 100
    assert result.cursor is not None
    assert (await stage.broker.steer(QUEUE, CancelSome(cursor=result.cursor))).cursor is None


@scenario("jobs that came meanwhile")
async def a_walk_goes_on_where_it_ended_although_jobs_come_and_go(stage: Stage) -> None:
    await put(stage.broker, QUEUE, *(f"first-{number}" for number in range(1200)))
    place: tuple[str | bytes | int, ...] = ("ready", "", -1)
    result = await stage.broker.steer(QUEUE, CancelSome("send", cursor=place))
    assert result.count == 500
    assert len(await take(stage.broker, QUEUE, 300)) == 300
    await put(stage.broker, QUEUE, *(f"second-{number}" for number in range(300)))
    assert result.cursor is not None
    result = await stage.broker.steer(QUEUE, CancelSome("send", cursor=result.cursor))
    assert result.count == 400, "as many jobs came as left, and the walk read them"


@scenario("bytes of a call")
@scenario("bytes of dead jobs")
async def a_call_for_many_large_jobs_reads_some(stage: Stage) -> None:
    names = [f"job-{number}" for number in range(6)]
    await put(stage.broker, QUEUE, *names, body=b"x" * 100_000)
    settled = [Settlement(lease, Action.FAIL) for lease in await take(stage.broker, QUEUE)]
    await stage.broker.exchange(QUEUE, settled, 0)
    assert [part.count for part in await asking.steer_dead(stage.broker, QUEUE, is_to_run=True)] == [3, 3]
    assert [count for count in await asking.cancel_all(stage.broker, QUEUE) if count] == [3, 3]


@scenario("bytes of results")
async def a_call_for_many_large_results_reads_some(stage: Stage) -> None:
    await put(stage.broker, QUEUE, "a", "b", "c", result_ttl=60_000)
    large = 200_000 * b"1"
    settled = [Settlement(each, Action.DONE, result=large) for each in await take(stage.broker, QUEUE)]
    await stage.broker.exchange(QUEUE, settled, 0)
    found = await stage.broker.look(QUEUE, LookResults(["a", "b", "c"]))
    assert len(found) == 2


@scenario("duplicate")
async def a_job_whose_id_is_in_use_is_not_stored(stage: Stage) -> None:
    await put(stage.broker, QUEUE, "a")
    assert await stage.broker.enqueue(QUEUE, [job("a")]) == [False]


@scenario("later")
async def a_job_that_is_due_later_waits(stage: Stage) -> None:
    await put(stage.broker, QUEUE, "a", at=stage.broker.now() + 60_000)
    assert await take(stage.broker, QUEUE) == []


@scenario("lost registration")
async def no_job_is_leased_before_lost_limits_are_registered(stage: Stage) -> None:
    await stage.broker.register(QUEUE, {"send": 1}, {})
    await put(stage.broker, QUEUE, "a", "b")
    stage.client.delete(stage.raw.prefix + "control")
    assert ids(await take(stage.broker, QUEUE)) == ["a"]


@scenario("closed gate")
async def a_gate_without_a_free_slot_is_closed(stage: Stage) -> None:
    await stage.broker.register(QUEUE, {"send": 1}, {})
    await put(stage.broker, QUEUE, "a", "b", "c")
    (lease,) = await take(stage.broker, QUEUE)
    exchanged = await stage.broker.exchange(QUEUE, [Settlement(lease, Action.DONE)], 5)
    assert ids(exchanged.leases) == ["b"]
    assert not exchanged.is_something_left
    assert not stage.client.exists(stage.raw.prefix + "open"), (
        "an open gate without a free slot is checked again and again"
    )
    exchanged = await stage.broker.exchange(QUEUE, [Settlement(exchanged.leases[0], Action.DONE)], 1)
    assert ids(exchanged.leases) == ["c"]
    await stage.broker.register(QUEUE, {"send": 3}, {})
    await put(stage.broker, QUEUE, *"defgh")
    await take(stage.broker, QUEUE)
    await stage.broker.register(QUEUE, {"send": 5}, {})
    assert len(await take(stage.broker, QUEUE, 1)) == 1
    assert len(await take(stage.broker, QUEUE, 1)) == 1, "the gate is still open"
    stage.raw.check()


async def register_while_many_run(stage: Stage, number: int = 1100) -> list[Lease]:
    """Register the first limit of a task while many of its jobs run."""
    await put(stage.broker, QUEUE, "other", task="other")
    await put(stage.broker, QUEUE, *map(str, range(number)))
    leases = (await take(stage.broker, QUEUE, number + 1))[1:]
    await put(stage.broker, QUEUE, "next")
    await stage.broker.register(QUEUE, {"send": number}, {})
    return leases


@scenario("adopted lease")
async def all_running_jobs_are_counted(stage: Stage) -> None:
    await stage.broker.register(QUEUE, {"few": 1}, {})
    assert counts_made(stage) == 0
    leases = await register_while_many_run(stage)
    assert counts_made(stage) > 1
    assert await take(stage.broker, QUEUE) == []
    exchanged = await stage.broker.exchange(QUEUE, [Settlement(leases[0], Action.DONE)], 5)
    assert ids(exchanged.leases) == ["next"]
    assert len(stage.raw.read()["slots"]) == len(leases)


@scenario("being counted")
async def no_job_is_leased_while_running_jobs_are_counted(stage: Stage) -> None:
    run = Script.run
    seen: list[Lease] = []

    async def look_between(script: Script, *args: Any) -> Any:
        if script.name == "adopt":
            seen.extend(await take(stage.another, QUEUE))
        return await run(script, *args)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Script, "run", look_between)
        await register_while_many_run(stage)
    assert seen == []
    await stage.broker.register(QUEUE, {"send": 2000}, {})
    assert ids(await take(stage.broker, QUEUE)) == ["next"]


def count_since(stage: Stage, moment: float) -> None:
    """Mark the counting of running jobs as begun at this moment."""
    control = stage.raw.prefix + "control"
    entry: Any = stage.client.hget(control, "send")
    words = entry.decode().split(" ")[:3]
    stage.client.hset(control, "send", " ".join([*words, f"+{moment:.0f}"]))


def counts_made(stage: Stage) -> int:
    return [script.name for script, *_ in stage.calls].count("adopt")


@scenario("counted by nobody")
async def an_abandoned_count_blocks_jobs_only_for_a_time(stage: Stage) -> None:
    await stage.broker.register(QUEUE, {"send": 1}, {})
    await a_later_moment(stage)
    await stage.another.register(QUEUE, {"send": 3}, {})
    await stage.broker.register(QUEUE, {"send": 1}, {})
    assert counts_made(stage) == 0
    count_since(stage, stage.broker.now())
    await put(stage.broker, QUEUE, "a", "b")
    assert await take(stage.broker, QUEUE) == []
    [swept] = await stage.broker.sweep([QUEUE], WorkerReport("worker"))
    assert swept.is_something_to_run
    count_since(stage, stage.broker.now() - 61_000)
    assert ids(await take(stage.broker, QUEUE, 1)) == ["a"]
    count_since(stage, stage.broker.now())
    assert await take(stage.broker, QUEUE) == []
    await stage.broker.register(QUEUE, {"send": 1}, {})
    assert ids(await take(stage.broker, QUEUE)) == ["b"], (
        "registering an earlier limit ends the counting as well"
    )


@scenario("forgotten limit")
async def a_limit_not_registered_for_long_is_forgotten(stage: Stage) -> None:
    await stage.broker.register(QUEUE, {"send": 1, "old": 1, "held": 1}, {})
    await put(stage.broker, QUEUE, "a", "b", task="held")
    (lease,) = await take(stage.broker, QUEUE)
    control = stage.raw.prefix + "control"
    stage.client.hset(control, mapping={"old": "1 1700000000000 19675", "held": "1 1700000000000 19675"})
    await stage.broker.register(QUEUE, {"send": 1}, {})
    assert {task for task in stage.client.hkeys(control) if task[:1] != b" "} == {b"send", b"held"}
    assert await take(stage.another, QUEUE) == []
    exchanged = await stage.broker.exchange(QUEUE, [Settlement(lease, Action.DONE)], 2)
    assert ids(exchanged.leases) == ["b"]


async def a_later_moment(stage: Stage) -> None:
    """Return in a later millisecond of the store's clock."""
    now = stage.broker.now()
    await until(lambda: stage.broker.now() > now + 1)


@scenario("later limit")
async def registering_again_does_not_undo_a_later_limit(stage: Stage) -> None:
    await stage.broker.register(QUEUE, {"send": 1}, {})
    await a_later_moment(stage)
    await stage.another.register(QUEUE, {"send": 2}, {})
    await stage.broker.register(QUEUE, {"send": 1}, {})
    await put(stage.broker, QUEUE, "a", "b", "c")
    assert ids(await take(stage.broker, QUEUE)) == ["a", "b"]


@scenario("sequence")
async def a_repeated_exchange_returns_the_same(stage: Stage) -> None:
    await put(stage.broker, QUEUE, "a", "b")
    await take(stage.broker, QUEUE, 1)
    before = stage.raw.read()
    _, fenced, cancelled, leased, epoch, left = await stage.repeat()
    assert (fenced, cancelled, leased[0], len(leased), epoch, left) == ([], [], b"a", 2, 0, 1)
    assert stage.raw.read() == before, "I6"


@scenario("repeated lease")
async def a_repeated_exchange_does_not_return_a_lease_lost_meanwhile(stage: Stage) -> None:
    await put(stage.broker, QUEUE, "a", "b")
    lost, kept = await take(stage.broker, QUEUE)
    stage.expire(lost)
    assert ids((await stage.another.tick(QUEUE)).expired) == ["a"]
    _, _, _, leased, *_ = await stage.repeat(-2)
    assert [job_id.decode() for job_id in leased[::2]] == [kept.job.id]


@scenario("late call")
async def a_call_that_arrives_after_the_next_one_does_nothing(stage: Stage) -> None:
    await take(stage.broker, QUEUE)
    late = len(stage.calls) - 1
    await put(stage.broker, QUEUE, "a", "b")
    await take(stage.broker, QUEUE, 1)
    before = stage.raw.read()
    assert (await stage.repeat(late))[1:] == [[], [], [], 0, 0]
    assert stage.raw.read() == before, "I6"


@scenario("fence")
async def a_lease_settles_once(stage: Stage) -> None:
    lease = await put_and_take(stage.broker, QUEUE, "a", max_retries=1)
    assert await settle(stage.broker, QUEUE, lease, Action.RETRY)
    assert not await settle(stage.broker, QUEUE, lease, Action.RELEASE), "I5"


@scenario("unwanted")
async def a_job_cancelled_while_running_is_not_requeued(stage: Stage) -> None:
    await put(stage.broker, QUEUE, "wanted", "unwanted")
    leases = await take(stage.broker, QUEUE)
    await asking.cancel(stage.broker, QUEUE, "unwanted")
    exchanged = await stage.broker.exchange(QUEUE, [Settlement(each, Action.RELEASE) for each in leases], 2)
    (lease,) = exchanged.leases
    assert lease.job.id == "wanted"
    assert await settle(stage.broker, QUEUE, lease, Action.DONE)
    stage.raw.check_drained()


async def unreadable(stage: Stage) -> dict[str, bool]:
    """The dead jobs, and whether each one was quarantined as unreadable."""
    dead = await asking.dead(stage.broker, QUEUE)
    return {each.job.id: b"unreadable" in each.detail for each in dead}


@scenario("unreadable settled job")
async def a_job_damaged_while_running_stops_no_worker(stage: Stage) -> None:
    for action in (Action.FAIL, Action.RETRY):
        lease = await put_and_take(stage.broker, QUEUE, action.value)
        stage.spoil(action.value)
        assert await settle(stage.broker, QUEUE, lease, action)
    lease = await put_and_take(stage.broker, QUEUE, "good")
    assert await settle(stage.broker, QUEUE, lease, Action.FAIL)
    assert await unreadable(stage) == {"fail": True, "retry": True, "good": False}


@scenario("successor")
async def a_successor_is_stored_for_an_ended_job_and_not_for_a_cancelled_one(stage: Stage) -> None:
    for name in ("goes-on", "is-over"):
        lease = await put_and_take(stage.broker, QUEUE, name)
        if name == "is-over":
            assert (await asking.cancel(stage.broker, QUEUE, name)).status is JobStatus.RUNNING
        follows = Envelope(name, "send", b"next")
        exchanged = await stage.broker.exchange(QUEUE, [Settlement(lease, Action.FAIL, successor=follows)], 5)
        assert [each.job.body for each in exchanged.leases] == [b"next"] * (name == "goes-on")
    lease = await put_and_take(stage.broker, QUEUE, "has-none")
    assert await settle(stage.broker, QUEUE, lease, Action.FAIL)
    stage.raw.check()


@scenario("cancelled in line")
async def a_cancelled_job_leaves_no_data(stage: Stage) -> None:
    await put(stage.broker, QUEUE, "a", "b")
    assert (await asking.cancel(stage.broker, QUEUE, "a")).status is JobStatus.QUEUED
    stage.raw.check()
    (lease,) = await take(stage.broker, QUEUE)
    assert await settle(stage.broker, QUEUE, lease, Action.DONE)
    stage.raw.check_drained()
    assert await asking.dead(stage.broker, QUEUE) == []


@scenario("unreadable")
async def an_unreadable_job_stops_no_other(stage: Stage) -> None:
    await put(stage.broker, QUEUE, "spoilt", "good")
    stage.spoil("spoilt")
    stage.client.lpush(stage.raw.prefix + "ready", "never stored")
    assert ids(await take(stage.broker, QUEUE)) == ["good"]
    assert await unreadable(stage) == {"spoilt": True, "never stored": True}
    assert await asking.counts(stage.broker, QUEUE) == Counts(ready=0, running=1, waiting=0, dead=2)


@scenario("limit")
async def a_task_runs_up_to_its_limit_and_blocks_no_other(stage: Stage) -> None:
    await stage.broker.register(QUEUE, {"send": 2}, {})
    await put(stage.broker, QUEUE, *"abcd")
    await put(stage.broker, QUEUE, "free", task="other")
    leases = await take(stage.broker, QUEUE)
    assert ids(leases) == ["a", "b", "free"]
    stage.raw.check()
    exchanged = await stage.broker.exchange(QUEUE, [Settlement(leases[0], Action.DONE)], 5)
    assert ids(exchanged.leases) == ["c"]


@scenario("newly limited")
async def running_jobs_count_towards_a_new_limit(stage: Stage) -> None:
    await put(stage.broker, QUEUE, "other", task="other")
    await put(stage.broker, QUEUE, "a", "b")
    await take(stage.broker, QUEUE, 2)
    await stage.broker.register(QUEUE, {"send": 1}, {})
    assert await take(stage.broker, QUEUE) == []
    made = counts_made(stage)
    await stage.broker.register(QUEUE, {"send": 1, "free": 0}, {})
    assert counts_made(stage) == made == 1


def epoch_of(stage: Stage) -> int:
    return int(stage.client.hget(stage.raw.prefix + "control", " epoch") or 0)


@scenario("new periodic task")
async def a_new_periodic_task_changes_the_epoch(stage: Stage) -> None:
    due = stage.broker.now() + 60_000
    await stage.broker.register(QUEUE, {}, {"nightly": due})
    before = epoch_of(stage)
    await stage.another.register(QUEUE, {}, {"nightly": due})
    assert epoch_of(stage) == before
    await stage.another.register(QUEUE, {}, {"hourly": due})
    assert epoch_of(stage) > before


@scenario("older epoch")
async def an_epoch_only_grows(stage: Stage) -> None:
    await stage.broker.register(QUEUE, {"send": 1}, {})
    before = epoch_of(stage)
    await stage.broker.register(QUEUE, {"send": 1}, {})
    assert epoch_of(stage) == before
    stage.client.hset(stage.raw.prefix + "control", " epoch", before - 1)
    await stage.broker.register(QUEUE, {"send": 1}, {})
    assert epoch_of(stage) > before


@scenario("earlier due")
async def the_earlier_due_is_kept(stage: Stage) -> None:
    due = stage.broker.now() + 60_000
    await stage.broker.register(QUEUE, {}, {"nightly": due})
    await stage.another.register(QUEUE, {}, {"nightly": due + 1000})
    assert stage.raw.read()["periodic"] == [(b"nightly", due)]


@scenario("due")
async def a_tick_fires_once(stage: Stage) -> None:
    await stage.broker.register(QUEUE, {}, {"nightly": 1000})
    assert await fire(stage.broker, QUEUE, "nightly", 1000, 2000, job("nightly@1000"))
    assert not await fire(stage.another, QUEUE, "nightly", 1000, 2000, job("again")), "I7: one job a tick"
    assert (await asking.counts(stage.broker, QUEUE)).ready == 1


@scenario("tick before")
async def a_tick_is_skipped_while_the_job_of_the_previous_one_is_live(stage: Stage) -> None:
    await stage.broker.register(QUEUE, {}, {"beat": 100})
    first, second = job("beat@100", task="beat"), job("beat@200", task="beat")
    assert await stage.broker.fire(QUEUE, [Firing("beat", 100, 200, first)]) == [Fired.MOVED]
    assert await stage.broker.fire(QUEUE, [Firing("beat", 200, 300, second)]) == [Fired.OVERLAPPING]
    [lease] = await take(stage.broker, QUEUE)
    assert lease.job.id == "beat@100"
    assert await settle(stage.broker, QUEUE, lease, Action.DONE)
    third = job("beat@300", task="beat")
    assert await stage.broker.fire(QUEUE, [Firing("beat", 300, 400, third)]) == [Fired.MOVED]


@scenario("new tick")
async def a_live_job_of_a_tick_is_not_queued_again(stage: Stage) -> None:
    await stage.broker.register(QUEUE, {}, {"nightly": 1000})
    await put(stage.broker, QUEUE, "nightly@1000")
    assert await fire(stage.broker, QUEUE, "nightly", 1000, 2000, job("nightly@1000"))
    stage.raw.check()
    assert await fire(stage.broker, QUEUE, "nightly", 2000, 3000, job("nightly@2000"))
    assert (await asking.counts(stage.broker, QUEUE)).ready == 2


@scenario("skipped due")
async def a_tick_refused_by_a_full_store_is_skipped_once(stage: Stage) -> None:
    await stage.broker.register(QUEUE, {}, {"nightly": 1000})
    state = stage.broker._queue(QUEUE)
    for expected in ([1], [0]):
        assert (await stage.broker._work(scripts.SKIP, state, ["nightly", 1000, 2000]))[1] == expected
    assert stage.raw.read()["periodic"] == [(b"nightly", 2000)]


@scenario("one token")
async def work_wakes_one_worker(stage: Stage) -> None:
    await put(stage.broker, QUEUE, "a")
    await put(stage.broker, QUEUE, "b")
    stage.raw.check()
    assert await stage.broker.wait([QUEUE], 0.001) == QUEUE
    assert await stage.broker.wait([QUEUE], 0.001) is None


@scenario("renewed lease")
async def a_settled_lease_is_not_renewed(stage: Stage) -> None:
    await put(stage.broker, QUEUE, "a", "b")
    settled, kept = await take(stage.broker, QUEUE)
    assert await settle(stage.broker, QUEUE, settled, Action.DONE)
    assert list((await stage.broker.renew(QUEUE, [settled.id, kept.id])).lost) == [settled.id], "I5"


@scenario("not before it is due")
async def a_tick_queues_only_what_is_due(stage: Stage) -> None:
    await put(stage.broker, QUEUE, "a", at=stage.broker.now() + 60_000)
    await stage.broker.tick(QUEUE)
    assert await take(stage.broker, QUEUE) == [], "I7"
    assert (await asking.counts(stage.broker, QUEUE)).waiting == 1


@scenario("silence")
async def no_lease_is_recovered_at_once_after_a_time_without_ticks(stage: Stage) -> None:
    stage.expire(await put_and_take(stage.broker, QUEUE, "a"))
    quarter = stage.broker.lease * 250
    stage.set_last_tick(ago=quarter + 1000)
    assert list((await stage.another.tick(QUEUE)).expired) == []
    stage.set_last_tick(ago=quarter - 1000)
    assert ids((await stage.another.tick(QUEUE)).expired) == ["a"]


@scenario("rescue pause")
async def no_lease_is_recovered_during_a_rescue_pause(stage: Stage) -> None:
    stage.expire(await put_and_take(stage.broker, QUEUE, "a"))
    stage.set_last_tick(paused_for=1000)
    assert list((await stage.another.tick(QUEUE)).expired) == []
    stage.set_last_tick(paused_for=0)
    assert ids((await stage.another.tick(QUEUE)).expired) == ["a"]


@scenario("end of the rescue pause")
async def a_gap_during_a_rescue_pause_does_not_restart_it(stage: Stage) -> None:
    stage.expire(await put_and_take(stage.broker, QUEUE, "a"))
    quarter = stage.broker.lease * 250
    stage.set_last_tick(ago=quarter + 1000)
    assert list((await stage.another.tick(QUEUE)).expired) == []
    stage.set_last_tick(ago=quarter + 1000, paused_for=quarter)
    assert list((await stage.another.tick(QUEUE)).expired) == []
    stage.set_last_tick(ago=quarter + 1000, paused_for=quarter / 4)
    assert ids((await stage.another.tick(QUEUE)).expired) == ["a"]


@scenario("grace")
async def a_tick_recovers_only_expired_leases(stage: Stage) -> None:
    lease = await put_and_take(stage.broker, QUEUE, "a")
    assert list((await stage.another.tick(QUEUE)).expired) == []
    assert await settle(stage.broker, QUEUE, lease, Action.DONE)


@scenario("more lost jobs")
async def a_tick_that_leaves_lost_jobs_asks_for_another(stage: Stage) -> None:
    await put(stage.broker, QUEUE, *map(str, range(EXPIRED_AT_ONCE + 1)))
    for lease in await take(stage.broker, QUEUE, EXPIRED_AT_ONCE + 1):
        stage.expire(lease)
    ticked = await stage.another.tick(QUEUE)
    assert (len(ticked.expired), ticked.next_due) == (EXPIRED_AT_ONCE, 0)
    ticked = await stage.another.tick(QUEUE)
    assert (len(ticked.expired), ticked.next_due) == (1, None)


@scenario("unreadable lost job")
async def a_damaged_lost_job_stops_no_tick(stage: Stage) -> None:
    await stage.broker.register(QUEUE, {"send": 9}, {})
    await put(stage.broker, QUEUE, "spoilt", "good")
    for lease in await take(stage.broker, QUEUE):
        stage.expire(lease)
    stage.spoil("spoilt")
    (lease,) = (await stage.broker.tick(QUEUE)).expired
    assert (lease.job.id, lease.job.crashes) == ("good", 1)
    assert await unreadable(stage) == {"spoilt": True}


@scenario("crash of a worker")
async def a_job_lost_during_its_recovery_has_no_second_crash(stage: Stage) -> None:
    stage.expire(await put_and_take(stage.broker, QUEUE, "a"))
    for _ in range(3):
        (lease,) = (await stage.another.tick(QUEUE)).expired
        assert lease.job.crashes == 1
        stage.expire(lease)


@scenario("id of a lost job")
async def a_lost_job_with_an_unreadable_id_stops_no_tick(stage: Stage) -> None:
    stage.expire(await put_and_take(stage.broker, QUEUE, "good"))
    stage.client.hset(stage.raw.prefix + "jobs", b"\xff", b"2 send 0 0 -\n0 0 0 0 - - - -\n")
    stage.client.zadd(stage.raw.prefix + "leases", {b"\xff:nobody.1": 1})
    assert ids((await stage.another.tick(QUEUE)).expired) == ["good"]
    assert await unreadable(stage) == {"\\xff": True}
    stage.client.delete(stage.raw.prefix + "jobs")
    stage.client.delete(stage.raw.prefix + "leases")


@scenario("a lease without a job")
async def a_malformed_lease_stops_no_tick(stage: Stage) -> None:
    await put(stage.broker, QUEUE, "spoilt", "good")
    for lease in await take(stage.broker, QUEUE):
        stage.expire(lease)
    stage.spoil("spoilt")
    stage.client.zadd(stage.raw.prefix + "leases", {"no colon": 1})
    assert ids((await stage.another.tick(QUEUE)).expired) == ["good"]
    assert await unreadable(stage) == {"spoilt": True}


@scenario("slot of a lost job")
async def a_slot_moves_to_the_lease_for_recovery(stage: Stage) -> None:
    await stage.broker.register(QUEUE, {"send": 1}, {})
    await put(stage.broker, QUEUE, "a", "b")
    await put(stage.broker, QUEUE, "other", task="other")
    for lease in await take(stage.broker, QUEUE):
        stage.expire(lease)
    lost = (await stage.another.tick(QUEUE)).expired
    assert sorted(ids(lost)) == ["a", "other"]
    stage.raw.check()
    assert await take(stage.broker, QUEUE) == []


@scenario("not before the tick")
async def a_tick_returns_due_tasks_only(stage: Stage) -> None:
    due = stage.broker.now() + 60_000
    await stage.broker.register(QUEUE, {}, {"nightly": due, "hourly": 1})
    stage.client.zadd(stage.raw.prefix + "periodic", {"hourly": due - 120_000})
    assert list((await stage.broker.tick(QUEUE)).periodic) == [("hourly", due - 120_000)]


@scenario("known for long")
async def a_tick_forgets_periodic_tasks_unknown_for_a_week(stage: Stage) -> None:
    long_ago = stage.broker.now() - 8 * 24 * 3600 * 1000
    await stage.broker.register(QUEUE, {}, {"known": long_ago})
    await stage.another.register(QUEUE, {}, {"unknown": long_ago})
    assert list((await stage.broker.tick(QUEUE)).periodic) == [("known", long_ago)]
    assert stage.raw.read().get("periodic") == [(b"known", long_ago)]


@scenario("foreign")
async def a_job_of_another_release_waits_for_it(stage: Stage) -> None:
    await put(stage.broker, QUEUE, "a", "b")
    await put(stage.broker, QUEUE, "spoilt")
    stage.spoil("spoilt")
    for name in "ab":
        stage.client.hset(stage.raw.prefix + "jobs", name, b"3 send\nwhatever\n")
    assert await take(stage.broker, QUEUE, 1) == []
    assert stage.raw.ids_by_state()["parked"] == ["a", "b"]
    assert await unreadable(stage) == {"spoilt": True}
    stage.client.delete(stage.raw.prefix + "jobs", stage.raw.prefix + "lanes")


@scenario("unknown task")
async def jobs_of_an_unknown_task_are_not_leased(stage: Stage) -> None:
    await put(stage.broker, QUEUE, "a")
    parking = Parking(unknown=["send"])
    assert list((await stage.broker.exchange(QUEUE, [], 1, parking)).leases) == []


@scenario("since when it is parked")
async def a_job_keeps_the_moment_of_its_first_parking(stage: Stage) -> None:
    await put(stage.broker, QUEUE, "a")
    since = None
    for _ in range(3):
        await stage.broker.exchange(QUEUE, [], 1, Parking(unknown=["send"]))
        [swept] = await stage.broker.sweep([QUEUE], WorkerReport("worker"))
        assert since is None or swept.parked == since
        since = swept.parked
        await asyncio.sleep(0.002)
        [lease] = (await stage.broker.exchange(QUEUE, [], 1, Parking(wanted=["send"]))).leases
        assert await settle(stage.broker, QUEUE, lease, Action.PARK)


@scenario("parked job")
async def a_cancelled_parked_job_leaves_no_data(stage: Stage) -> None:
    await put(stage.broker, QUEUE, "a")
    await stage.broker.exchange(QUEUE, [], 1, Parking(unknown=["send"]))
    assert (await asking.cancel(stage.broker, QUEUE, "a")).status is JobStatus.WAITING
    stage.raw.check()


@scenario("unreadable record")
async def an_unreadable_record_hides_no_other(stage: Stage) -> None:
    await make_dead(stage.broker, QUEUE, "good", "spoilt")
    stage.client.hset(stage.raw.prefix + "deadjobs", "spoilt", b"garbage")
    assert [dead.job.id for dead in await asking.dead(stage.broker, QUEUE, limit=1)] == ["good"]


@scenario("unreadable dead job")
async def an_unreadable_dead_job_is_not_requeued(stage: Stage) -> None:
    await make_dead(stage.broker, QUEUE, "good", "spoilt")
    stage.client.hset(stage.raw.prefix + "deadjobs", "spoilt", b"garbage")
    assert not await asking.requeue(stage.broker, QUEUE, "spoilt")
    assert await asking.requeue(stage.broker, QUEUE, "good")
    assert await asking.discard(stage.broker, QUEUE, "spoilt")


async def find_orphans(stage: Stage) -> dict[str, list[str]]:
    """Have orphans found, and return the job ids by state."""
    await orphans.find_orphans(stage.broker._calls, stage.broker._queue(QUEUE), stage.broker.lease)
    stage.raw.check()
    return {state: sorted(ids) for state, ids in stage.raw.ids_by_state().items() if ids}


def lose(stage: Stage, *names: str) -> None:
    for name in names:
        stage.client.delete(stage.raw.prefix + name)


@scenario("lies nowhere")
async def a_job_with_a_state_is_no_orphan(stage: Stage) -> None:
    await put_and_take(stage.broker, QUEUE, "runs")
    await put(stage.broker, QUEUE, "later", at=stage.broker.now() + 60_000)
    await put(stage.broker, QUEUE, "lost", "ready")
    stage.client.lrem(stage.raw.prefix + "ready", 1, "lost")
    found = await find_orphans(stage)
    assert found == {"queued": ["ready"], "leased": ["lost", "runs"], "waiting": ["later"]}


@scenario("orphan due later")
@scenario("parked orphan")
async def an_orphan_returns_to_its_state_if_that_is_known(stage: Stage) -> None:
    lease = await put_and_take(stage.broker, QUEUE, "parked", task="strange")
    await stage.broker.exchange(QUEUE, [Settlement(lease, Action.PARK)], 0)
    await put(stage.broker, QUEUE, "later", at=stage.broker.now() + 60_000)
    await put(stage.broker, QUEUE, "now")
    lose(stage, "lanes", "future", "ready")
    assert await find_orphans(stage) == {"leased": ["now"], "waiting": ["later"], "parked": ["parked"]}


@scenario("unreadable orphan")
async def an_unreadable_orphan_is_dead(stage: Stage) -> None:
    await put(stage.broker, QUEUE, "good", "spoilt")
    stage.spoil("spoilt")
    lose(stage, "ready")
    assert await find_orphans(stage) == {"leased": ["good"]}
    assert [dead.job.id for dead in await asking.dead(stage.broker, QUEUE)] == ["spoilt"]


@scenario("slot of an orphan")
async def an_orphan_of_a_limited_task_gets_a_slot(stage: Stage) -> None:
    await stage.broker.register(QUEUE, {"send": 1}, {})
    await put_and_take(stage.broker, QUEUE, "limited")
    await put_and_take(stage.broker, QUEUE, "free", task="other")
    await put(stage.broker, QUEUE, "next")
    lose(stage, "leases")
    assert await find_orphans(stage) == {"leased": ["free", "limited"], "queued": ["next"]}
    assert await take(stage.broker, QUEUE) == []


@scenario("slot of a lease")
async def only_a_slot_without_a_lease_is_freed(stage: Stage) -> None:
    await stage.broker.register(QUEUE, {"send": 2}, {})
    await put(stage.broker, QUEUE, "gone", "runs")
    removed, _ = await take(stage.broker, QUEUE)
    await put(stage.broker, QUEUE, "next", "last")
    assert await take(stage.broker, QUEUE) == []
    stage.client.zrem(stage.raw.prefix + "leases", removed.id)
    stage.client.hdel(stage.raw.prefix + "jobs", "gone")
    await find_orphans(stage)
    assert ids(await take(stage.broker, QUEUE)) == ["next"]


@scenario("room behind a gate")
async def a_lost_gate_is_opened_if_a_slot_is_free(stage: Stage) -> None:
    await stage.broker.register(QUEUE, {"send": 1}, {})
    lease = await put_and_take(stage.broker, QUEUE, "runs")
    await put(stage.broker, QUEUE, "held")
    assert await take(stage.broker, QUEUE) == []
    await find_orphans(stage)
    assert not stage.client.exists(stage.raw.prefix + "open")
    await settle(stage.broker, QUEUE, lease, Action.DONE)
    lose(stage, "open")
    await find_orphans(stage)
    assert ids(await take(stage.broker, QUEUE)) == ["held"]


@scenario("bare dead job")
async def a_dead_job_without_its_arguments_is_not_requeued(stage: Stage) -> None:
    lease = await put_and_take(stage.broker, QUEUE, "a", body=b"[[1],{}]")
    await stage.broker.exchange(QUEUE, [Settlement(lease, Action.FAIL, is_bare=True)], 0)
    assert (await stage.broker.steer(QUEUE, Requeue("a"))).is_bare
    await make_dead(stage.broker, QUEUE, "b")
    assert await asking.requeue(stage.broker, QUEUE, "b")


@scenario("live again")
async def a_dead_job_whose_id_is_in_use_stays_dead(stage: Stage) -> None:
    for name in ("a", "b"):
        lease = await put_and_take(stage.broker, QUEUE, name)
        assert await settle(stage.broker, QUEUE, lease, Action.FAIL)
    await put(stage.broker, QUEUE, "a")
    assert not await asking.requeue(stage.broker, QUEUE, "a")
    assert await asking.requeue(stage.broker, QUEUE, "b")


@scenario("cancelled")
async def a_job_that_is_not_live_cannot_be_cancelled(stage: Stage) -> None:
    assert (await asking.cancel(stage.broker, QUEUE, "a")).status is JobStatus.NOT_SET
    await put(stage.broker, QUEUE, "a")
    for expected in (JobStatus.QUEUED, JobStatus.NOT_SET):
        assert (await asking.cancel(stage.broker, QUEUE, "a")).status is expected


@scenario("whole id")
async def a_lease_of_an_id_with_the_same_prefix_is_not_found(stage: Stage) -> None:
    await put_and_take(stage.broker, QUEUE, "a:b")
    await put(stage.broker, QUEUE, "a")
    assert (await asking.cancel(stage.broker, QUEUE, "a")).status is JobStatus.QUEUED
    assert (await asking.cancel(stage.broker, QUEUE, "a:b")).status is JobStatus.RUNNING


@scenario("malformed time of a result")
async def a_job_with_a_malformed_time_of_its_result_is_cancelled(stage: Stage) -> None:
    for job_id, flags in (("a", b"r99999999999"), ("b", b"r0"), ("c", b"mr50000")):
        await put(stage.broker, QUEUE, job_id)
        stage.client.hset(stage.raw.prefix + "jobs", job_id, b"2 send 0 0 %b\n1 0 0 0 - - - -\nbody" % flags)
        assert (await asking.cancel(stage.broker, QUEUE, job_id)).status is JobStatus.QUEUED
        assert stage.client.exists(f"{stage.raw.prefix}result:{job_id}") == (job_id == "c")


@scenario("result of an earlier job")
async def a_failed_job_removes_the_result_of_an_earlier_one(stage: Stage) -> None:
    for action, is_kept in ((Action.DONE, True), (Action.FAIL, False), (Action.CANCELLED, True)):
        lease = await put_and_take(stage.broker, QUEUE, "a", result_ttl=1000)
        assert await settle(stage.broker, QUEUE, lease, action)
        assert stage.client.exists(stage.raw.prefix + "result:a") == is_kept


async def play(scene: Scenario, namespace: str) -> None:
    """Run a scenario on keys of its own; a refused call is a failure as well."""
    stage = Stage(namespace)
    run = Script.run

    async def record_and_run(
        script: Script, send: Send, keys: Sequence[str], arguments: Sequence[Any]
    ) -> Any:
        stage.calls.append((script, send, keys, arguments))
        assert len(stage.calls) < CALLS_AT_MOST
        return await run(script, send, keys, arguments)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Script, "run", record_and_run)
        try:
            await stage.open(namespace)
            await scene(stage)
            stage.raw.check()
            await drain_wake_ups(stage.broker, QUEUE)
        except (BrokerError, ValueError) as error:  # ValueError: not as many leases as expected
            raise AssertionError("a call was refused, or returned something else") from error
        finally:
            await stage.aclose()


async def passes(scene: Scenario, namespace: str) -> bool:
    try:
        await play(scene, namespace)
    except AssertionError:
        return False
    return True


@scenario("class of an error")
async def a_retry_stores_the_class_of_an_error_and_no_other_text(stage: Stage) -> None:
    lease = await put_and_take(stage.broker, QUEUE, "a", max_retries=9)
    for detail, words in [(b"", 8), (b"two words", 8), (b"shop.Refused", 9), (b"", 9)]:
        assert await settle(stage.broker, QUEUE, lease, Action.RETRY, detail=detail)
        envelope = stage.client.hget(stage.raw.prefix + "jobs", "a")
        assert isinstance(envelope, bytes)
        assert len(envelope.split(b"\n")[1].split(b" ")) == words
        while not (leases := await take(stage.broker, QUEUE)):
            await stage.broker.tick(QUEUE)
        [lease] = leases
    assert lease.job.error == "shop.Refused"


async def listed(stage: Stage, place: Place) -> list[str]:
    page = await stage.broker.look(QUEUE, LookPlace(place))
    return [seen.job.id for seen in page.jobs]


@scenario("unreadable record in a list")
async def a_damaged_record_of_a_dead_job_is_not_listed(stage: Stage) -> None:
    await make_dead(stage.broker, QUEUE, "a", "b")
    stage.client.hset(stage.raw.prefix + "deadjobs", "a", b"garbage")
    assert await listed(stage, Place.DEAD) == ["b"]


@scenario("cancelled job in a list")
async def a_job_cancelled_in_line_is_not_listed(stage: Stage) -> None:
    await put(stage.broker, QUEUE, "a", "b")
    await asking.cancel(stage.broker, QUEUE, "a")
    assert await listed(stage, Place.READY) == ["b"]


@scenario("ended lease in a list")
async def a_lease_that_has_ended_meanwhile_is_not_listed(stage: Stage) -> None:
    lease = await put_and_take(stage.broker, QUEUE, "a")
    keys, send = stage.broker._queue(QUEUE).keys, stage.broker._calls.here().transport.producer_call
    answer = await scripts.LISTING.run(send, keys.of(scripts.LISTING), ["leases", "gone:session.7", lease.id])
    assert answer[1:4] == [None, 2, lease.id.encode()]
    assert len(answer) == 8


async def where_is(stage: Stage, job_id: str) -> JobFacts:
    return await stage.broker.look(QUEUE, LookJobFacts(job_id))


@scenario("whole id of a lease")
async def a_job_does_not_run_because_one_with_a_longer_id_does(stage: Stage) -> None:
    await put_and_take(stage.broker, QUEUE, "a:b")
    await put(stage.broker, QUEUE, "a")
    for job_id, place in (("a", Place.READY), ("a:b", Place.LEASES)):
        seen = (await where_is(stage, job_id)).seen
        assert seen is not None
        assert seen.place is place


@scenario("cancelled ahead")
async def cancelled_jobs_are_not_ahead(stage: Stage) -> None:
    await put(stage.broker, QUEUE, "a", "b", "c", "d")
    for job_id in ("a", "b"):
        await asking.cancel(stage.broker, QUEUE, job_id)
    await put(stage.broker, QUEUE, "b", at=stage.broker.now() + 60_000)  # in the place of the old one
    assert (await where_is(stage, "d")).ahead == 2


async def events_of(stage: Stage) -> list[tuple[str, str]]:
    page = await stage.broker.look(QUEUE, LookEvents(None, 100))
    return [(event.name, event.job_id) for row in page.rows for event in row.events]


@scenario("event of a duplicate")
async def a_duplicate_has_no_event(stage: Stage) -> None:
    assert await stage.broker.enqueue(QUEUE, [job("a"), job("a"), job("b")]) == [True, False, True]
    assert await events_of(stage) == [("job_scheduled", "a"), ("job_scheduled", "b")]


async def ends_of_two(stage: Stage, first: Action, second: Action, **fields: Any) -> list[tuple[str, str]]:
    """The events of two settlements in one call, of which the first one is fenced."""
    await put(stage.broker, QUEUE, "a", "b")
    a, b = await take(stage.broker, QUEUE)
    stage.client.zrem(stage.raw.prefix + "leases", a.id)
    settled = [Settlement(a, first, detail=b"{}"), Settlement(b, second, detail=b"{}", **fields)]
    await stage.broker.exchange(QUEUE, settled, 0)
    stage.client.hdel(stage.raw.prefix + "jobs", "a")
    return (await events_of(stage))[4:]


@scenario("event of a fenced success")
async def a_fenced_success_has_no_event(stage: Stage) -> None:
    assert await ends_of_two(stage, Action.DONE, Action.DONE) == [("job_finished", "b")]


@scenario("event of a fenced job")
async def a_fenced_failure_has_no_event(stage: Stage) -> None:
    assert await ends_of_two(stage, Action.FAIL, Action.FAIL) == [("job_failed", "b"), ("job_finished", "b")]


@scenario("event of a cancellation")
async def only_a_cancelled_job_is_told_to_be_cancelled(stage: Stage) -> None:
    await put(stage.broker, QUEUE, "a", "b")
    leases = await take(stage.broker, QUEUE)
    await asking.cancel(stage.broker, QUEUE, "a")
    settled = [Settlement(lease, Action.RETRY, 600.0) for lease in leases]
    await stage.broker.exchange(QUEUE, settled, 0)
    names = [event for event in await events_of(stage) if event[0] != "job_finished"]
    assert names[4:] == [("job_cancelled", "a"), ("job_schedule_retry", "b")]


@scenario("event of a successor")
async def only_a_stored_successor_is_scheduled(stage: Stage) -> None:
    successor = job("b", at=stage.broker.now() + 60_000)
    ends = await ends_of_two(stage, Action.DONE, Action.DONE, successor=successor)
    assert ends == [("job_finished", "b"), ("job_scheduled", "b")]
    await put(stage.broker, QUEUE, "c")
    [lease] = await take(stage.broker, QUEUE)
    await asking.cancel(stage.broker, QUEUE, "c")
    await stage.broker.exchange(QUEUE, [Settlement(lease, Action.DONE, successor=job("c"))], 0)
    assert (await events_of(stage))[-1] == ("job_finished", "c")


@scenario("store that has gone back")
async def a_place_that_was_never_written_is_lost(stage: Stage) -> None:
    await put(stage.broker, QUEUE, "a")
    first = (await stage.broker.look(QUEUE, LookEvents(None, 0))).end
    await put(stage.broker, QUEUE, "b")
    end = (await stage.broker.look(QUEUE, LookEvents(None, 0))).end
    for place in (first, end):
        assert not (await stage.broker.look(QUEUE, LookEvents(place, 10))).is_lost
    assert (await stage.broker.look(QUEUE, LookEvents((end[0] + 1, 0), 10))).has_gone_back


@scenario("trimmed events")
async def a_place_behind_which_rows_were_trimmed_is_lost(stage: Stage) -> None:
    await put(stage.broker, QUEUE, "first")
    first = (await stage.broker.look(QUEUE, LookEvents(None, 1))).end
    assert not (await stage.broker.look(QUEUE, LookEvents(first, 10))).is_lost
    stage.client.xadd(stage.raw.prefix + "events", {"e": "-"})
    stage.client.xtrim(stage.raw.prefix + "events", maxlen=1, approximate=False)
    page = await stage.broker.look(QUEUE, LookEvents(first, 10))
    assert page.is_lost
    assert not page.has_gone_back


@scenario("progress of a lease")
async def only_a_live_lease_has_progress(stage: Stage) -> None:
    lease = await put_and_take(stage.broker, QUEUE, "a")
    steps = {lease.id: ("send", Step(1)), "a:gone.1": ("send", Step(2))}
    await stage.broker.note_progress(QUEUE, steps)
    assert set(stage.raw.read().get("progress", {})) == {lease.id.encode()}
    assert await settle(stage.broker, QUEUE, lease, Action.DONE)
    assert "progress" not in stage.raw.read()


@scenario("progress of a running job")
async def a_search_for_orphans_forgets_progress_without_a_lease(stage: Stage) -> None:
    lease = await put_and_take(stage.broker, QUEUE, "a")
    await stage.broker.note_progress(QUEUE, {lease.id: ("send", Step(1))})
    stage.client.hset(stage.raw.prefix + "progress", "b:gone.1", '1 [2,null,""]')
    stage.broker._queue(QUEUE).has_orphans = True
    await stage.broker.tick(QUEUE)
    assert set(stage.raw.read().get("progress", {})) == {lease.id.encode()}
    assert await settle(stage.broker, QUEUE, lease, Action.DONE)


@pytest.fixture
def names(namespace: str) -> Iterator[str]:
    """A new namespace each time."""
    return (f"{namespace}-{number}" for number in range(100))


async def test_a_plain_job_passes(namespace: str) -> None:
    await play(a_plain_job, namespace)


@pytest.mark.parametrize("guard", SCENARIOS)
async def test_a_scenario_passes_with_the_guard(namespace: str, guard: str) -> None:
    await play(SCENARIOS[guard], namespace)


@pytest.mark.parametrize(("script", "guard", "line"), GUARDS, ids=[f"{s}: {name}" for s, name, _ in GUARDS])
async def test_the_scenario_of_a_guard_fails_without_it(
    monkeypatch: pytest.MonkeyPatch, names: Iterator[str], script: str, guard: str, line: str
) -> None:
    originals = [(name, each) for name, each in vars(scripts).items() if isinstance(each, Script)]
    tested = 0
    for mutant in mutants(line):
        changed = 0
        for name, original in originals:
            source = original.source.replace(line, mutant)
            changed += source != original.source
            monkeypatch.setattr(scripts, name, Script(original.name, source))
        assert changed == (sum(needs(each, script) for _, each in originals) if is_part(script) else 1)
        if await passes(a_plain_job, next(names)):
            tested += 1
            assert not await passes(SCENARIOS[guard], next(names)), f"no failure with {mutant.strip()!r}"
    assert tested, "no mutant runs"


async def test_a_repeat_after_lost_limits_still_returns_the_fenced_leases(namespace: str) -> None:
    async def scene(stage: Stage) -> None:
        await stage.another.register(QUEUE, {"send": 1}, {})
        lease = await put_and_take(stage.another, QUEUE, "a")
        stage.client.delete(stage.raw.prefix + "control")
        settled = [Settlement(lease, Action.DONE)]
        run = Script.run

        async def lose_the_second_answer(script: Script, *args: Any) -> Any:
            answer = await run(script, *args)
            lost.append(answer)
            if len(lost) == 2:
                raise BrokerUnavailable("the answer was lost")
            return answer

        await put(stage.broker, QUEUE, "b")
        lost: list[Any] = []
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(Script, "run", lose_the_second_answer)
            with pytest.raises(BrokerUnavailable):
                await stage.another.exchange(QUEUE, settled, 1)
            exchanged = await stage.another.exchange(QUEUE, settled, 1)
        assert (list(exchanged.fenced), ids(exchanged.leases)) == ([], ["b"])

    await play(scene, namespace)


def test_every_guard_has_a_unique_name_and_a_scenario() -> None:
    assert sorted(name for _, name, _ in GUARDS) == sorted(SCENARIOS)


def test_every_script_has_guards_or_is_listed_without() -> None:
    assert set(_SOURCES) - {script for script, _, _ in GUARDS} == UNGUARDED | UNGUARDED_PARTS


@pytest.mark.parametrize("script", sorted(name for name in _SOURCES if not is_part(name)))
def test_a_script_declares_exactly_the_keys_and_parts_that_it_uses(script: str) -> None:
    """Lua reports a missing key only when it is used, and a superfluous one never."""
    parts = {name: text for name, text in _SOURCES.items() if is_part(name) and name != "prelude"}
    text = _SOURCES[script]
    needed = [name for name in parts if needs(Script(script), name)]
    code = re.sub(r"--.*", "", "".join([*(parts[name] for name in needed), text]))
    keys = {
        key.replace(":", "")
        for each in vars(scripts).values()
        if isinstance(each, Script)
        for key in each.keys
    }
    used = keys.intersection(re.findall(r"(?<![\w.'])[a-z]+\d?\b(?!')", code))
    assert used == {key.replace(":", "") for key in Script(script).keys}
    for name, part in parts.items():
        functions = re.findall(r"^local (?:function )?(\w+)", part, re.MULTILINE)
        others = "".join(parts[other] for other in needed if other != name) + text
        is_used = any(re.search(rf"\b{function}\b", re.sub(r"--.*", "", others)) for function in functions)
        assert is_used == (name in needed), name

"""Every guard in a script is needed: without it, a script breaks a promise.

A guard is a line that ends in ``-- guard: name``. It is neutralised by its form:

- ``if A then``, ``elseif A then``, ``[local] x = A``: ``A`` becomes ``true``, in another mutant ``false``;
- a call with the range ``'-inf', A``: it ends at ``'+inf'``;
- a ZADD with the option ``'LT'``: the option is left out.

A mutant that cannot even pass a plain job through is no test of a guard, and there are others of each guard.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable, Iterator, Sequence
from importlib.resources import files
from typing import Any

import pytest

from aiospinach import RedisBroker
from aiospinach.brokers.records import Counts, Envelope, Fired, Firing, Lease, Parking, Requeue, Settlement
from aiospinach.brokers.redis import scripts
from aiospinach.brokers.redis.broker import EXPIRED_AT_ONCE
from aiospinach.brokers.redis.scripts import Script, Send
from aiospinach.exceptions import BrokerError, BrokerUnavailable
from aiospinach.job import JobStatus
from aiospinach.outcome import Action

from .. import asking
from ..brokers_under_test import shared_server
from ..waiting import until
from .conftest import bury, fire, ids, job, put, put_and_take, settle, swallow_wakes, take
from .raw_keys import RawKeys

QUEUE = "mail"
NOTHING = Counts(0, 0, 0, 0)
CALLS_AT_MOST = 100
"""A mutant may send its caller round and round."""
UNGUARDED = {"nudge", "wake_another", "sweep"}
"""Scripts that refuse nothing."""
UNGUARDED_PARTS = {"prelude", "chunks", "headers", "prune_dead", "parking", "dead_records"}
"""What stands before scripts that need it, and refuses nothing."""

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
    return re.search(rf"^-- needs .*\b{part}\b", _SOURCES[script.name], re.MULTILINE) is not None


def mutants(line: str) -> list[str]:
    """The line, neutralised in every way that its form allows."""
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
    """Two brokers on one queue of the server, and its keys."""

    def __init__(self, namespace: str) -> None:
        url = shared_server().unix_url
        self.broker = RedisBroker(url)
        self.another = RedisBroker(url)
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
        """Send a call again, byte for byte; what the server answers."""
        script, send, keys, arguments = self.calls[number]
        return await script.run(send, keys, arguments)

    def expire(self, lease: Lease) -> None:
        self.client.zadd(self.raw.prefix + "leases", {lease.id: 1})

    def looked(self, *, ago: float = 0, calm_for: float = 0) -> None:
        """Have somebody have looked so many ms ago, when nothing was to count as lost for so many."""
        then = self.broker.now() - ago
        self.client.set(self.raw.prefix + "looked", f"{then:.0f} {then + calm_for:.0f}")

    @property
    def answers(self) -> str:
        """The key of what the first broker's calls were answered."""
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
    """What a mutant must do to count: it loads, it runs, and a job passes."""
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


@scenario("repeated call")
async def a_repeated_call_stores_nothing(stage: Stage) -> None:
    await put(stage.broker, QUEUE, "a")
    assert await stage.broker.enqueue(QUEUE, [job("a"), job("b")]) == [False, True]
    call = len(stage.calls) - 1
    for lease in await take(stage.broker, QUEUE):
        assert await settle(stage.broker, QUEUE, lease, Action.DONE)
    before = stage.raw.read()
    assert (await stage.repeat(call))[1:] == [b"stored", [1]]
    assert stage.raw.read() == before, "I6"


@scenario("copy that comes late")
async def a_copy_that_comes_after_a_later_call_stores_nothing(stage: Stage) -> None:
    await put(stage.broker, QUEUE, "a")
    late = len(stage.calls) - 1
    (lease,) = await take(stage.broker, QUEUE)
    assert await settle(stage.broker, QUEUE, lease, Action.DONE)
    await put(stage.broker, QUEUE, "b")
    before = stage.raw.read()
    assert (await stage.repeat(late))[1:] == [b"late"]
    assert stage.raw.read() == before, "I6"


@scenario("life of a session")
async def a_session_lives_on_from_call_to_call(stage: Stage) -> None:
    await put(stage.broker, QUEUE, "a")
    assert 1_100_000 < stage.client.pttl(stage.answers) <= 1_200_000
    stage.client.pexpire(stage.answers, 900_000)
    await put(stage.broker, QUEUE, "b")
    assert stage.client.pttl(stage.answers) <= 900_000, "no command for what lives long enough"
    number, since = map(int, (stage.client.hget(stage.answers, "0") or "").split())
    stage.client.hset(stage.answers, "0", f"{number} {since - 300_000} ")
    await put(stage.broker, QUEUE, "c")
    assert 1_100_000 < stage.client.pttl(stage.answers) <= 1_200_000


@scenario("place of a cancelled job")
async def the_id_of_a_job_that_was_cancelled_in_line_is_free(stage: Stage) -> None:
    await put(stage.broker, QUEUE, "a", "b")
    assert (await asking.cancel(stage.broker, QUEUE, "a")).status is JobStatus.QUEUED
    assert await stage.broker.enqueue(QUEUE, [job("a")]) == [True]
    stage.raw.check()
    assert ids(await take(stage.broker, QUEUE)) == ["a", "b"]


@scenario("moved in line")
async def a_job_that_takes_a_place_in_line_over_is_not_early(stage: Stage) -> None:
    await put(stage.broker, QUEUE, "a", "b")
    assert (await asking.cancel(stage.broker, QUEUE, "a")).status is JobStatus.QUEUED
    await put(stage.broker, QUEUE, "a", at=stage.broker.now() + 60_000)
    assert ids(await take(stage.broker, QUEUE)) == ["b"]
    stage.raw.check()
    assert (await asking.counts(stage.broker, QUEUE)).waiting == 1


@scenario("place in line")
async def a_dead_job_takes_the_place_over_that_its_id_has_in_line(stage: Stage) -> None:
    lease = await put_and_take(stage.broker, QUEUE, "a")
    await settle(stage.broker, QUEUE, lease, Action.FAIL)
    await put(stage.broker, QUEUE, "a")
    assert (await asking.cancel(stage.broker, QUEUE, "a")).status is JobStatus.QUEUED
    assert await asking.requeue(stage.broker, QUEUE, "a")
    stage.raw.check()
    assert ids(await take(stage.broker, QUEUE)) == ["a"]


@scenario("many leases")
async def whether_a_job_runs_is_looked_up_in_pages(stage: Stage) -> None:
    await put(stage.broker, QUEUE, "runs")
    await take(stage.broker, QUEUE)
    await put(stage.broker, QUEUE, "queued")
    stage.client.zadd(stage.raw.prefix + "leases", {f"x{number}:y.1": 1e15 for number in range(3000)})
    assert (await asking.cancel(stage.broker, QUEUE, "runs")).status is JobStatus.RUNNING
    assert (await asking.cancel(stage.broker, QUEUE, "queued")).status is JobStatus.QUEUED
    scripts_called = [script.name for script, *_ in stage.calls]
    assert scripts_called.count("steer") == 3, "no script looks through so many"
    stage.client.zrem(stage.raw.prefix + "leases", *(f"x{number}:y.1" for number in range(3000)))


async def cancel_when_many_run(stage: Stage, then: Callable[[], Awaitable[object]]) -> JobStatus:
    """Cancel the job "a" among many that run; something happens between the two calls of that."""
    other_leases = {f"x{number}:y.1": 1e15 for number in range(1100)}
    stage.client.zadd(stage.raw.prefix + "leases", other_leases)
    run, calls = Script.run, 0

    async def play_between(script: Script, *args: Any) -> Any:
        nonlocal calls
        calls += script.name == "steer"
        if script.name == "steer" and calls == 2:
            stage.client.zrem(stage.raw.prefix + "leases", *other_leases)
            await then()
        return await run(script, *args)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Script, "run", play_between)
        return (await asking.cancel(stage.broker, QUEUE, "a")).status


@scenario("asked for in line")
async def a_job_that_is_being_cancelled_is_leased_by_nobody(stage: Stage) -> None:
    await put(stage.broker, QUEUE, "a", "b")

    async def somebody_takes() -> None:
        assert ids(await take(stage.another, QUEUE)) == ["b"]

    assert await cancel_when_many_run(stage, somebody_takes) is JobStatus.QUEUED
    assert await stage.broker.enqueue(QUEUE, [job("a")]) == [True]
    stage.raw.check()
    assert ids(await take(stage.broker, QUEUE)) == ["a"]


@scenario("met in line")
async def who_cancels_hears_that_the_job_was_met_in_line(stage: Stage) -> None:
    await a_job_that_is_being_cancelled_is_leased_by_nobody(stage)
    await put(stage.broker, QUEUE, "c")
    assert (await asking.cancel(stage.broker, QUEUE, "c")).status is JobStatus.QUEUED
    await put(stage.broker, QUEUE, "d", at=stage.broker.now() + 60_000)
    assert (await asking.cancel(stage.broker, QUEUE, "d")).status is JobStatus.WAITING


@scenario("ended meanwhile")
async def a_job_that_ends_while_it_is_looked_for_was_not_cancelled(stage: Stage) -> None:
    async def nothing() -> None:
        pass

    keys, send = stage.broker._queue(QUEUE).keys, stage.broker._calls.here().transport.producer_call
    await put(stage.broker, QUEUE, "a")
    (_, where, _) = await scripts.STEER.run(send, keys.of(scripts.STEER), ["cancel again", "a"])
    assert where == b"not_set"
    assert await cancel_when_many_run(stage, nothing) is JobStatus.QUEUED
    assert await take(stage.broker, QUEUE) == []


@scenario("duplicate")
async def what_lives_or_was_named_is_not_stored_again(stage: Stage) -> None:
    await put(stage.broker, QUEUE, "a")
    assert await stage.broker.enqueue(QUEUE, [job("a")]) == [False]


@scenario("later")
async def what_is_due_later_waits(stage: Stage) -> None:
    await put(stage.broker, QUEUE, "a", at=stage.broker.now() + 60_000)
    assert await take(stage.broker, QUEUE) == []


@scenario("lost registration")
async def nothing_is_leased_before_lost_limits_are_back(stage: Stage) -> None:
    await stage.broker.register(QUEUE, {"send": 1}, {})
    await put(stage.broker, QUEUE, "a", "b")
    stage.client.delete(stage.raw.prefix + "control")
    assert ids(await take(stage.broker, QUEUE)) == ["a"]


@scenario("closed gate")
async def a_gate_that_lets_nothing_through_is_closed(stage: Stage) -> None:
    await stage.broker.register(QUEUE, {"send": 1}, {})
    await put(stage.broker, QUEUE, "a", "b", "c")
    (lease,) = await take(stage.broker, QUEUE)
    exchanged = await stage.broker.exchange(QUEUE, [Settlement(lease, Action.DONE)], 5)
    assert ids(exchanged.leases) == ["b"]
    assert not exchanged.is_something_left
    assert not stage.client.exists(stage.raw.prefix + "open"), "or all of them are looked at again and again"
    exchanged = await stage.broker.exchange(QUEUE, [Settlement(exchanged.leases[0], Action.DONE)], 1)
    assert ids(exchanged.leases) == ["c"]
    await stage.broker.register(QUEUE, {"send": 3}, {})
    await put(stage.broker, QUEUE, *"defgh")
    await take(stage.broker, QUEUE)
    await stage.broker.register(QUEUE, {"send": 5}, {})
    assert len(await take(stage.broker, QUEUE, 1)) == 1
    assert len(await take(stage.broker, QUEUE, 1)) == 1, "it is open still"
    stage.raw.check()


async def register_while_many_run(stage: Stage, number: int = 1100) -> list[Lease]:
    """Have a task get its first limit while so many of its jobs run."""
    await put(stage.broker, QUEUE, "other", task="other")
    await put(stage.broker, QUEUE, *map(str, range(number)))
    leases = (await take(stage.broker, QUEUE, number + 1))[1:]
    await put(stage.broker, QUEUE, "next")
    await stage.broker.register(QUEUE, {"send": number}, {})
    return leases


@scenario("adopted lease")
async def each_that_runs_is_counted(stage: Stage) -> None:
    await stage.broker.register(QUEUE, {"few": 1}, {})
    assert counts_made(stage) == 0
    leases = await register_while_many_run(stage)
    assert counts_made(stage) > 1
    assert await take(stage.broker, QUEUE) == []
    exchanged = await stage.broker.exchange(QUEUE, [Settlement(leases[0], Action.DONE)], 5)
    assert ids(exchanged.leases) == ["next"]
    assert len(stage.raw.read()["slots"]) == len(leases)


@scenario("being counted")
async def nothing_is_leased_while_it_is_counted_what_runs(stage: Stage) -> None:
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
    """Have somebody have begun at this moment to count what runs."""
    control = stage.raw.prefix + "control"
    entry: Any = stage.client.hget(control, "send")
    words = entry.decode().split(" ")[:3]
    stage.client.hset(control, "send", " ".join([*words, f"+{moment:.0f}"]))


def counts_made(stage: Stage) -> int:
    return [script.name for script, *_ in stage.calls].count("adopt")


@scenario("counted by nobody")
async def a_count_that_nobody_ends_strands_no_job(stage: Stage) -> None:
    await stage.broker.register(QUEUE, {"send": 1}, {})
    await a_later_moment(stage)
    await stage.another.register(QUEUE, {"send": 3}, {})
    await stage.broker.register(QUEUE, {"send": 1}, {})
    assert counts_made(stage) == 0
    count_since(stage, stage.broker.now())
    await put(stage.broker, QUEUE, "a", "b")
    assert await take(stage.broker, QUEUE) == []
    assert [swept.is_something_to_run for swept in await stage.broker.sweep([QUEUE], "worker")] == [True]
    count_since(stage, stage.broker.now() - 61_000)
    assert ids(await take(stage.broker, QUEUE, 1)) == ["a"]
    count_since(stage, stage.broker.now())
    assert await take(stage.broker, QUEUE) == []
    await stage.broker.register(QUEUE, {"send": 1}, {})
    assert ids(await take(stage.broker, QUEUE)) == ["b"], "who registers an earlier limit ends it, too"


@scenario("forgotten limit")
async def a_limit_that_nobody_has_had_for_long_is_forgotten(stage: Stage) -> None:
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
    """Return in another millisecond of the store's clock."""
    now = stage.broker.now()
    await until(lambda: stage.broker.now() > now + 1)


@scenario("later limit")
async def who_registers_again_does_not_undo_what_came_later(stage: Stage) -> None:
    await stage.broker.register(QUEUE, {"send": 1}, {})
    await a_later_moment(stage)
    await stage.another.register(QUEUE, {"send": 2}, {})
    await stage.broker.register(QUEUE, {"send": 1}, {})
    await put(stage.broker, QUEUE, "a", "b", "c")
    assert ids(await take(stage.broker, QUEUE)) == ["a", "b"]


@scenario("sequence")
async def a_repeated_exchange_answers_the_same(stage: Stage) -> None:
    await put(stage.broker, QUEUE, "a", "b")
    await take(stage.broker, QUEUE, 1)
    before = stage.raw.read()
    _, fenced, cancelled, leased, epoch, left = await stage.repeat()
    assert (fenced, cancelled, leased[0], len(leased), epoch, left) == ([], [], b"a", 2, 0, 1)
    assert stage.raw.read() == before, "I6"


@scenario("repeated lease")
async def a_repeat_does_not_give_what_was_lost_meanwhile(stage: Stage) -> None:
    await put(stage.broker, QUEUE, "a", "b")
    lost, kept = await take(stage.broker, QUEUE)
    stage.expire(lost)
    assert ids((await stage.another.tick(QUEUE)).expired) == ["a"]
    _, _, _, leased, *_ = await stage.repeat(-2)
    assert [job_id.decode() for job_id in leased[::2]] == [kept.job.id]


@scenario("late call")
async def a_call_that_comes_after_its_successor_does_nothing(stage: Stage) -> None:
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
async def a_job_that_was_cancelled_as_it_ran_is_not_put_back(stage: Stage) -> None:
    await put(stage.broker, QUEUE, "wanted", "unwanted")
    leases = await take(stage.broker, QUEUE)
    await asking.cancel(stage.broker, QUEUE, "unwanted")
    exchanged = await stage.broker.exchange(QUEUE, [Settlement(each, Action.RELEASE) for each in leases], 2)
    (lease,) = exchanged.leases
    assert lease.job.id == "wanted"
    assert await settle(stage.broker, QUEUE, lease, Action.DONE)
    stage.raw.check_drained()


async def unreadable(stage: Stage) -> dict[str, bool]:
    """The dead jobs, and whether each one was put aside because it cannot be read."""
    dead = await asking.dead(stage.broker, QUEUE)
    return {each.job.id: b"unreadable" in each.detail for each in dead}


@scenario("unreadable settled job")
async def a_job_that_was_spoilt_as_it_ran_stops_no_worker(stage: Stage) -> None:
    for action in (Action.FAIL, Action.RETRY):
        lease = await put_and_take(stage.broker, QUEUE, action.value)
        stage.spoil(action.value)
        assert await settle(stage.broker, QUEUE, lease, action)
    lease = await put_and_take(stage.broker, QUEUE, "good")
    assert await settle(stage.broker, QUEUE, lease, Action.FAIL)
    assert await unreadable(stage) == {"fail": True, "retry": True, "good": False}


@scenario("successor")
async def a_successor_follows_what_ends_and_not_what_was_cancelled(stage: Stage) -> None:
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
async def a_cancelled_job_leaves_the_line_without_a_trace(stage: Stage) -> None:
    await put(stage.broker, QUEUE, "a", "b")
    assert (await asking.cancel(stage.broker, QUEUE, "a")).status is JobStatus.QUEUED
    stage.raw.check()
    (lease,) = await take(stage.broker, QUEUE)
    assert await settle(stage.broker, QUEUE, lease, Action.DONE)
    stage.raw.check_drained()
    assert await asking.dead(stage.broker, QUEUE) == []


@scenario("unreadable")
async def a_job_that_cannot_be_read_stops_no_other(stage: Stage) -> None:
    await put(stage.broker, QUEUE, "spoilt", "good")
    stage.spoil("spoilt")
    stage.client.lpush(stage.raw.prefix + "ready", "never stored")
    assert ids(await take(stage.broker, QUEUE)) == ["good"]
    assert await unreadable(stage) == {"spoilt": True, "never stored": True}
    assert await asking.counts(stage.broker, QUEUE) == Counts(ready=0, running=1, waiting=0, dead=2)


@scenario("limit")
async def a_limited_task_runs_so_often_and_blocks_no_other(stage: Stage) -> None:
    await stage.broker.register(QUEUE, {"send": 2}, {})
    await put(stage.broker, QUEUE, *"abcd")
    await put(stage.broker, QUEUE, "free", task="other")
    leases = await take(stage.broker, QUEUE)
    assert ids(leases) == ["a", "b", "free"]
    stage.raw.check()
    exchanged = await stage.broker.exchange(QUEUE, [Settlement(leases[0], Action.DONE)], 5)
    assert ids(exchanged.leases) == ["c"]


@scenario("newly limited")
async def what_runs_already_counts_towards_a_new_limit(stage: Stage) -> None:
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
async def an_earlier_due_is_kept(stage: Stage) -> None:
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
async def a_tick_is_skipped_while_the_one_before_lives(stage: Stage) -> None:
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
async def the_job_of_a_tick_that_lives_is_not_queued_again(stage: Stage) -> None:
    await stage.broker.register(QUEUE, {}, {"nightly": 1000})
    await put(stage.broker, QUEUE, "nightly@1000")
    assert await fire(stage.broker, QUEUE, "nightly", 1000, 2000, job("nightly@1000"))
    stage.raw.check()
    assert await fire(stage.broker, QUEUE, "nightly", 2000, 3000, job("nightly@2000"))
    assert (await asking.counts(stage.broker, QUEUE)).ready == 2


@scenario("skipped due")
async def a_tick_that_the_store_is_too_full_for_is_skipped_once(stage: Stage) -> None:
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
async def a_lease_that_is_gone_is_not_renewed(stage: Stage) -> None:
    await put(stage.broker, QUEUE, "a", "b")
    gone, kept = await take(stage.broker, QUEUE)
    assert await settle(stage.broker, QUEUE, gone, Action.DONE)
    assert list((await stage.broker.renew(QUEUE, [gone.id, kept.id])).lost) == [gone.id], "I5"


@scenario("not before it is due")
async def a_tick_queues_only_what_is_due(stage: Stage) -> None:
    await put(stage.broker, QUEUE, "a", at=stage.broker.now() + 60_000)
    await stage.broker.tick(QUEUE)
    assert await take(stage.broker, QUEUE) == [], "I7"
    assert (await asking.counts(stage.broker, QUEUE)).waiting == 1


@scenario("silence")
async def what_expired_while_nobody_looked_is_not_lost_yet(stage: Stage) -> None:
    stage.expire(await put_and_take(stage.broker, QUEUE, "a"))
    quarter = stage.broker.lease * 250
    stage.looked(ago=quarter + 1000)
    assert list((await stage.another.tick(QUEUE)).expired) == []
    stage.looked(ago=quarter - 1000)
    assert ids((await stage.another.tick(QUEUE)).expired) == ["a"]


@scenario("rescue pause")
async def nothing_is_lost_while_it_is_calm(stage: Stage) -> None:
    stage.expire(await put_and_take(stage.broker, QUEUE, "a"))
    stage.looked(calm_for=1000)
    assert list((await stage.another.tick(QUEUE)).expired) == []
    stage.looked(calm_for=0)
    assert ids((await stage.another.tick(QUEUE)).expired) == ["a"]


@scenario("end of the rescue pause")
async def silences_prolong_the_calm_and_do_not_begin_it_anew(stage: Stage) -> None:
    stage.expire(await put_and_take(stage.broker, QUEUE, "a"))
    quarter = stage.broker.lease * 250
    stage.looked(ago=quarter + 1000)
    assert list((await stage.another.tick(QUEUE)).expired) == []
    stage.looked(ago=quarter + 1000, calm_for=quarter)
    assert list((await stage.another.tick(QUEUE)).expired) == []
    stage.looked(ago=quarter + 1000, calm_for=quarter / 4)
    assert ids((await stage.another.tick(QUEUE)).expired) == ["a"]


@scenario("grace")
async def a_tick_takes_only_what_was_lost(stage: Stage) -> None:
    lease = await put_and_take(stage.broker, QUEUE, "a")
    assert list((await stage.another.tick(QUEUE)).expired) == []
    assert await settle(stage.broker, QUEUE, lease, Action.DONE)


@scenario("more lost jobs")
async def a_tick_that_leaves_lost_jobs_says_so(stage: Stage) -> None:
    await put(stage.broker, QUEUE, *map(str, range(EXPIRED_AT_ONCE + 1)))
    for lease in await take(stage.broker, QUEUE, EXPIRED_AT_ONCE + 1):
        stage.expire(lease)
    ticked = await stage.another.tick(QUEUE)
    assert (len(ticked.expired), ticked.next_due) == (EXPIRED_AT_ONCE, 0)
    ticked = await stage.another.tick(QUEUE)
    assert (len(ticked.expired), ticked.next_due) == (1, None)


@scenario("unreadable lost job")
async def a_lost_job_that_was_spoilt_stops_no_tick(stage: Stage) -> None:
    await stage.broker.register(QUEUE, {"send": 9}, {})
    await put(stage.broker, QUEUE, "spoilt", "good")
    for lease in await take(stage.broker, QUEUE):
        stage.expire(lease)
    stage.spoil("spoilt")
    (lease,) = (await stage.broker.tick(QUEUE)).expired
    assert (lease.job.id, lease.job.crashes) == ("good", 1)
    assert await unreadable(stage) == {"spoilt": True}


@scenario("crash of a worker")
async def a_job_that_its_judge_loses_has_not_crashed_again(stage: Stage) -> None:
    stage.expire(await put_and_take(stage.broker, QUEUE, "a"))
    for _ in range(3):
        (lease,) = (await stage.another.tick(QUEUE)).expired
        assert lease.job.crashes == 1
        stage.expire(lease)


@scenario("id of a lost job")
async def a_lost_job_whose_id_cannot_be_read_stops_no_tick(stage: Stage) -> None:
    stage.expire(await put_and_take(stage.broker, QUEUE, "good"))
    stage.client.hset(stage.raw.prefix + "jobs", b"\xff", b"2 send 0 0 -\n0 0 0 0 - - - -\n")
    stage.client.zadd(stage.raw.prefix + "leases", {b"\xff:nobody.1": 1})
    assert ids((await stage.another.tick(QUEUE)).expired) == ["good"]
    assert await unreadable(stage) == {"\\xff": True}
    stage.client.delete(stage.raw.prefix + "jobs")
    stage.client.delete(stage.raw.prefix + "leases")


@scenario("a lease without a job")
async def a_lease_that_is_none_stops_no_tick(stage: Stage) -> None:
    await put(stage.broker, QUEUE, "spoilt", "good")
    for lease in await take(stage.broker, QUEUE):
        stage.expire(lease)
    stage.spoil("spoilt")
    stage.client.zadd(stage.raw.prefix + "leases", {"no colon": 1})
    assert ids((await stage.another.tick(QUEUE)).expired) == ["good"]
    assert await unreadable(stage) == {"spoilt": True}


@scenario("slot of a lost job")
async def a_slot_goes_with_its_lease(stage: Stage) -> None:
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
async def a_tick_tells_of_what_is_due(stage: Stage) -> None:
    due = stage.broker.now() + 60_000
    await stage.broker.register(QUEUE, {}, {"nightly": due, "hourly": 1})
    stage.client.zadd(stage.raw.prefix + "periodic", {"hourly": due - 120_000})
    assert list((await stage.broker.tick(QUEUE)).periodic) == [("hourly", due - 120_000)]


@scenario("known for long")
async def a_tick_forgets_what_nobody_knew_for_a_week(stage: Stage) -> None:
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
    assert stage.raw.places()["parked"] == ["a", "b"]
    assert await unreadable(stage) == {"spoilt": True}
    stage.client.delete(stage.raw.prefix + "jobs", stage.raw.prefix + "lanes")


@scenario("unknown task")
async def jobs_of_an_unknown_task_are_not_leased(stage: Stage) -> None:
    await put(stage.broker, QUEUE, "a")
    parking = Parking(unknown=["send"])
    assert list((await stage.broker.exchange(QUEUE, [], 1, parking)).leases) == []


@scenario("since when it is parked")
async def a_job_is_parked_from_the_first_time_on(stage: Stage) -> None:
    await put(stage.broker, QUEUE, "a")
    since = None
    for _ in range(3):
        await stage.broker.exchange(QUEUE, [], 1, Parking(unknown=["send"]))
        [swept] = await stage.broker.sweep([QUEUE], "worker")
        assert since is None or swept.parked == since
        since = swept.parked
        await asyncio.sleep(0.002)
        [lease] = (await stage.broker.exchange(QUEUE, [], 1, Parking(wanted=["send"]))).leases
        assert await settle(stage.broker, QUEUE, lease, Action.PARK)


@scenario("parked job")
async def a_parked_job_that_was_cancelled_leaves_nothing(stage: Stage) -> None:
    await put(stage.broker, QUEUE, "a")
    await stage.broker.exchange(QUEUE, [], 1, Parking(unknown=["send"]))
    assert (await asking.cancel(stage.broker, QUEUE, "a")).status is JobStatus.WAITING
    stage.raw.check()


@scenario("unreadable record")
async def a_record_that_cannot_be_read_hides_no_other(stage: Stage) -> None:
    await bury(stage.broker, QUEUE, "good", "spoilt")
    stage.client.hset(stage.raw.prefix + "deadjobs", "spoilt", b"garbage")
    assert [dead.job.id for dead in await asking.dead(stage.broker, QUEUE, limit=1)] == ["good"]


@scenario("unreadable dead job")
async def a_dead_job_that_cannot_be_read_is_not_queued_again(stage: Stage) -> None:
    await bury(stage.broker, QUEUE, "good", "spoilt")
    stage.client.hset(stage.raw.prefix + "deadjobs", "spoilt", b"garbage")
    assert not await asking.requeue(stage.broker, QUEUE, "spoilt")
    assert await asking.requeue(stage.broker, QUEUE, "good")
    assert await asking.discard(stage.broker, QUEUE, "spoilt")


async def find_strays(stage: Stage) -> dict[str, list[str]]:
    """Have those found that lie nowhere; where all jobs lie then."""
    await stage.broker._find_orphans(stage.broker._queue(QUEUE))
    stage.raw.check()
    return {place: sorted(ids) for place, ids in stage.raw.places().items() if ids}


def lose(stage: Stage, *names: str) -> None:
    for name in names:
        stage.client.delete(stage.raw.prefix + name)


@scenario("lies nowhere")
async def what_lies_somewhere_is_no_stray(stage: Stage) -> None:
    await put_and_take(stage.broker, QUEUE, "runs")
    await put(stage.broker, QUEUE, "later", at=stage.broker.now() + 60_000)
    await put(stage.broker, QUEUE, "lost", "ready")
    stage.client.lrem(stage.raw.prefix + "ready", 1, "lost")
    found = await find_strays(stage)
    assert found == {"queued": ["ready"], "leased": ["lost", "runs"], "waiting": ["later"]}


@scenario("orphan due later")
@scenario("parked orphan")
async def a_stray_goes_where_it_was_if_that_can_be_told(stage: Stage) -> None:
    lease = await put_and_take(stage.broker, QUEUE, "parked", task="strange")
    await stage.broker.exchange(QUEUE, [Settlement(lease, Action.PARK)], 0)
    await put(stage.broker, QUEUE, "later", at=stage.broker.now() + 60_000)
    await put(stage.broker, QUEUE, "now")
    lose(stage, "lanes", "future", "ready")
    assert await find_strays(stage) == {"leased": ["now"], "waiting": ["later"], "parked": ["parked"]}


@scenario("unreadable orphan")
async def a_stray_that_cannot_be_read_is_dead(stage: Stage) -> None:
    await put(stage.broker, QUEUE, "good", "spoilt")
    stage.spoil("spoilt")
    lose(stage, "ready")
    assert await find_strays(stage) == {"leased": ["good"]}
    assert [dead.job.id for dead in await asking.dead(stage.broker, QUEUE)] == ["spoilt"]


@scenario("slot of an orphan")
async def a_stray_takes_a_slot_if_its_task_has_a_limit(stage: Stage) -> None:
    await stage.broker.register(QUEUE, {"send": 1}, {})
    await put_and_take(stage.broker, QUEUE, "limited")
    await put_and_take(stage.broker, QUEUE, "free", task="other")
    await put(stage.broker, QUEUE, "next")
    lose(stage, "leases")
    assert await find_strays(stage) == {"leased": ["free", "limited"], "queued": ["next"]}
    assert await take(stage.broker, QUEUE) == []


@scenario("slot of a lease")
async def a_slot_without_a_lease_is_freed_and_no_other(stage: Stage) -> None:
    await stage.broker.register(QUEUE, {"send": 2}, {})
    await put(stage.broker, QUEUE, "gone", "runs")
    gone, _ = await take(stage.broker, QUEUE)
    await put(stage.broker, QUEUE, "next", "last")
    assert await take(stage.broker, QUEUE) == []
    stage.client.zrem(stage.raw.prefix + "leases", gone.id)
    stage.client.hdel(stage.raw.prefix + "jobs", "gone")
    await find_strays(stage)
    assert ids(await take(stage.broker, QUEUE)) == ["next"]


@scenario("room behind a gate")
async def a_gate_that_was_lost_is_opened_if_there_is_room(stage: Stage) -> None:
    await stage.broker.register(QUEUE, {"send": 1}, {})
    lease = await put_and_take(stage.broker, QUEUE, "runs")
    await put(stage.broker, QUEUE, "held")
    assert await take(stage.broker, QUEUE) == []
    await find_strays(stage)
    assert not stage.client.exists(stage.raw.prefix + "open")
    await settle(stage.broker, QUEUE, lease, Action.DONE)
    lose(stage, "open")
    await find_strays(stage)
    assert ids(await take(stage.broker, QUEUE)) == ["held"]


@scenario("bare dead job")
async def a_dead_job_without_its_arguments_is_not_queued_again(stage: Stage) -> None:
    lease = await put_and_take(stage.broker, QUEUE, "a", body=b"[[1],{}]")
    await stage.broker.exchange(QUEUE, [Settlement(lease, Action.FAIL, is_bare=True)], 0)
    assert (await stage.broker.steer(QUEUE, Requeue("a"))).is_bare
    await bury(stage.broker, QUEUE, "b")
    assert await asking.requeue(stage.broker, QUEUE, "b")


@scenario("live again")
async def a_dead_job_whose_id_lives_stays_dead(stage: Stage) -> None:
    for name in ("a", "b"):
        lease = await put_and_take(stage.broker, QUEUE, name)
        assert await settle(stage.broker, QUEUE, lease, Action.FAIL)
    await put(stage.broker, QUEUE, "a")
    assert not await asking.requeue(stage.broker, QUEUE, "a")
    assert await asking.requeue(stage.broker, QUEUE, "b")


@scenario("cancelled")
async def what_does_not_live_cannot_be_cancelled(stage: Stage) -> None:
    assert (await asking.cancel(stage.broker, QUEUE, "a")).status is JobStatus.NOT_SET
    await put(stage.broker, QUEUE, "a")
    for expected in (JobStatus.QUEUED, JobStatus.NOT_SET):
        assert (await asking.cancel(stage.broker, QUEUE, "a")).status is expected


@scenario("whole id")
async def a_lease_of_an_id_that_begins_alike_is_another(stage: Stage) -> None:
    await put_and_take(stage.broker, QUEUE, "a:b")
    await put(stage.broker, QUEUE, "a")
    assert (await asking.cancel(stage.broker, QUEUE, "a")).status is JobStatus.QUEUED
    assert (await asking.cancel(stage.broker, QUEUE, "a:b")).status is JobStatus.RUNNING


async def play(scene: Scenario, namespace: str) -> None:
    """Have the scene played on keys of its own; a call that is refused breaks a promise, too."""
    stage = Stage(namespace)
    run = Script.run

    async def recorded(script: Script, send: Send, keys: Sequence[str], arguments: Sequence[Any]) -> Any:
        stage.calls.append((script, send, keys, arguments))
        assert len(stage.calls) < CALLS_AT_MOST
        return await run(script, send, keys, arguments)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Script, "run", recorded)
        try:
            await stage.open(namespace)
            await scene(stage)
            stage.raw.check()
            await swallow_wakes(stage.broker, QUEUE)
        except (BrokerError, ValueError) as error:  # a ValueError: other leases than expected
            raise AssertionError("a call is refused, or answers something else") from error
        finally:
            await stage.aclose()


async def passes(scene: Scenario, namespace: str) -> bool:
    try:
        await play(scene, namespace)
    except AssertionError:
        return False
    return True


@pytest.fixture
def names(namespace: str) -> Iterator[str]:
    """As many namespaces as are asked for."""
    return (f"{namespace}-{number}" for number in range(100))


async def test_a_plain_job_passes(namespace: str) -> None:
    await play(a_plain_job, namespace)


@pytest.mark.parametrize("guard", SCENARIOS)
async def test_with_its_guard_a_script_keeps_the_promise(namespace: str, guard: str) -> None:
    await play(SCENARIOS[guard], namespace)


@pytest.mark.parametrize(("script", "guard", "line"), GUARDS, ids=[f"{s}: {name}" for s, name, _ in GUARDS])
async def test_without_its_guard_a_script_breaks_the_promise(
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
            assert not await passes(SCENARIOS[guard], next(names)), f"nobody notices {mutant.strip()!r}"
    assert tested, "no mutant runs"


async def test_a_repeat_after_lost_limits_still_tells_who_was_fenced(namespace: str) -> None:
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


def test_every_guard_has_a_scenario_and_a_name_of_its_own() -> None:
    assert sorted(name for _, name, _ in GUARDS) == sorted(SCENARIOS)


def test_every_script_that_can_refuse_something_has_guards() -> None:
    assert set(_SOURCES) - {script for script, _, _ in GUARDS} == UNGUARDED | UNGUARDED_PARTS


@pytest.mark.parametrize("script", sorted(name for name in _SOURCES if not is_part(name)))
def test_a_script_names_the_keys_and_the_parts_that_it_uses_and_no_other(script: str) -> None:
    """Lua would tell of a key that is missing when it is used, and of one too many never."""
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

"""A call is known again as long as somebody may repeat it, whatever was lost meanwhile. That takes room for
each session, and not for each call."""

from __future__ import annotations

import asyncio
import math
import random
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable
from functools import partial
from typing import Any

import pytest
import redis

from aiospinach import BrokerError, EnqueueUncertain, RedisBroker
from aiospinach.brokers.records import Envelope, Settlement
from aiospinach.brokers.redis import batching as trips
from aiospinach.brokers.redis import call_numbers, scripts
from aiospinach.brokers.redis.batching import EnqueueBatcher, RoundTrip
from aiospinach.brokers.redis.call_numbers import KEPT_FOR, CallNumber, CallNumbers
from aiospinach.brokers.redis.errors import Unanswered
from aiospinach.outcome import Action

from ..brokers_under_test import shared_server
from .conftest import Counts, key, keys_of, live

ANSWERED, LOST, HELD = "answered", "its answer is lost", "held up on the way"


class Road:
    """The way to the server: it loses answers, and holds calls up that come late."""

    def __init__(self, broker: RedisBroker) -> None:
        link = broker._calls.here().transport
        self._produce = link.producer_call
        link.producer_call = self._travel  # type: ignore[method-assign]
        self.sent: list[tuple[Any, ...]] = []
        """Every copy of a call that stores jobs, byte for byte."""
        self.fate: Callable[[], str] = lambda: ANSWERED

    async def _travel(self, *command: Any, until: float = math.inf) -> Any:
        if scripts.ENQUEUE.sha not in command:
            return await self._produce(*command, until=until)
        self.sent.append(command)
        fate = self.fate()
        if fate == HELD:
            raise Unanswered(fate)
        answer = await self._produce(*command)
        if fate == LOST:
            raise Unanswered(fate)
        return answer

    async def come_late(self, number: int) -> Any:
        """Have a copy arrive (again); what the server answers, if anybody heard it."""
        return (await self._produce(*self.sent[number]))[1:]


class Stage:
    """A broker that gives up after its first try, and the way to its server."""

    def __init__(self, broker: RedisBroker, client: redis.Redis, namespace: str) -> None:
        self.broker = broker
        self.road = Road(broker)
        self.ran: Counter[str] = Counter()
        self._client = client
        self._namespace = namespace

    async def store(self, *names: str) -> list[bool]:
        return await self.broker.enqueue("default", [Envelope(name, "job", b"[[],{}]") for name in names])

    async def fail_to_store(self, fate: str, *names: str) -> EnqueueUncertain:
        self.road.fate = lambda: fate
        with pytest.raises(EnqueueUncertain) as caught:
            await self.store(*names)
        self.road.fate = lambda: ANSWERED
        return caught.value

    async def run(self) -> None:
        """Have all that is stored run, and end."""
        done: list[Settlement] = []
        while done or live(self._client, self._namespace):
            leases = (await self.broker.exchange("default", done, 100)).leases
            self.ran.update(lease.job.id for lease in leases)
            done = [Settlement(lease, Action.DONE) for lease in leases]

    @property
    def answers(self) -> str:
        return key(self._namespace, f"answers:{self.broker._calls.producer_session.session}")

    @property
    def fields(self) -> int:
        count: int = self._client.hlen(self.answers)
        return count


@pytest.fixture
async def stage(namespace: str, plain: redis.Redis, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Stage]:
    monkeypatch.setattr(trips, "TIMER_DELAY", 60.0)  # a machine may be busy for longer than a try lasts
    plain.script_load(scripts.ENQUEUE.source)
    broker = RedisBroker(shared_server().unix_url, enqueue_timeout=0.01)
    await broker.open(namespace)
    stage = Stage(broker, plain, namespace)
    yield stage
    stage.road.fate = lambda: ANSWERED
    await broker.flush("default")
    await broker.aclose()


@pytest.mark.parametrize("others", [0, 1, 5])
async def test_the_first_copy_of_a_call_comes_after_its_repeat_was_answered(
    stage: Stage, others: int
) -> None:
    error = await stage.fail_to_store(HELD, "job")
    assert await error.retry() == [True]
    for number in range(others):
        assert await stage.store(f"other-{number}") == [True]
    await stage.run()
    assert await stage.road.come_late(0) == ([b"late"] if others else [b"stored", []])
    await stage.run()
    assert stage.ran["job"] == 1
    assert stage.fields == 1


async def test_a_copy_of_a_call_that_nobody_repeats_is_stored_when_it_comes(stage: Stage) -> None:
    """Its caller was told that the call is uncertain."""
    await stage.fail_to_store(HELD, "job")
    for number in range(5):
        assert await stage.store(f"other-{number}") == [True]
    assert await stage.road.come_late(0) == [b"stored", []]
    await stage.run()
    assert await stage.road.come_late(0) == [b"stored", []]
    await stage.run()
    assert stage.ran["job"] == 1


@pytest.mark.parametrize("seed", range(8))
async def test_each_job_is_stored_once_whatever_is_lost_or_comes_late(stage: Stage, seed: int) -> None:
    chance = random.Random(seed)
    road = stage.road
    uncertain: list[EnqueueUncertain] = []
    stored: set[str] = set()
    retries: dict[EnqueueUncertain, str] = {}
    most = 0

    async def ask(name: str, call: Callable[[], Any]) -> None:
        try:
            answer = await call()
        except EnqueueUncertain as error:
            uncertain.append(error)
            retries[error] = name
        else:
            assert answer == [True]
            stored.add(name)

    road.fate = lambda: chance.choice([ANSWERED, ANSWERED, LOST, HELD])
    for number in range(60):
        names = [f"job-{number}-{place}" for place in range(chance.randint(1, 4))]
        await asyncio.gather(*(ask(name, partial(stage.store, name)) for name in names))
        some = [uncertain.pop(chance.randrange(len(uncertain))) for _ in range(min(2, len(uncertain)))]
        await asyncio.gather(*(ask(retries.pop(error), error.retry) for error in some))
        for _ in range(chance.randint(0, 3)):
            await road.come_late(chance.randrange(len(road.sent)))
        most = max(most, len(retries))
        if chance.random() < 0.5:
            await stage.run()
    road.fate = lambda: ANSWERED
    for error in uncertain:
        await ask(retries.pop(error), error.retry)
    await stage.run()
    for copy in range(len(road.sent)):
        await road.come_late(copy)
        await stage.run()
    assert stage.ran == Counter(dict.fromkeys(stored, 1))
    assert stage.fields <= most + 6, "one for each call without an answer, and those of one round"


async def test_a_repeat_is_known_for_ten_minutes_however_many_calls_were_answered(
    stage: Stage, plain: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    errors = [await stage.fail_to_store(LOST, f"job-{number}") for number in range(3)]
    await stage.run()
    passed = 0.0
    monkeypatch.setattr(
        call_numbers, "time", type("Clock", (), {"monotonic": lambda: time.monotonic() + passed})
    )
    for number in range(30):
        assert await stage.store(f"other-{number}") == [True]
    assert stage.fields == 3 + 1
    passed = 600
    plain.pexpire(stage.answers, plain.pttl(stage.answers) - 600_000)  # as if nobody had called since
    assert await errors[0].retry() == [True]
    assert await stage.store("last") == [True]
    assert await errors[1].retry() == [True]
    await stage.run()
    assert set(stage.ran.values()) == {1}
    assert stage.fields == 3 + 1


async def test_a_retry_after_the_call_was_forgotten_is_a_new_call(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    error = await stage.fail_to_store(HELD, "job")
    passed = KEPT_FOR
    monkeypatch.setattr(
        call_numbers, "time", type("Clock", (), {"monotonic": lambda: time.monotonic() + passed})
    )
    for number in range(3):
        assert await stage.store(f"other-{number}") == [True]
    assert stage.fields == 1
    assert await stage.road.come_late(0) == [b"late"]
    assert await error.retry() == [True]
    await stage.run()
    assert stage.ran["job"] == 1


async def test_who_asks_again_hears_the_same_and_nobody_is_asked(stage: Stage) -> None:
    error = await stage.fail_to_store(LOST, "job")
    assert await error.retry() == [True]
    await stage.run()
    copies = len(stage.road.sent)
    assert await error.retry() == [True]
    await stage.run()
    assert stage.ran == {"job": 1}
    assert len(stage.road.sent) == copies


async def test_a_field_that_others_have_written_to_is_left(stage: Stage, plain: redis.Redis) -> None:
    plain.hset(stage.answers, "0", "9" * 20 + " 0 ")
    stage.broker.enqueue_timeout = 5
    assert await stage.store("job") == [True]
    assert await stage.store("other") == [True]
    assert sorted(plain.hkeys(stage.answers)) == [b"0", b"1"]
    assert live(plain, stage._namespace) == 2


async def test_a_call_that_was_refused_keeps_no_field() -> None:
    fields: list[int] = []

    async def refuse(trip: RoundTrip) -> list[Any]:
        fields.append(trip.call_number.field)
        raise BrokerError("the store is full")

    shared = EnqueueBatcher("mail", refuse, CallNumbers(), within=5)
    for _ in range(10):
        with pytest.raises(BrokerError, match="full"):
            await shared.store([Envelope("job", "send", b"")], None, until=time.monotonic() + 5)
    assert set(fields) == {0}
    await shared.aclose()


def test_a_field_has_one_owner_and_a_number_is_given_once(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0
    monkeypatch.setattr(call_numbers, "time", type("Clock", (), {"monotonic": lambda: now}))
    given = CallNumbers()
    slow, quick = CallNumber(), CallNumber()
    given.assign(slow)
    given.assign(quick)
    assert (slow.field, quick.field) == (0, 1)
    given.release(quick)
    given.release(quick)
    later = [CallNumber() for _ in range(2)]
    for number in later:
        given.assign(number)
    assert [number.field for number in later] == [1, 2]
    now = KEPT_FOR - 1
    given.assign(slow)
    assert (slow.field, slow.value) == (0, 1), "a repeat is the same"
    now = KEPT_FOR + 1
    last = CallNumber()
    given.assign(last)
    assert last.field in (1, 2), "those that were not repeated for long are forgotten"
    numbers = [number.value for number in (slow, quick, *later, last)]
    assert numbers == sorted(set(numbers))


# What is left.


async def test_ten_thousand_jobs_one_by_one_leave_one_field(stage: Stage, plain: redis.Redis) -> None:
    stage.broker.enqueue_timeout = 10
    for number in range(10_000):
        assert await stage.store(f"job-{number}") == [True]
    assert stage.fields == 1
    assert (plain.memory_usage(stage.answers) or 0) < 400
    await stage.run()
    left = keys_of(plain, stage._namespace) - {"wake"}
    assert left == {
        f"answers:{stage.broker._calls.producer_session.session}",
        f"sess:{stage.broker._calls.here().session}",
    }


async def test_concurrent_callers_leave_one_field(stage: Stage) -> None:
    stage.broker.enqueue_timeout = 10
    for round_ in range(20):
        await asyncio.gather(*(stage.store(f"job-{round_}-{number}") for number in range(100)))
    assert stage.fields == 1


async def test_only_an_id_that_a_user_gave_is_remembered_as_used(
    stage: Stage, namespace: str, plain: redis.Redis
) -> None:
    names = {"job-1": False, "order-17": True, "job-2": False, "order-18": True}
    jobs = [Envelope(name, "job", b"", named=named) for name, named in names.items()]
    assert await stage.broker.enqueue("default", jobs) == [True] * 4
    [dedup] = [name for name in keys_of(plain, namespace) if name.startswith("dedup:")]
    assert plain.smembers(key(namespace, dedup)) == {b"order-17", b"order-18"}


@pytest.mark.parametrize(("named", "commands"), [(False, 9), (True, 13)])
async def test_a_call_is_few_commands(namespace: str, own_server: Any, named: bool, commands: int) -> None:
    """EVALSHA, TIME, HGET, HMGET, EXISTS, RPUSH, two HSET, LLEN; for an id of a user four more."""
    broker = RedisBroker(own_server.unix_url)
    await broker.open(namespace)
    await broker.enqueue("default", [Envelope("first", "job", b"")])
    with own_server.client() as client:
        counts = Counts(client)
        for number in range(10):
            await broker.enqueue("default", [Envelope(f"job-{number}", "job", b"", named=named)])
        seen = counts.by_name()
    assert sum(seen.values()) == 10 * commands, seen
    await broker.aclose()


async def test_a_call_with_a_token_is_known_again_after_its_answer_was_lost(stage: Stage) -> None:
    jobs = [Envelope("a", "job", b"")]
    stage.road.fate = lambda: LOST
    with pytest.raises(EnqueueUncertain):
        await stage.broker.enqueue("default", jobs, token="mine")
    stage.road.fate = lambda: ANSWERED
    await stage.run()
    copies = len(stage.road.sent)
    for _ in range(3):
        assert await stage.broker.enqueue("default", jobs, token="mine") == [True]
    assert len(stage.road.sent) == copies + 1, "the answer is known then"
    await stage.run()
    assert stage.ran == {"a": 1}
    assert stage.fields == 1

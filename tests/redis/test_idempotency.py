"""A repeated enqueue is recognized as long as its caller may repeat it, also after lost and late calls.

The store keeps data per session, and not per call.
"""

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
from aiospinach.brokers.redis import batching, call_numbers, scripts
from aiospinach.brokers.redis.batching import EnqueueBatcher, RoundTrip
from aiospinach.brokers.redis.call_numbers import KEPT_FOR, CallNumber, CallNumbers
from aiospinach.brokers.redis.errors import Unanswered
from aiospinach.outcome import Action

from ..brokers_under_test import shared_server
from .conftest import Counts, key, keys_of, live

ANSWERED, LOST, HELD = "answered", "its answer is lost", "the call is delayed"


class UnreliableTransport:
    """Wraps the transport of a broker: loses answers, and delays calls."""

    def __init__(self, broker: RedisBroker) -> None:
        transport = broker._calls.here().transport
        self._produce = transport.producer_call
        transport.producer_call = self._call  # type: ignore[method-assign]
        self.sent: list[tuple[Any, ...]] = []
        """Every copy of an enqueue, byte for byte."""
        self.fate: Callable[[], str] = lambda: ANSWERED

    async def _call(self, *command: Any, until: float = math.inf) -> Any:
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

    async def deliver_late(self, number: int) -> Any:
        """Deliver a copy (again), and return the server's answer."""
        return (await self._produce(*self.sent[number]))[1:]


class Stage:
    """A broker that does not repeat calls, and its unreliable transport."""

    def __init__(self, broker: RedisBroker, client: redis.Redis, namespace: str) -> None:
        self.broker = broker
        self.transport = UnreliableTransport(broker)
        self.ran: Counter[str] = Counter()
        self._client = client
        self._namespace = namespace

    async def store(self, *names: str) -> list[bool]:
        return await self.broker.enqueue("default", [Envelope(name, "job", b"[[],{}]") for name in names])

    async def fail_to_store(self, fate: str, *names: str) -> EnqueueUncertain:
        self.transport.fate = lambda: fate
        with pytest.raises(EnqueueUncertain) as caught:
            await self.store(*names)
        self.transport.fate = lambda: ANSWERED
        return caught.value

    async def run(self) -> None:
        """Run all stored jobs."""
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
    monkeypatch.setattr(batching, "TIMER_DELAY", 60.0)  # a busy machine may take longer than a try
    plain.script_load(scripts.ENQUEUE.source)
    broker = RedisBroker(shared_server().unix_url, enqueue_timeout=0.01)
    await broker.open(namespace)
    stage = Stage(broker, plain, namespace)
    yield stage
    stage.transport.fate = lambda: ANSWERED
    await broker.flush("default")
    await broker.aclose()


@pytest.mark.parametrize("others", [0, 1, 5])
async def test_a_first_call_that_arrives_after_its_repeat_stores_no_job(stage: Stage, others: int) -> None:
    error = await stage.fail_to_store(HELD, "job")
    assert await error.retry() == [True]
    for number in range(others):
        assert await stage.store(f"other-{number}") == [True]
    await stage.run()
    assert await stage.transport.deliver_late(0) == ([b"late"] if others else [b"stored", []])
    await stage.run()
    assert stage.ran["job"] == 1
    assert stage.fields == 1


async def test_a_late_call_that_is_not_repeated_stores_its_job(stage: Stage) -> None:
    """Its caller got the error that the call is uncertain."""
    await stage.fail_to_store(HELD, "job")
    for number in range(5):
        assert await stage.store(f"other-{number}") == [True]
    assert await stage.transport.deliver_late(0) == [b"stored", []]
    await stage.run()
    assert await stage.transport.deliver_late(0) == [b"stored", []]
    await stage.run()
    assert stage.ran["job"] == 1


@pytest.mark.parametrize("seed", range(8))
async def test_each_job_is_stored_once_with_lost_answers_and_late_calls(stage: Stage, seed: int) -> None:
    chance = random.Random(seed)
    transport = stage.transport
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

    transport.fate = lambda: chance.choice([ANSWERED, ANSWERED, LOST, HELD])
    for number in range(60):
        names = [f"job-{number}-{index}" for index in range(chance.randint(1, 4))]
        await asyncio.gather(*(ask(name, partial(stage.store, name)) for name in names))
        some = [uncertain.pop(chance.randrange(len(uncertain))) for _ in range(min(2, len(uncertain)))]
        await asyncio.gather(*(ask(retries.pop(error), error.retry) for error in some))
        for _ in range(chance.randint(0, 3)):
            await transport.deliver_late(chance.randrange(len(transport.sent)))
        most = max(most, len(retries))
        if chance.random() < 0.5:
            await stage.run()
    transport.fate = lambda: ANSWERED
    for error in uncertain:
        await ask(retries.pop(error), error.retry)
    await stage.run()
    for copy in range(len(transport.sent)):
        await transport.deliver_late(copy)
        await stage.run()
    assert stage.ran == Counter(dict.fromkeys(stored, 1))
    assert stage.fields <= most + 6, "one per unanswered call, and those of one round"


async def test_a_repeated_call_is_recognized_for_ten_minutes(
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
    plain.pexpire(stage.answers, plain.pttl(stage.answers) - 600_000)  # as if there had been no call since
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
    assert await stage.transport.deliver_late(0) == [b"late"]
    assert await error.retry() == [True]
    await stage.run()
    assert stage.ran["job"] == 1


async def test_a_repeated_call_returns_the_same_answer_without_a_call(stage: Stage) -> None:
    error = await stage.fail_to_store(LOST, "job")
    assert await error.retry() == [True]
    await stage.run()
    copies = len(stage.transport.sent)
    assert await error.retry() == [True]
    await stage.run()
    assert stage.ran == {"job": 1}
    assert len(stage.transport.sent) == copies


async def test_a_field_written_by_others_is_not_used(stage: Stage, plain: redis.Redis) -> None:
    plain.hset(stage.answers, "0", "9" * 20 + " 0 ")
    stage.broker.enqueue_timeout = 5
    assert await stage.store("job") == [True]
    assert await stage.store("other") == [True]
    assert sorted(plain.hkeys(stage.answers)) == [b"0", b"1"]
    assert live(plain, stage._namespace) == 2


async def test_a_refused_call_keeps_no_field() -> None:
    fields: list[int] = []

    async def refuse(round_trip: RoundTrip) -> list[Any]:
        fields.append(round_trip.call_number.field)
        raise BrokerError("the store is full")

    shared = EnqueueBatcher("mail", refuse, CallNumbers(), within=5)
    for _ in range(10):
        with pytest.raises(BrokerError, match="full"):
            await shared.store([Envelope("job", "send", b"")], None, until=time.monotonic() + 5)
    assert set(fields) == {0}
    await shared.aclose()


def test_a_field_has_one_owner_and_numbers_are_unique(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0
    monkeypatch.setattr(call_numbers, "time", type("Clock", (), {"monotonic": lambda: now}))
    numbers_given = CallNumbers()
    slow, quick = CallNumber(), CallNumber()
    numbers_given.assign(slow)
    numbers_given.assign(quick)
    assert (slow.field, quick.field) == (0, 1)
    numbers_given.release(quick)
    numbers_given.release(quick)
    later = [CallNumber() for _ in range(2)]
    for number in later:
        numbers_given.assign(number)
    assert [number.field for number in later] == [1, 2]
    now = KEPT_FOR - 1
    numbers_given.assign(slow)
    assert (slow.field, slow.value) == (0, 1), "a repeated call keeps its field and number"
    now = KEPT_FOR + 1
    last = CallNumber()
    numbers_given.assign(last)
    assert last.field in (1, 2), "fields of calls not repeated for long are reused"
    numbers = [number.value for number in (slow, quick, *later, last)]
    assert numbers == sorted(set(numbers))


# Data that is kept.


async def test_ten_thousand_consecutive_calls_leave_one_field(stage: Stage, plain: redis.Redis) -> None:
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


async def test_only_ids_given_by_users_are_remembered(
    stage: Stage, namespace: str, plain: redis.Redis
) -> None:
    names = {"job-1": False, "order-17": True, "job-2": False, "order-18": True}
    jobs = [Envelope(name, "job", b"", named=named) for name, named in names.items()]
    assert await stage.broker.enqueue("default", jobs) == [True] * 4
    [dedup] = [name for name in keys_of(plain, namespace) if name.startswith("dedup:")]
    assert plain.smembers(key(namespace, dedup)) == {b"order-17", b"order-18"}


@pytest.mark.parametrize(("named", "commands"), [(False, 9), (True, 13)])
async def test_an_enqueue_takes_few_commands(
    namespace: str, own_server: Any, named: bool, commands: int
) -> None:
    """EVALSHA, TIME, HGET, HMGET, EXISTS, RPUSH, two HSET, LLEN; four more for an id of a user."""
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


async def test_a_call_with_a_token_is_recognized_after_a_lost_answer(stage: Stage) -> None:
    jobs = [Envelope("a", "job", b"")]
    stage.transport.fate = lambda: LOST
    with pytest.raises(EnqueueUncertain):
        await stage.broker.enqueue("default", jobs, token="mine")
    stage.transport.fate = lambda: ANSWERED
    await stage.run()
    copies = len(stage.transport.sent)
    for _ in range(3):
        assert await stage.broker.enqueue("default", jobs, token="mine") == [True]
    assert len(stage.transport.sent) == copies + 1, "later calls use the known answer"
    await stage.run()
    assert stage.ran == {"a": 1}
    assert stage.fields == 1

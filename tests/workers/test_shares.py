"""Shares of queues: jobs start in proportion to the weights of their queues."""

from __future__ import annotations

import asyncio
import itertools
from collections import Counter
from collections.abc import AsyncIterator

import pytest

from aiospinach import Batch, Broker, Engine, signals
from aiospinach.workers.shares import Shares

from ..brokers_under_test import BROKERS, MakeBroker
from ..waiting import until

WEIGHTS = {"critical": 6, "default": 3, "bulk": 1}


@pytest.fixture(params=BROKERS)
async def engine(request: pytest.FixtureRequest, namespace: str) -> AsyncIterator[Engine]:
    """An engine on every broker."""
    make: MakeBroker = request.param
    broker: Broker = make()
    async with Engine(broker, namespace) as engine:
        yield engine
        for queue in ("critical", "default", "bulk", "a", "b"):
            await broker.flush(queue)


class Starts:
    """The queues of the jobs that started, in this order."""

    def __init__(self, engine: Engine, *queues: str) -> None:
        self.queues: list[str] = []
        self._engine = engine
        for queue in queues:
            engine.task(name=f"in_{queue}", queue=queue)(self._body)
        signals.job_started.connect(self._on_started, engine.namespace)

    async def _body(self) -> None:
        pass

    def _on_started(self, namespace: str, **kwargs: object) -> None:
        self.queues.append(kwargs["job"].queue)  # type: ignore[attr-defined]

    async def schedule(self, queue: str, number: int) -> None:
        batch = Batch()
        for _ in range(number):
            batch.schedule(f"in_{queue}")
        await self._engine.schedule_batch(batch)


@pytest.mark.parametrize("number", [1, 7, 50])
async def test_jobs_start_in_proportion_to_the_weights_of_their_queues(engine: Engine, number: int) -> None:
    starts = Starts(engine, *WEIGHTS)
    jobs = 2_000
    for queue, weight in WEIGHTS.items():
        await starts.schedule(queue, jobs * weight // 10 + 200)  # none is empty before `jobs` have started
    await engine.start_workers(number, WEIGHTS, stop_when_queue_empty=True)
    assert len(starts.queues) == jobs + 600
    counts = Counter(starts.queues[:jobs])
    for queue, weight in WEIGHTS.items():
        assert abs(counts[queue] - jobs * weight / 10) <= jobs * 0.02 + number, counts


async def test_an_empty_queue_leaves_its_share_to_others_and_saves_up_no_turns(engine: Engine) -> None:
    starts = Starts(engine, "a", "b")
    await starts.schedule("b", 300)
    await engine.start_workers(1, {"a": 5, "b": 5}, block=False)
    await until(lambda: len(starts.queues) == 300, "all jobs of b start, without one of a")
    starts.queues.clear()
    await starts.schedule("a", 60)
    await starts.schedule("b", 60)
    await until(lambda: len(starts.queues) == 120)
    await engine.stop_workers()
    # All of a that started before b had jobs is no part of the shares.
    both = list(itertools.dropwhile(lambda queue: queue == "a", starts.queues))[:40]
    assert abs(both.count("a") - both.count("b")) <= 4, both


async def test_a_new_job_of_an_empty_queue_gets_the_next_free_slot(engine: Engine) -> None:
    may_end = asyncio.Semaphore(0)
    ran: list[str] = []

    async def body(label: str) -> None:
        ran.append(label)
        await may_end.acquire()

    for queue in ("a", "b"):
        engine.task(name=f"in_{queue}", queue=queue)(body)
    for job in range(10):
        await engine.schedule("in_a", f"a{job}")
    await engine.start_workers(2, {"a": 9, "b": 1}, block=False)
    await until(lambda: len(ran) == 2)
    await engine.schedule("in_b", "b0")
    may_end.release()
    await until(lambda: len(ran) == 3)
    may_end.release()
    await until(lambda: len(ran) == 4)
    assert "b0" in ran, ran
    for _ in range(11):
        may_end.release()
    await until(lambda: len(ran) == 11)
    await engine.stop_workers()


def test_jobs_that_started_while_others_were_empty_are_not_made_up_for() -> None:
    shares = Shares([6, 1])
    shares.join(1)
    shares.charge(1, 50)
    shares.charge(1, -50)
    shares.serve(1, 50)
    shares.join(0)
    turns = 0
    while shares.first == 0:
        shares.serve(0, 1)
        turns += 1
    assert 6 <= turns <= 7


def test_a_queue_is_charged_for_the_jobs_that_it_got() -> None:
    shares = Shares([1, 1])
    shares.join(0)
    shares.join(1)
    assert shares.first == 0
    shares.charge(0, 10)
    assert shares.first == 1
    assert not shares.may_ask(0)
    shares.charge(0, -10)  # the answer had none for it
    assert shares.first == 0
    shares.leave(0)
    assert shares.may_ask(0), "it is empty, and no further than the other one"
    shares.charge(1, 1)
    shares.charge(1, 1)
    assert shares.first == 1
    shares.join(0)
    assert [shares.first, shares.may_ask(1)] == [0, False]
    shares.leave(0)
    shares.leave(1)
    assert shares.first is None
    assert shares.may_ask(1)

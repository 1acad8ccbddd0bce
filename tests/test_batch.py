"""A batch is checked while it grows, is bounded, and is stored queue by queue, each all or nothing."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Sequence
from contextvars import Context, ContextVar, copy_context
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from aiospinach import (
    AiospinachError,
    Batch,
    BatchPartlyStored,
    BatchTooLarge,
    BrokerUnavailable,
    Engine,
    InvalidArguments,
    InvalidValue,
    Job,
    JobStatus,
    MemoryBroker,
    UnknownTask,
    signals,
)
from aiospinach.arguments.codec import BODY_LIMIT
from aiospinach.batch import BYTES_LIMIT, JOBS_LIMIT
from aiospinach.brokers.questions import Counts
from aiospinach.brokers.records import Envelope
from aiospinach.engine.producer import SENT_AT_ONCE
from aiospinach.signals import signal as signal_module
from aiospinach.signals.receivers import Gathering, ReceiverRun, share_context

from .asking import counts
from .conftest import Heard

NOTHING = Counts(ready=0, running=0, waiting=0, dead=0)


class Counting(MemoryBroker):
    """Counts the calls of ``enqueue``; queues in ``away`` are unavailable."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[tuple[str, int]] = []
        self.away: set[str] = set()

    async def enqueue(self, queue: str, jobs: Sequence[Envelope], **options: Any) -> list[bool]:
        self.calls.append((queue, len(jobs)))
        if queue in self.away:
            raise BrokerUnavailable("the store is away")
        return await super().enqueue(queue, jobs, **options)


@pytest.fixture
def broker() -> Counting:
    return Counting()


@pytest.fixture
def engine(broker: Counting, namespace: str) -> Engine:
    return Engine(broker, namespace)


async def test_a_batch_is_stored_with_one_call_per_queue_and_returned_in_order(
    engine: Engine, broker: Counting
) -> None:
    @engine.task(queue="a")
    async def first(number: int) -> None: ...

    @engine.task(queue="b")
    async def second(number: int) -> None: ...

    batch = Batch()
    for number in range(10):
        batch.schedule(second if number % 3 else first, number)
    jobs = await engine.schedule_batch(batch)
    assert [job.args for job in jobs] == [(number,) for number in range(10)]
    assert [job.queue for job in jobs] == [("b" if number % 3 else "a") for number in range(10)]
    assert broker.calls == [("a", 4), ("b", 6)]


async def test_the_jobs_of_a_batch_run_and_each_is_announced_once(engine: Engine, heard: Heard) -> None:
    ran: list[int] = []

    @engine.task(name="work")
    async def work(number: int) -> None:
        ran.append(number)

    later = datetime.now(UTC) + timedelta(hours=1)
    batch = Batch().schedule(work, 1).schedule("work", 2).schedule_at(work, later, 3)
    batch.schedule_at("work", datetime(2001, 1, 1), 4)
    jobs = await engine.schedule_batch(batch)
    assert [job.status.name for job in jobs] == ["QUEUED", "QUEUED", "WAITING", "QUEUED"]
    assert [kwargs["job"] for _, kwargs in heard] == jobs
    await engine.start_workers(1, stop_when_queue_empty=True)
    assert ran == [1, 2, 4]


async def test_receivers_run_for_at_most_a_hundred_jobs_of_a_batch_at_a_time(
    engine: Engine,
) -> None:
    running, most = 0, 0
    order: list[int] = []

    async def slow(sender: str, job: Job, **kwargs: Any) -> None:
        nonlocal running, most
        running += 1
        most = max(most, running)
        await asyncio.sleep(0.01)
        running -= 1

    def plain(sender: str, job: Job, **kwargs: Any) -> None:
        order.append(job.args[0])

    signals.job_scheduled.connect(slow, engine.namespace)
    signals.job_scheduled.connect(plain, engine.namespace)
    job = engine.task(name="job")(lambda number: None)
    batch = Batch()
    for number in range(3 * SENT_AT_ONCE):
        batch.schedule(job, number)
    await engine.schedule_batch(batch)
    assert most == SENT_AT_ONCE
    assert order == list(range(3 * SENT_AT_ONCE))
    assert running == 0


async def test_a_hanging_receiver_delays_a_batch_by_only_a_few_timeouts(
    broker: Counting, namespace: str, caplog: pytest.LogCaptureFixture
) -> None:
    engine = Engine(broker, namespace, signal_timeout=0.2)
    gatherings: list[int] = []
    received: Counter[int] = Counter()

    class Counted(Gathering):
        def __init__(self, runs: list[ReceiverRun], context: Context) -> None:
            gatherings.append(len(runs))
            super().__init__(runs, context)

    async def hanging(sender: str, job: Job, **kwargs: Any) -> None:
        await asyncio.Event().wait()

    async def healthy(sender: str, job: Job, **kwargs: Any) -> None:
        received[job.args[0]] += 1

    signals.job_scheduled.connect(hanging, namespace)
    signals.job_scheduled.connect(healthy, namespace)
    job = engine.task(name="job")(lambda number: None)
    batch = Batch()
    for number in range(2000):
        batch.schedule(job, number)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(signal_module, "Gathering", Counted)
        await engine.schedule_batch(batch)
    assert gatherings == [200, 2000, 1800], "a round that timed out is followed by a larger one"
    assert received == Counter(range(2000))
    assert sum("took longer than" in record.message for record in caplog.records) == 2000


async def test_the_receivers_of_a_batch_share_the_context_of_its_caller(engine: Engine) -> None:
    noted: ContextVar[tuple[int, ...]] = ContextVar("noted", default=())

    async def note(sender: str, job: Job, **kwargs: Any) -> None:
        noted.set((*noted.get(), job.args[0]))

    def also(sender: str, job: Job, **kwargs: Any) -> None:
        noted.set((*noted.get(), -job.args[0]))

    signals.job_scheduled.connect(note, engine.namespace)
    signals.job_scheduled.connect(also, engine.namespace)
    job = engine.task(name="job")(lambda number: None)

    async def store() -> tuple[int, ...]:
        share_context(asyncio.current_task(), context)  # type: ignore[arg-type]
        await engine.schedule_batch(Batch().schedule(job, 1).schedule(job, 2))
        return noted.get()

    context = copy_context()
    assert await asyncio.create_task(store(), context=context) == (-1, -2, 1, 2)


async def test_an_empty_batch_makes_no_call_of_the_broker(engine: Engine, broker: Counting) -> None:
    assert await engine.schedule_batch(Batch()) == []
    assert broker.calls == []


async def test_a_duplicate_in_a_batch_is_not_stored_and_the_others_are(engine: Engine, heard: Heard) -> None:
    @engine.task
    async def work(number: int) -> None: ...

    same = work.options(id="same")
    jobs = await engine.schedule_batch(Batch().schedule(same, 1).schedule(work, 2).schedule(same, 3))
    assert [job.status for job in jobs] == [JobStatus.QUEUED, JobStatus.QUEUED, JobStatus.NOT_SET]
    assert heard.count("job_scheduled") == 2


def test_a_batch_has_the_number_of_its_jobs_as_length() -> None:
    batch = Batch()
    assert (len(batch), repr(batch)) == (0, "<Batch of 0 jobs>")
    batch.schedule("a").schedule("b", 1)
    assert (len(batch), repr(batch)) == (2, "<Batch of 2 jobs>")


def test_arguments_are_checked_on_adding_and_a_refused_call_is_not_added(engine: Engine) -> None:
    @engine.task
    async def work(number: int) -> None: ...

    batch = Batch().schedule(work, 1)
    with pytest.raises(InvalidArguments, match="number"):
        batch.schedule(work, "x")  # type: ignore[call-overload]
    with pytest.raises(InvalidValue, match="1970"):
        batch.schedule_at(work, datetime(1969, 1, 1), 1)
    assert len(batch) == 1


async def test_a_bad_call_by_name_refuses_the_whole_batch_on_storing(
    engine: Engine, broker: Counting
) -> None:
    @engine.task(name="work")
    async def work(number: int) -> None: ...

    for batch, error in (
        (Batch().schedule(work, 1).schedule("work", "x"), InvalidArguments),
        (Batch().schedule(work, 1).schedule("unknown"), UnknownTask),
        (Batch().schedule(work, 1).schedule("no such name"), InvalidValue),
    ):
        with pytest.raises(error):
            await engine.schedule_batch(batch)
    assert broker.calls == []
    assert await counts(broker, "default") == NOTHING


def test_a_batch_holds_ten_thousand_jobs_and_no_more() -> None:
    assert JOBS_LIMIT == 10_000
    batch = Batch()
    for _ in range(10_000):
        batch.schedule("work")
    with pytest.raises(BatchTooLarge, match="10,000"):
        batch.schedule("work")
    assert len(batch) == 10_000


async def test_ten_thousand_jobs_are_stored_in_one_call(engine: Engine, broker: Counting) -> None:
    @engine.task
    async def work(number: int) -> None: ...

    batch = Batch()
    for number in range(10_000):
        batch.schedule(work, number)
    jobs = await engine.schedule_batch(batch)
    assert len({job.id for job in jobs}) == 10_000
    assert broker.calls == [("default", 10_000)]
    assert (await counts(broker, "default")).ready == 10_000


LARGE = "x" * (BODY_LIMIT - len('[[""],{}]'))


async def test_a_batch_holds_8_mb_of_arguments_and_no_more(engine: Engine, broker: Counting) -> None:
    assert BYTES_LIMIT == 8 * 1024 * 1024

    @engine.task(name="work")
    async def work(text: str) -> None: ...

    batch, by_name = Batch(), Batch()
    for _ in range(32):
        batch.schedule(work, LARGE)
        by_name.schedule("work", LARGE)
    with pytest.raises(BatchTooLarge, match="8,388,608"):
        batch.schedule(work, "")
    assert len(batch) == 32
    by_name.schedule("work", "")
    with pytest.raises(BatchTooLarge, match="8,388,608"):
        await engine.schedule_batch(by_name)
    assert await counts(broker, "default") == NOTHING
    assert len(await engine.schedule_batch(batch)) == 32


async def test_the_error_for_a_partly_stored_batch_names_the_stored_jobs(
    engine: Engine, broker: Counting, heard: Heard
) -> None:
    @engine.task(queue="a")
    async def first() -> None: ...

    @engine.task(queue="b")
    async def second() -> None: ...

    broker.away = {"b"}
    with pytest.raises(BatchPartlyStored, match="queue 'b'") as caught:
        await engine.schedule_batch(Batch().schedule(first).schedule(second).schedule(first))
    assert [job.queue for job in caught.value.stored] == ["a", "a"]
    assert [job.status for job in caught.value.stored] == [JobStatus.QUEUED] * 2
    assert isinstance(caught.value.__cause__, BrokerUnavailable)
    assert "of a were" in str(caught.value)
    assert (await counts(broker, "a")).ready == 2
    assert await counts(broker, "b") == NOTHING


async def test_an_error_before_anything_was_stored_is_raised_unchanged(
    engine: Engine, broker: Counting
) -> None:
    @engine.task(queue="a")
    async def first() -> None: ...

    @engine.task(queue="b")
    async def second() -> None: ...

    broker.away = {"a"}
    with pytest.raises(BrokerUnavailable):
        await engine.schedule_batch(Batch().schedule(first).schedule(second))
    assert await counts(broker, "b") == NOTHING


async def test_a_batch_may_be_stored_again_as_other_jobs(engine: Engine) -> None:
    @engine.task
    async def work(number: int) -> None: ...

    batch = Batch().schedule(work, 1)
    [first], [second] = await engine.schedule_batch(batch), await engine.schedule_batch(batch)
    assert first != second


async def test_a_batch_of_another_engines_task_is_refused(engine: Engine, broker: Counting) -> None:
    other = Engine(MemoryBroker(), "other")

    @other.task(name="foreign")
    async def foreign() -> None: ...

    with pytest.raises(AiospinachError, match="foreign"):
        await engine.schedule_batch(Batch().schedule(foreign))
    assert broker.calls == []

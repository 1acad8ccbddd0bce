"""Context that travels: from the code that schedules a job to the code that runs it."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable, Mapping
from contextvars import ContextVar, copy_context
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import msgspec
import pytest

from aiospinach import (
    Batch,
    Broker,
    Cron,
    Engine,
    InvalidValue,
    Job,
    RetryException,
    Tasks,
    UnsupportedType,
    current_job,
    signals,
)
from aiospinach.brokers.questions import LookJob

from ..brokers_under_test import MakeBroker
from ..waiting import until

request_id: ContextVar[str | None] = ContextVar("request_id", default=None)
tenant: ContextVar[Any] = ContextVar("tenant")


@dataclass
class Tenant:
    name: str
    credit: Decimal


@pytest.fixture(autouse=True)
def nothing_set() -> None:
    assert request_id.get() is None
    assert tenant.get(None) is None


async def run_all(engine: Engine) -> None:
    await engine.start_workers(stop_when_queue_empty=True)


def scheduling(engine: Engine, task: Any, *args: Any, **values: Any) -> asyncio.Task[Job]:
    """Schedule in a context of its own, in which these variables are set."""
    context = copy_context()
    for variable in (request_id, tenant):
        if variable.name in values:
            context.run(variable.set, values[variable.name])
    return asyncio.get_running_loop().create_task(engine.schedule(task, *args), context=context)


async def test_values_reach_the_body_its_receivers_and_its_thread(engine: Engine) -> None:
    engine.carry(request_id, tenant)
    seen: dict[str, tuple[object, object]] = {}

    @engine.task
    async def body() -> None:
        seen["body"] = request_id.get(), tenant.get()

    @engine.task
    def plain() -> None:
        assert threading.current_thread() is not threading.main_thread()
        seen["thread"] = request_id.get(), tenant.get()

    @signals.job_started.connect_via(engine.namespace)
    def started(namespace: str, job: Job, **kwargs: Any) -> None:
        seen[f"started {job.task_name.rpartition('.')[2]}"] = request_id.get(), tenant.get()

    @signals.job_finished.connect_via(engine.namespace)
    async def finished(namespace: str, job: Job, **kwargs: Any) -> None:
        seen[f"finished {job.task_name.rpartition('.')[2]}"] = request_id.get(), tenant.get()

    jobs = [await scheduling(engine, task, request_id="r-1", tenant="acme") for task in (body, plain)]
    assert [job.headers for job in jobs] == [{"request_id": "r-1", "tenant": "acme"}] * 2
    await run_all(engine)
    places = {"body", "thread", "started body", "started plain", "finished body", "finished plain"}
    assert seen == dict.fromkeys(places, ("r-1", "acme"))
    assert request_id.get() is None, "the workers' own context is as it was"


async def test_values_reach_jobs_that_a_job_schedules(engine: Engine) -> None:
    engine.carry(request_id)
    seen = []

    @engine.task
    async def child(depth: int) -> None:
        seen.append((depth, request_id.get()))
        if depth:
            await child.schedule(depth - 1)
            request_id.set("changed")
            await engine.schedule_batch(Batch().schedule(child, 0))

    await scheduling(engine, child, 2, request_id="r-1")
    await run_all(engine)
    assert sorted(seen, key=str) == sorted(
        [(2, "r-1"), (1, "r-1"), (0, "r-1"), (0, "changed"), (0, "changed")], key=str
    )


async def test_each_try_has_the_first_values_on_any_engine(make_broker: MakeBroker, namespace: str) -> None:
    """The second try runs on another engine, which in memory is the next one of the broker."""
    seen: list[tuple[str, object]] = []

    def engine_on(broker: Broker, name: str) -> Engine:
        engine = Engine(broker, namespace)
        engine.carry(request_id)

        @engine.task(name="send", max_retries=2, backoff=lambda retry: 0)
        async def send() -> None:
            seen.append((name, request_id.get()))
            request_id.set("of another request")
            if len(seen) == 1:
                await engine.stop_workers()
            if len(seen) < 3:
                raise RetryException

        return engine

    first = make_broker()
    async with engine_on(first, "first") as one:
        await scheduling(one, "send", request_id="r-1")
        await one.start_workers(1)
    async with engine_on(first, "second") as two:
        await run_all(two)
    assert [value for _, value in seen] == ["r-1"] * 3
    assert {name for name, _ in seen} == {"first", "second"}


async def test_a_requeued_job_has_its_values(engine: Engine) -> None:
    engine.carry(request_id)
    seen = []

    @engine.task
    async def body() -> None:
        seen.append(request_id.get())
        if len(seen) == 1:
            raise ValueError

    job = await scheduling(engine, body, request_id="r-1")
    await run_all(engine)
    [dead] = [dead async for dead in engine.dead_jobs()]
    assert dead.job.headers == {"request_id": "r-1"}
    assert dead.job.created_at == job.created_at
    assert await engine.requeue(job)
    await run_all(engine)
    assert seen == ["r-1", "r-1"]


async def test_two_hundred_callers_at_once_do_not_mix(engine: Engine) -> None:
    engine.carry(request_id)
    seen = []

    @engine.task
    async def body(expected: str) -> None:
        await asyncio.sleep(0)
        seen.append((expected, request_id.get()))

    await asyncio.gather(*(scheduling(engine, body, f"r-{n}", request_id=f"r-{n}") for n in range(200)))
    await engine.start_workers(50, stop_when_queue_empty=True)
    assert sorted(seen) == sorted((f"r-{n}", f"r-{n}") for n in range(200))


async def test_values_of_a_type_come_back_equal(engine: Engine) -> None:
    engine.carry(tenant, type=Tenant)
    seen = []

    @engine.task
    async def body() -> None:
        seen.append(tenant.get())

    job = await scheduling(engine, body, tenant=Tenant("acme", Decimal("1.50")))
    assert job.headers == {"tenant": '{"name":"acme","credit":"1.50"}'}
    await run_all(engine)
    assert seen == [Tenant("acme", Decimal("1.50"))]


async def test_a_variable_that_is_not_set_or_none_does_not_travel(engine: Engine, broker: Broker) -> None:
    engine.carry(request_id)
    engine.carry(tenant, type=Tenant)
    body = engine.task(name="body")(lambda: None)
    job = await engine.schedule(body)
    assert job.headers == {}
    stored = await broker.look("default", LookJob(job.id))
    assert stored is not None
    assert (stored.body, stored.has_meta) == (b"[[],{}]", False), "no byte more than without carry()"


async def test_a_name_that_the_worker_does_not_know_is_left_alone(
    make_broker: MakeBroker, namespace: str
) -> None:
    broker = make_broker()
    seen: list[Mapping[str, str]] = []

    def body() -> None:
        job = current_job()
        assert job is not None
        seen.append(job.headers)
        assert request_id.get() is None

    async with Engine(broker, namespace) as caller:
        caller.carry(request_id)
        caller.task(name="body")(body)
        await scheduling(caller, "body", request_id="r-1")
    async with Engine(broker, namespace) as worker:
        worker.task(name="body")(body)
        await run_all(worker)
    assert seen == [{"request_id": "r-1"}]


async def test_a_value_that_does_not_read_back_is_logged_and_the_job_runs(
    make_broker: MakeBroker, namespace: str, caplog: pytest.LogCaptureFixture
) -> None:
    broker = make_broker()
    ran = []

    async def body() -> None:
        ran.append((request_id.get(), tenant.get(None)))

    async with Engine(broker, namespace) as caller:
        caller.carry(request_id, tenant)
        caller.task(name="body")(body)
        await scheduling(caller, "body", request_id="r-1", tenant="no JSON: canary")
    async with Engine(broker, namespace) as worker:
        worker.carry(tenant, type=Tenant)
        worker.carry(request_id)
        worker.task(name="body")(body)
        await run_all(worker)
    assert ran == [("r-1", None)]
    [record] = [each for each in caplog.records if "does not read back" in each.getMessage()]
    assert record.levelno == logging.ERROR
    assert "tenant" in record.getMessage()
    assert "canary" not in caplog.text


@pytest.mark.parametrize(
    ("declare", "value", "words"),
    [
        (lambda engine: engine.carry(tenant), 17, "'tenant' has to be text, not int"),
        (lambda engine: engine.carry(tenant), "x" * 4096, "take 4,102 bytes"),
        (lambda engine: engine.carry(tenant), "\ud800", "lone surrogate"),
        (
            lambda engine: engine.carry(tenant, type=Tenant),
            "acme",
            r"'tenant' \(str\) would not arrive equal as the declared type, .*Tenant: set a value",
        ),
        (lambda engine: engine.carry(tenant, type=Tenant), object(), "would not arrive equal"),
        (lambda engine: engine.carry(tenant, type=float), float("nan"), "would not arrive equal"),
    ],
)
async def test_a_value_that_cannot_travel_is_refused_before_the_job_is_stored(
    engine: Engine, heard: Any, declare: Callable[[Engine], Any], value: object, words: str
) -> None:
    declare(engine)
    body = engine.task(name="body")(lambda: None)
    with pytest.raises(InvalidValue, match=words) as caught:
        await scheduling(engine, body, tenant=value)
    assert caught.value.__cause__ is None
    with pytest.raises(InvalidValue, match=words):
        await asyncio.get_running_loop().create_task(
            engine.schedule_batch(Batch().schedule(body)), context=_context_with(value)
        )
    assert not heard.names()


def _context_with(value: object) -> Any:
    context = copy_context()
    context.run(tenant.set, value)
    return context


async def test_4096_bytes_travel(engine: Engine) -> None:
    engine.carry(tenant)
    body = engine.task(name="body")(lambda: None)
    job = await scheduling(engine, body, tenant="x" * (4096 - len("tenant")))
    assert len(job.headers["tenant"]) == 4090


async def test_the_text_of_a_provider_travels(engine: Engine) -> None:
    seen = []
    numbers = iter(range(10))
    undo = engine.carry(lambda: {"trace": f"t-{next(numbers)}"})
    engine.carry(request_id)

    @engine.task
    async def body() -> None:
        job = current_job()
        assert job is not None
        seen.append(dict(job.headers))

    await scheduling(engine, body, request_id="r-1")
    await engine.schedule_batch(Batch().schedule(body).schedule(body))
    undo()
    undo()
    await engine.schedule(body)
    await engine.execute(body)
    await run_all(engine)
    assert next(numbers) == 2, "a provider is called once for a batch"
    assert sorted(map(str, seen)) == sorted(
        map(str, [{"request_id": "r-1", "trace": "t-0"}, {"trace": "t-1"}, {"trace": "t-1"}, {}, {}])
    )


@pytest.mark.parametrize(
    "provider",
    [
        lambda: 1 / 0,
        lambda: {"trace": 17},
        lambda: None,
        lambda: {"trace": "x" * 5000},
        lambda: {1: "a"},
        lambda: {"trace": "\ud800"},
    ],
)
async def test_a_provider_that_fails_is_logged_and_stops_no_job(
    engine: Engine, caplog: pytest.LogCaptureFixture, provider: Any
) -> None:
    engine.carry(provider)
    engine.carry(request_id)
    body = engine.task(name="body")(lambda: None)
    for _ in range(3):
        job = await scheduling(engine, body, request_id="r-1")
        assert job.headers == {"request_id": "r-1"}
    [record] = [each for each in caplog.records if "its text does not travel" in each.getMessage()]
    assert record.levelno == logging.ERROR


async def test_an_error_of_a_provider_is_logged_without_what_the_engine_leaves_out(
    broker: Broker, namespace: str, caplog: pytest.LogCaptureFixture
) -> None:
    engine = Engine(broker, namespace, leave_out=["messages"])
    body = engine.task(name="body")(lambda: None)

    @engine.carry
    def provider() -> dict[str, str]:
        raise LookupError("-".join(["canary", "7"]))

    async with engine:
        await body.schedule()
    assert "canary-7" not in caplog.text
    assert "LookupError" in caplog.text


async def test_a_declared_variable_wins_over_the_text_of_a_provider(engine: Engine) -> None:
    engine.carry(lambda: {"request_id": "of the provider"}, lambda: {"other": "a"}, lambda: {"other": "b"})
    engine.carry(request_id)
    body = engine.task(name="body")(lambda: None)
    assert (await scheduling(engine, body, request_id="r-1")).headers == {"request_id": "r-1", "other": "a"}


async def test_execute_has_the_headers_of_its_caller(engine: Engine) -> None:
    engine.carry(request_id)

    @engine.task
    async def body() -> object:
        job = current_job()
        assert job is not None
        return dict(job.headers), job.key, request_id.get()

    request_id.set("r-1")
    assert await engine.execute(body.options(key="k")) == ({"request_id": "r-1"}, "k", "r-1")
    request_id.set(None)


async def test_undo_ends_the_journey(engine: Engine) -> None:
    undo = engine.carry(request_id, tenant)
    body = engine.task(name="body")(lambda: None)
    undo()
    assert (await scheduling(engine, body, request_id="r-1", tenant="acme")).headers == {}
    engine.carry(request_id)
    undo()
    assert (await scheduling(engine, body, request_id="r-1")).headers == {"request_id": "r-1"}


async def test_undo_leaves_the_same_declaration_of_other_code(engine: Engine) -> None:
    def provider() -> dict[str, str]:
        return {"trace": "t"}

    engine.carry(request_id, provider)
    undo = engine.carry(request_id, provider)
    body = engine.task(name="body")(lambda: None)
    for _ in range(2):
        undo()
        job = await scheduling(engine, body, request_id="r-1")
        assert job.headers == {"request_id": "r-1", "trace": "t"}


async def test_a_call_that_is_refused_declares_nothing(engine: Engine) -> None:
    with pytest.raises(InvalidValue):
        engine.carry(request_id, "tenant")  # type: ignore[arg-type]
    body = engine.task(name="body")(lambda: None)
    assert (await scheduling(engine, body, request_id="r-1")).headers == {}


class Markup(str):
    """Text of a class of its own, as template engines have it."""


async def test_text_of_a_class_of_its_own_travels_as_text(engine: Engine) -> None:
    engine.carry(request_id, lambda: {Markup("trace"): Markup("t")})
    seen: list[Any] = []

    @engine.task
    async def body() -> None:
        job = current_job()
        assert job is not None
        seen.append((dict(job.headers), request_id.get()))

    job = await scheduling(engine, body, request_id=Markup("r-1"))
    assert {type(text) for pair in job.headers.items() for text in pair} == {str}
    await run_all(engine)
    assert seen == [({"request_id": "r-1", "trace": "t"}, "r-1")]


async def test_two_variables_of_one_name_need_another(engine: Engine) -> None:
    other: ContextVar[str] = ContextVar("request_id")
    engine.carry(request_id)
    engine.carry(request_id)
    with pytest.raises(InvalidValue, match="another variable travels as 'request_id'"):
        engine.carry(other)
    engine.carry(other, name="other")
    body = engine.task(name="body")(lambda: None)
    other.set("b")
    assert (await scheduling(engine, body, request_id="a")).headers == {"request_id": "a", "other": "b"}


async def _async_provider() -> dict[str, str]:
    return {}


def _provider_of_job(job: Job) -> dict[str, str]:
    return {}


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda engine: engine.carry(), InvalidValue, "takes ContextVars"),
        (lambda engine: engine.carry("request_id"), InvalidValue, "not str"),
        (lambda engine: engine.carry(Tenant), InvalidValue, "not type"),
        (lambda engine: engine.carry(request_id, tenant, name="a"), InvalidValue, "for one variable"),
        (lambda engine: engine.carry(dict, name="a"), InvalidValue, "not type"),
        (lambda engine: engine.carry(lambda: {}, name="a"), InvalidValue, "are for a ContextVar"),
        (lambda engine: engine.carry(_async_provider), InvalidValue, "'_async_provider' is async"),
        (lambda engine: engine.carry(_provider_of_job), InvalidValue, "'_provider_of_job' is called without"),
        (lambda engine: engine.carry(run_all), InvalidValue, "'run_all' is async"),
        (lambda engine: engine.carry(request_id, name="a b"), InvalidValue, "carry\\(\\): name 'a b'"),
        (lambda engine: engine.carry(tenant, type=Callable[[], int]), UnsupportedType, "type of 'tenant'"),
    ],
)
async def test_wrong_declarations_are_refused(
    engine: Engine, call: Callable[[Engine], object], error: type[Exception], words: str
) -> None:
    with pytest.raises(error, match=words):
        call(engine)


async def test_a_periodic_job_carries_nothing_of_the_workers(engine: Engine) -> None:
    engine.carry(request_id)
    seen: list[Job | None] = []
    tasks = Tasks()

    @tasks.task(periodicity=Cron("* * * * * *"))
    async def tick() -> None:
        seen.append(current_job())

    engine.attach_tasks(tasks)
    request_id.set("of the start")
    await engine.start_workers(block=False)
    request_id.set(None)
    await until(lambda: seen)
    await engine.stop_workers()
    assert seen[0] is not None
    assert seen[0].headers == {}


async def test_a_key_travels_without_context(engine: Engine) -> None:
    seen = []

    @engine.task
    async def body() -> None:
        job = current_job()
        assert job is not None
        seen.append(job.key)

    job = await body.options(key="mandant ü 17").schedule()
    assert job.key == "mandant ü 17"
    batch = Batch().schedule(body.options(key="b")).schedule(body)
    assert [job.key for job in await engine.schedule_batch(batch)] == ["b", None]
    await run_all(engine)
    assert set(seen) == {None, "b", "mandant ü 17"}


@pytest.mark.parametrize("key", ["", "x" * 201, 17, "\ud800"])
async def test_a_wrong_key_is_refused(engine: Engine, key: Any) -> None:
    body = engine.task(name="body")(lambda: None)
    with pytest.raises(InvalidValue, match="job key"):
        body.options(key=key)


async def test_headers_are_in_every_signal_and_in_no_repr(engine: Engine, heard: Any) -> None:
    engine.carry(request_id)

    @engine.task(max_retries=1, backoff=lambda retry: 0)
    async def body() -> None:
        raise ValueError

    job = await scheduling(engine, body, request_id="canary")
    waiting = await scheduling(engine, body, request_id="canary")
    assert "canary" not in repr(job)
    await engine.cancel(waiting)
    await run_all(engine)
    names = {"job_scheduled", "job_started", "job_schedule_retry", "job_failed", "job_cancelled"}
    assert names <= set(heard.names())
    for name, kwargs in heard:
        if "job" in kwargs:
            assert kwargs["job"].headers == {"request_id": "canary"}, name
            assert msgspec.structs.asdict(kwargs["job"])["created_at"] in (job.created_at, waiting.created_at)

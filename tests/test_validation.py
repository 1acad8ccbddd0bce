"""Valid names and ids, and the errors for invalid characters."""

from __future__ import annotations

import base64
import uuid
from typing import Any

import pytest

from aiospinach import Batch, Broker, Engine, InvalidValue, JobStatus, MemoryBroker, Tasks, current_job

from .brokers_under_test import BROKERS, MakeBroker

OTHERS = [
    base64.b64encode(b"\xfb\xef\xbe" * 3 + b"\xff").decode(),
    uuid.UUID(int=2**100).urn,
    f"{{{uuid.UUID(int=7)}}}",
    "<message.17@mail.example.org>",
    "arn:aws:s3:::bucket/key=a+b%20c",
    "order#17;item=2,part=3",
    "~!$&'()*[]^_`{|}\\\"?",
    "1",
    "x" * 200,
]


@pytest.fixture(params=BROKERS)
def broker(request: pytest.FixtureRequest) -> Broker:
    make: MakeBroker = request.param
    return make()


@pytest.mark.parametrize("job_id", OTHERS)
async def test_ids_of_other_systems_are_accepted(broker: Broker, namespace: str, job_id: str) -> None:
    async with Engine(broker, namespace) as engine:
        ran: list[str] = []

        @engine.task(max_retries=1, backoff=lambda attempt: 0.001, max_concurrency=1)
        async def task() -> None:
            job = current_job()
            assert job is not None
            ran.append(job.id)
            raise ValueError("fails for ever")

        named = task.options(id=job_id)
        assert (await named.schedule()).status is JobStatus.QUEUED
        assert (await named.schedule()).status is JobStatus.NOT_SET
        await engine.start_workers(stop_when_queue_empty=True)
        assert ran == [job_id, job_id]
        assert [dead.job.id async for dead in engine.dead_jobs()] == [job_id]
        assert await engine.requeue(job_id)
        assert await engine.cancel(job_id) is JobStatus.QUEUED
        assert [job.id for job in await engine.schedule_batch(Batch().schedule(named))] == [job_id]


@pytest.mark.parametrize(
    ("job_id", "named"),
    [
        ("order 17", r"without spaces, and has ' '$"),
        ("a\tb\nc", r"has '\\t', '\\n'$"),
        ("café", r"has '\\xe9'$"),
        ("", r"\(0 characters\)"),
        ("x" * 201, r"\(201 characters\)"),
        (uuid.UUID(int=7), "must be a string .*, not UUID"),
        (17, "not int"),
    ],
)
def test_the_error_for_an_invalid_id_names_the_wrong_characters(job_id: Any, named: str) -> None:
    async def task() -> None: ...

    with pytest.raises(InvalidValue, match=named) as caught:
        Tasks().task(task).options(id=job_id)
    assert "1 to 200 letters, digits and other characters of ASCII" in str(caught.value)


def test_the_error_for_an_invalid_name_names_the_wrong_characters() -> None:
    with pytest.raises(InvalidValue, match=r"task name 'a b/c' must be 1 to 200 .*'@', and has ' ', '/'$"):
        Tasks().task(name="a b/c")(print)
    with pytest.raises(InvalidValue, match=r"namespace 'a:b' must be 1 to 100 .*'-', and has ':'$"):
        Engine(MemoryBroker(), "a:b")

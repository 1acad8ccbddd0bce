"""Errors, receivers and results that raise when they are inspected do not affect the pool."""

from __future__ import annotations

from typing import Any

import pytest

from aiospinach import Engine, signals

from ..conftest import Heard


class NoBool(Exception):
    def __bool__(self) -> bool:
        raise RuntimeError("no truth")


class Falsy(Exception):
    def __len__(self) -> int:
        return 0


class NoClass(Exception):
    @property
    def __class__(self) -> Any:
        raise RuntimeError("no class")

    @__class__.setter
    def __class__(self, value: Any) -> None: ...


class NoAttributes:
    """A proxy without a target."""

    def __getattr__(self, name: str) -> Any:
        raise RuntimeError("no attributes")

    def __call__(self, *args: Any, **kwargs: Any) -> None:
        raise ValueError("no call")


class ClasslessResult:
    @property
    def __class__(self) -> Any:
        raise RuntimeError("no class")

    @__class__.setter
    def __class__(self, value: Any) -> None: ...


async def run_a_good_job(engine: Engine, heard: Heard) -> None:
    good = engine.task(name="good")(lambda: "good")
    await good.schedule()
    await engine.start_workers(stop_when_queue_empty=True)
    assert heard.last("job_finished")["result"] == "good"
    assert heard.last("job_finished")["err"] is None


@pytest.mark.parametrize("error", [NoBool, Falsy, NoClass])
@pytest.mark.parametrize("max_retries", [0, 1])
async def test_an_error_that_misbehaves_fails_its_job_only(
    engine: Engine, heard: Heard, error: type[Exception], max_retries: int
) -> None:
    @engine.task(max_retries=max_retries, backoff=lambda attempt: 0)
    async def body() -> None:
        raise error

    await body.schedule()
    await engine.start_workers(stop_when_queue_empty=True)
    assert heard.count("job_failed") == 1
    assert heard.count("job_finished") == 1 + max_retries
    await run_a_good_job(engine, heard)


@pytest.mark.parametrize("error", [NoBool, Falsy, NoClass])
async def test_a_receiver_whose_error_misbehaves_does_not_affect_others(
    engine: Engine, heard: Heard, error: type[Exception]
) -> None:
    raised: list[str] = []
    others: list[str] = []

    @signals.job_started.connect
    def plain(namespace: str, **kwargs: Any) -> None:
        raised.append("plain")
        raise error

    @signals.job_finished.connect
    async def asynchronous(namespace: str, **kwargs: Any) -> None:
        raised.append("asynchronous")
        raise error

    @signals.job_started.connect
    @signals.job_finished.connect
    async def other(namespace: str, **kwargs: Any) -> None:
        others.append("called")

    await run_a_good_job(engine, heard)
    assert raised == ["plain", "asynchronous"]
    assert len(others) == 2
    assert heard.names()[-3:] == ["job_started", "job_finished", "worker_terminated"]


async def test_a_receiver_without_attributes_is_logged_by_its_class(
    engine: Engine, heard: Heard, caplog: pytest.LogCaptureFixture
) -> None:
    signals.job_started.connect(NoAttributes())
    await run_a_good_job(engine, heard)
    assert "NoAttributes raised ValueError" in caplog.text


async def test_a_result_whose_class_cannot_be_read_does_no_harm(engine: Engine, heard: Heard) -> None:
    returned: list[ClasslessResult] = []

    @signals.job_started.connect
    def receiver(namespace: str, **kwargs: Any) -> ClasslessResult:
        returned.append(ClasslessResult())
        return returned[-1]

    await run_a_good_job(engine, heard)
    assert len(returned) == 1

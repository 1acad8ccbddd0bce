"""Fixtures of the integrations: engines on every broker."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Iterator

import pytest

from aiospinach import Broker, Engine
from aiospinach.contrib import queue_cache

from ..brokers_under_test import BROKERS, MakeBroker
from ..conftest import ALL_SIGNALS


@pytest.fixture(params=BROKERS)
def make_broker(request: pytest.FixtureRequest) -> MakeBroker:
    """Makes brokers of one kind."""
    make: MakeBroker = request.param
    return make


@pytest.fixture
def broker(make_broker: MakeBroker) -> Broker:
    return make_broker()


@pytest.fixture
async def any_engine(broker: Broker, namespace: str) -> AsyncIterator[Engine]:
    """An engine on every broker."""
    async with Engine(broker, namespace) as engine:
        yield engine


@pytest.fixture(autouse=True)
def no_receiver_fails(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """Looks for errors of receivers, which are only logged. A test that expects some clears the log."""
    yield
    errors = [record for record in caplog.get_records("call") if record.levelno >= logging.ERROR]
    texts = [record.getMessage() for record in errors if record.name.startswith("aiospinach")]
    assert [text for text in texts if "signal job_" in text or "of carry()" in text] == []


@pytest.fixture(autouse=True)
def patient_reads(monkeypatch: pytest.MonkeyPatch) -> None:
    """A read of depths in a thread waits for them, however busy the machine is."""
    monkeypatch.setattr(queue_cache, "WAIT_AT_MOST", 30.0)


async def lose_a_worker(engine: Engine) -> None:
    """Lease a job as a worker does that disappears. The broker of the engine has short leases."""
    [lease] = (await engine._broker.exchange("default", [], 1)).leases
    assert lease.id


def receivers_of(namespace: str) -> list[str]:
    """The signals that have receivers for this namespace, sorted."""
    return sorted(signal.name for signal in ALL_SIGNALS if list(signal.receivers_for(namespace)))

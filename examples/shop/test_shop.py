"""Tests of the shop: they use its own application, engine and tasks, and no server."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta

import pytest
import shop
from fastapi.testclient import TestClient

from aiospinach import BrokerUnavailable, signals
from aiospinach.testing import Jobs


@pytest.fixture
def client(jobs: Jobs) -> Iterator[TestClient]:
    """The application with its workers; jobs are in memory before it starts."""
    shop.mails.clear()
    shop.charges.clear()
    with TestClient(shop.app) as client:
        yield client


def test_a_sign_up_sends_a_mail_now_and_one_a_day_later(client: TestClient, jobs: Jobs) -> None:
    client.post("/users/ann")
    jobs.assert_scheduled(shop.mail, "ann", text="Welcome")
    jobs.assert_scheduled(shop.mail, "ann", after=timedelta(days=1), count=1)
    jobs.refute_scheduled(shop.charge)

    jobs.blocking.drain()
    assert shop.mails == ["Welcome, ann!"]

    jobs.blocking.advance(days=1)
    assert "How is it going, ann!" in shop.mails


def test_a_sign_up_while_redis_is_away_is_not_lost_in_silence(client: TestClient, jobs: Jobs) -> None:
    with jobs.outage(), pytest.raises(BrokerUnavailable):
        client.post("/users/ann")
    jobs.refute_scheduled(shop.mail)


def test_a_mail_is_sent_again_after_20_minutes(
    client: TestClient, jobs: Jobs, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch, jobs.capture(signals.job_schedule_retry) as retries:
        patch.setattr(shop, "mails", None)  # the mail server is down
        client.post("/users/ann")
        jobs.blocking.drain(raise_errors=False)
        assert len(retries) == 1
    jobs.blocking.advance(minutes=20)
    assert shop.mails == ["Welcome, ann!"]
    assert jobs.runs(shop.mail) == 2


def test_nobody_pays_twice_if_a_worker_dies(client: TestClient, jobs: Jobs) -> None:
    first, second = jobs.blocking.repeat(shop.charge, 990)
    assert first == second
    assert list(shop.charges.values()) == [990]


def test_the_report_comes_on_mondays(client: TestClient, jobs: Jobs) -> None:
    jobs.blocking.advance(days=28)
    assert jobs.runs(shop.weekly_report) == 4

"""The contract: jobs are listed place by place, each once, in their order."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from aiospinach import JobStatus
from aiospinach.brokers.base import Broker
from aiospinach.brokers.places import JobSeen, LookPlace, Place
from aiospinach.brokers.records import Lease, Settlement
from aiospinach.brokers.reports import WorkerReport
from aiospinach.outcome import Action

from .. import asking
from .conftest import make_dead, put, settle, take


async def listed(
    broker: Broker, queue: str, place: Place, limit: int = 100, *, task: str = ""
) -> list[JobSeen]:
    """All jobs of a place, in pages of ``limit``."""
    found: list[JobSeen] = []
    position: str | None = ""
    while position is not None:
        page = await broker.look(queue, LookPlace(place, position, limit, 2 * limit, task))
        assert len(page.jobs) <= limit
        assert len(page.jobs) <= page.looks <= 2 * limit
        assert all(seen.place is place for seen in page.jobs)
        if page.jobs and len(page.jobs) == page.looks and page.position is not None:
            assert page.position == page.jobs[-1].after
        found += page.jobs
        position = page.position
    return found


def ids(found: Sequence[JobSeen]) -> list[str]:
    return [seen.job.id for seen in found]


async def fill(broker: Broker, queue: str, place: Place, count: int) -> list[str]:
    """Bring so many jobs to a place; returns their ids in the order of the listing."""
    names = [f"job-{number:02}" for number in range(count)]
    now = broker.now()
    if place is Place.FUTURE:
        for number, name in enumerate(names):
            await put(broker, queue, name, at=now + 60_000 + number // 3)
        return names
    if place is Place.LANES:
        await broker.register(queue, {"send": 1, "other": 1}, {})
        await put(broker, queue, "runs", task="send")
        await put(broker, queue, "too", task="other")
        await put(broker, queue, *names[::2], task="other")
        await put(broker, queue, *names[1::2], task="send")
        assert len(await take(broker, queue)) == 2
        return names[::2] + names[1::2]
    if place is Place.DEAD:
        await make_dead(broker, queue, *names)
        return names[::-1]
    await put(broker, queue, *names)
    if place is Place.PARKED:
        leases = await take(broker, queue)
        await broker.exchange(queue, [Settlement(lease, Action.PARK) for lease in leases], 0)
    elif place is Place.LEASES:
        await broker.sweep([queue], WorkerReport("web-1"))
        for _ in range(0, count, 4):
            await take(broker, queue, 4)
    return names


@pytest.mark.parametrize("limit", [1, 2, 3, 5, 7, 100])
@pytest.mark.parametrize("place", Place)
async def test_a_place_is_listed_in_order_and_in_pages(
    broker: Broker, queue: str, place: Place, limit: int
) -> None:
    expected = await fill(broker, queue, place, 7)
    found = await listed(broker, queue, place, limit)
    assert ids(found) == expected
    assert [seen.place.status for seen in found] == [place.status] * 7
    for other in Place:
        count = {Place.LEASES: 2 if place is Place.LANES else 0}.get(other, 0)
        assert len(await listed(broker, queue, other)) == (7 if other is place else count)


@pytest.mark.parametrize("place", Place)
async def test_only_jobs_of_a_task_are_listed(broker: Broker, queue: str, place: Place) -> None:
    expected = await fill(broker, queue, place, 6)
    tasks = {seen.job.id: seen.job.task for seen in await listed(broker, queue, place)}
    for task in ("send", "other", "nobodys"):
        found = ids(await listed(broker, queue, place, 2, task=task))
        assert found == [job_id for job_id in expected if tasks[job_id] == task]


async def test_a_page_looks_at_a_limited_number_of_jobs(broker: Broker, queue: str) -> None:
    await put(broker, queue, *(f"job-{number}" for number in range(20)))
    await put(broker, queue, "last", task="other")
    page = await broker.look(queue, LookPlace(Place.READY, "", 5, 10, "other"))
    assert (list(page.jobs), page.looks) == ([], 10)
    assert page.position is not None
    page = await broker.look(queue, LookPlace(Place.READY, page.position, 5, 100, "other"))
    assert (ids(page.jobs), page.looks, page.position) == (["last"], 11, None)


async def test_a_running_job_has_its_start_its_end_and_its_worker(broker: Broker, queue: str) -> None:
    before = broker.now()
    await broker.sweep([queue], WorkerReport("web-1"))
    await put(broker, queue, "a")
    await take(broker, queue)
    after = broker.now()
    [seen] = await listed(broker, queue, Place.LEASES)
    assert seen.lease is not None
    assert before <= seen.lease.started <= after
    assert before + broker.lease * 1000 - 2 <= seen.lease.ends <= after + broker.lease * 1000 + 2
    assert seen.lease.worker == "web-1"


async def test_a_worker_that_has_not_reported_has_no_name(broker: Broker, queue: str) -> None:
    await put(broker, queue, "a")
    await take(broker, queue)
    [seen] = await listed(broker, queue, Place.LEASES)
    assert seen.lease is not None
    assert seen.lease.worker == ""


async def test_renewals_do_not_change_the_order_of_running_jobs(broker: Broker, queue: str) -> None:
    expected = await fill(broker, queue, Place.LEASES, 8)
    page = await broker.look(queue, LookPlace(Place.LEASES, "", 3, 3))
    leases = await asking_leases(broker, queue)
    await broker.renew(queue, leases[:3])
    assert page.position is not None
    rest = await broker.look(queue, LookPlace(Place.LEASES, page.position, 100, 100))
    assert ids(page.jobs) + ids(rest.jobs) == expected


async def asking_leases(broker: Broker, queue: str) -> list[str]:
    page = await broker.look(queue, LookPlace(Place.LEASES, "", 100, 100))
    return [seen.after for seen in page.jobs]


async def test_a_dead_job_has_its_record(broker: Broker, queue: str) -> None:
    await make_dead(broker, queue, "a")
    [seen] = await listed(broker, queue, Place.DEAD)
    assert seen.dead is not None
    assert (seen.dead.job, seen.dead.detail) == (seen.job, b"why a")


async def test_cancelled_jobs_are_not_listed(broker: Broker, queue: str) -> None:
    await broker.register(queue, {"other": 1}, {})
    await put(broker, queue, "runs", task="other")
    await take(broker, queue)
    await put(broker, queue, "a", "b", "c", task="other")
    await take(broker, queue)
    await put(broker, queue, "d", "e", "f")
    for gone in "be":
        assert (await asking.cancel(broker, queue, gone)).status is JobStatus.QUEUED
    assert ids(await listed(broker, queue, Place.LANES, 1)) == ["a", "c"]
    assert ids(await listed(broker, queue, Place.READY, 1)) == ["d", "f"]


async def listed_from(broker: Broker, queue: str, place: Place, position: str | None) -> list[str]:
    found: list[str] = []
    while position is not None:
        page = await broker.look(queue, LookPlace(place, position, 2, 2))
        found += ids(page.jobs)
        position = page.position
    return found


async def test_a_listing_of_the_line_goes_on_after_its_head_was_leased(broker: Broker, queue: str) -> None:
    expected = await fill(broker, queue, Place.READY, 9)
    page = await broker.look(queue, LookPlace(Place.READY, "", 4, 4))
    assert ids(page.jobs) == expected[:4]
    for leased in range(1, 9):  # the last job of the page leaves as the fourth
        await take(broker, queue, 1)
        assert await listed_from(broker, queue, Place.READY, page.position) == expected[max(4, leased) :]


async def test_a_listing_gets_past_cancelled_jobs(broker: Broker, queue: str) -> None:
    names = await fill(broker, queue, Place.READY, 9)
    for gone in names[:8]:
        await asking.cancel(broker, queue, gone)
    assert await listed_from(broker, queue, Place.READY, "") == names[8:]


async def test_a_listing_of_the_line_goes_on_after_jobs_came_back(broker: Broker, queue: str) -> None:
    expected = await fill(broker, queue, Place.READY, 9)
    leases = await take(broker, queue, 2)
    page = await broker.look(queue, LookPlace(Place.READY, "", 3, 3))
    assert ids(page.jobs) == expected[2:5]
    await broker.exchange(queue, [Settlement(lease, Action.RELEASE) for lease in leases], 0)
    assert await listed_from(broker, queue, Place.READY, page.position) == expected[5:]


@pytest.mark.parametrize("place", [Place.FUTURE, Place.PARKED, Place.DEAD, Place.LEASES])
async def test_a_listing_goes_on_after_its_last_job_has_left(
    broker: Broker, queue: str, place: Place
) -> None:
    """Several jobs are due at the same moment."""
    expected = await fill(broker, queue, place, 9)
    for count in (1, 2, 4, 5):
        page = await broker.look(queue, LookPlace(place, "", count, count))
        assert ids(page.jobs) == expected[:count]
        gone = expected.pop(count - 1)
        if place is Place.DEAD:
            assert await asking.discard(broker, queue, gone)
        elif place is Place.LEASES:
            [lease] = [seen for seen in page.jobs if seen.job.id == gone]
            assert await settle_by_name(broker, queue, lease)
        else:
            await asking.cancel(broker, queue, gone)
        assert await listed_from(broker, queue, place, page.position) == expected[count - 1 :]


async def settle_by_name(broker: Broker, queue: str, seen: JobSeen) -> bool:
    return await settle(broker, queue, Lease(seen.after, seen.job, 0.0), Action.DONE)


async def test_an_empty_queue_has_no_pages(broker: Broker, queue: str) -> None:
    for place in Place:
        page = await broker.look(queue, LookPlace(place))
        assert (list(page.jobs), page.looks, page.position) == ([], 0, None)


async def test_a_retry_keeps_the_class_of_its_error(broker: Broker, queue: str) -> None:
    await put(broker, queue, "a", max_retries=5)
    [lease] = await take(broker, queue)
    assert lease.job.error == ""
    refused = "shop.mail.<locals>.Refused"
    for error, kept in [("", ""), ("builtins.ValueError",) * 2, (refused, refused), ("", refused)]:
        await settle(broker, queue, lease, Action.RETRY, detail=error.encode())
        await asyncio.sleep(0.002)
        [lease] = await take(broker, queue)
        assert lease.job.error == kept
    assert (lease.job.retries, lease.job.body) == (4, b"body of a")


async def test_a_requeued_job_has_no_error(broker: Broker, queue: str) -> None:
    await put(broker, queue, "a", max_retries=3)
    [lease] = await take(broker, queue)
    await settle(broker, queue, lease, Action.RETRY, detail=b"builtins.ValueError")
    [lease] = await take(broker, queue)
    await settle(broker, queue, lease, Action.FAIL, detail=b"{}")
    [dead] = await asking.dead(broker, queue)
    assert dead.job.error == "builtins.ValueError"
    assert await asking.requeue(broker, queue, "a")
    [lease] = await take(broker, queue)
    assert (lease.job.error, lease.job.retries) == ("", 0)


async def test_dead_jobs_of_one_moment_are_listed_after_others_were_requeued(
    broker: Broker, queue: str
) -> None:
    names = [f"job-{number:03}" for number in range(250)]
    await put(broker, queue, *names)
    settled = [Settlement(lease, Action.FAIL) for lease in await take(broker, queue, 250)]
    await broker.exchange(queue, settled, 0)
    found: list[str] = []
    position: str | None = ""
    while position is not None:
        page = await broker.look(queue, LookPlace(Place.DEAD, position, 100, 100))
        for job_id in ids(page.jobs):
            assert await asking.requeue(broker, queue, job_id)
        found += ids(page.jobs)
        position = page.position
    assert found == names[::-1]

"""An event exists exactly if its transition does, and a reader gets it once."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any

import pytest

from aiospinach import InvalidValue, MemoryBroker, Progress, RedisBroker
from aiospinach.brokers.base import Broker
from aiospinach.brokers.bulk import CancelSome
from aiospinach.brokers.events import (
    START,
    EventPage,
    EventPlace,
    LatestRows,
    LookEvents,
    LookLatestEvents,
    Position,
    StoredEvent,
)
from aiospinach.brokers.places import LookJobFacts, LookPlace, Place
from aiospinach.brokers.progress import STEPS_KEPT, Step
from aiospinach.brokers.questions import Cancel
from aiospinach.brokers.records import Envelope, Firing, Lease, Settlement
from aiospinach.outcome import Action

from ..brokers_under_test import BROKERS, MakeBroker
from ..waiting import until
from .conftest import LEASE, ids, job, put, put_and_take, take, take_when_expired

ROWS = 100
WORKER = "web-1"


@pytest.fixture(params=BROKERS)
async def broker(request: pytest.FixtureRequest, namespace: str) -> AsyncIterator[Broker]:
    """An open broker that keeps ROWS rows of events."""
    make: MakeBroker = request.param
    broker = make(lease=LEASE, events=ROWS)
    await broker.open(namespace)
    await broker.register("mail", {"send": 0}, {}, WORKER)
    yield broker
    await broker.aclose()


async def page_of(
    broker: Broker, queue: str, after: Position | None = None, limit: int = 1000, **fields: Any
) -> EventPage:
    return await broker.look(queue, LookEvents(after, limit, **fields))


async def events_of(broker: Broker, queue: str, after: Position | None = None) -> list[StoredEvent]:
    """All events behind a place."""
    page = await page_of(broker, queue, after)
    assert not page.is_lost
    return [event for row in page.rows for event in row.events]


async def new_events(broker: Broker, queue: str, after: Position) -> list[tuple[str, str]]:
    """The names and ids of events behind a place."""
    return [(event.name, event.job_id) for event in await events_of(broker, queue, after)]


async def end_of(broker: Broker, queue: str) -> Position:
    return (await page_of(broker, queue, None, 0)).end


def settlement(lease: Lease, action: Action, **fields: Any) -> Settlement:
    return Settlement(lease, action, **{"duration": 0.25, **fields})


async def test_a_job_that_succeeds_has_three_events(broker: Broker, queue: str) -> None:
    before = broker.now()
    lease = await put_and_take(broker, queue, "a", at_once=True)
    await broker.exchange(queue, [settlement(lease, Action.DONE)], 0)
    scheduled, started, finished = await events_of(broker, queue)
    assert (scheduled.name, scheduled.worker, scheduled.data) == ("job_scheduled", "", {})
    assert (started.name, started.worker, started.data) == ("job_started", WORKER, {})
    assert (finished.name, finished.worker, finished.data) == ("job_finished", WORKER, {"duration": 0.25})
    for event in (scheduled, started, finished):
        assert (event.job_id, event.task) == ("a", "send")
        assert before - 1000 <= event.at <= broker.now() + 1000


async def test_a_job_for_later_has_its_due(broker: Broker, queue: str) -> None:
    due = broker.now() + 3_600_000
    await put(broker, queue, "a", at=due)
    [event] = await events_of(broker, queue)
    assert event.data == {"due": datetime.fromtimestamp(due / 1000, UTC)}


@pytest.mark.parametrize(
    ("action", "fields", "expected"),
    [
        (Action.RETRY, {"delay": 60.0, "error": "builtins.ValueError"}, "job_schedule_retry"),
        (Action.FAIL, {"error": "builtins.ValueError", "detail": b"{}"}, "job_failed"),
        (Action.CANCELLED, {"error": "aiospinach.JobCancelled"}, "job_cancelled"),
    ],
)
async def test_other_outcomes_come_before_the_end_of_the_run(
    broker: Broker, queue: str, action: Action, fields: dict[str, Any], expected: str
) -> None:
    lease = await put_and_take(broker, queue, "a")
    start = await end_of(broker, queue)
    await broker.exchange(queue, [settlement(lease, action, **fields)], 0)
    outcome, finished = await events_of(broker, queue, start)
    assert (outcome.name, outcome.worker) == (expected, WORKER)
    assert outcome.data.get("error") == (None if action is Action.CANCELLED else fields["error"])
    assert ("due" in outcome.data) == (action is Action.RETRY)
    assert (finished.name, finished.data) == ("job_finished", {"duration": 0.25, "error": fields["error"]})


async def test_a_release_of_a_job_that_has_not_run_has_no_event(broker: Broker, queue: str) -> None:
    await put(broker, queue, "a", "b", "c")
    a, b, c = await take(broker, queue)
    start = await end_of(broker, queue)
    settled = [
        settlement(a, Action.RELEASE, duration=-1.0),
        settlement(b, Action.RELEASE, error="aiospinach.Interrupted"),
        settlement(c, Action.PARK, duration=-1.0),
    ]
    await broker.exchange(queue, settled, 0)
    assert await new_events(broker, queue, start) == [("job_finished", "b")]


async def test_a_fenced_settlement_has_no_event(broker: Broker, queue: str) -> None:
    await put(broker, queue, "a", "b", "c", "d")
    leases = await take(broker, queue)
    await broker.exchange(queue, [settlement(leases[1], Action.DONE)], 0)
    start = await end_of(broker, queue)
    late = [settlement(lease, Action.DONE, duration=float(number)) for number, lease in enumerate(leases)]
    late[3] = settlement(leases[3], Action.FAIL, detail=b"{}")
    exchanged = await broker.exchange(queue, [*late, late[3]], 0)
    assert list(exchanged.fenced) == [leases[1].id, leases[3].id]
    events = await events_of(broker, queue, start)
    assert [(event.name, event.job_id) for event in events] == [
        ("job_finished", "a"),
        ("job_finished", "c"),
        ("job_failed", "d"),
        ("job_finished", "d"),
    ]
    assert [event.data["duration"] for event in events if event.name == "job_finished"] == [0.0, 2.0, 0.25]


async def test_a_retry_of_a_cancelled_job_is_its_cancellation(broker: Broker, queue: str) -> None:
    await put(broker, queue, "a", "b")
    a, b = await take(broker, queue)
    start = await end_of(broker, queue)
    await broker.steer(queue, Cancel("a"))
    assert await new_events(broker, queue, start) == []
    await broker.exchange(queue, [settlement(a, Action.RETRY), settlement(b, Action.RETRY)], 0)
    assert await new_events(broker, queue, start) == [
        *(("job_cancelled", "a"), ("job_finished", "a")),
        *(("job_schedule_retry", "b"), ("job_finished", "b")),
    ]


async def test_a_cancelled_job_that_did_not_run_has_one_event(broker: Broker, queue: str) -> None:
    await put(broker, queue, "a", "b", "c")
    await put(broker, queue, "d", at=broker.now() + 3_600_000)
    start = await end_of(broker, queue)
    await broker.steer(queue, Cancel("b"))
    await broker.steer(queue, Cancel("b"))
    cursor: Any = None
    while True:
        result = await broker.steer(queue, CancelSome("", with_jobs=False, cursor=cursor))
        if (cursor := result.cursor) is None:
            break
    events = await new_events(broker, queue, start)
    assert events[0] == ("job_cancelled", "b")
    assert sorted(events) == [("job_cancelled", job_id) for job_id in "abcd"]
    assert await take(broker, queue) == []
    assert len(await new_events(broker, queue, start)) == 4


async def test_a_successor_is_scheduled_as_the_job_ends(broker: Broker, queue: str) -> None:
    await put(broker, queue, "a", "b")
    a, b = await take(broker, queue)
    start = await end_of(broker, queue)
    await broker.steer(queue, Cancel("b"))
    later = broker.now() + 3_600_000
    settled = [
        settlement(a, Action.DONE, successor=job("a", at=later)),
        settlement(b, Action.DONE, successor=job("b", at=later)),
    ]
    await broker.exchange(queue, settled, 0)
    assert await new_events(broker, queue, start) == [
        *(("job_finished", "a"), ("job_scheduled", "a")),
        ("job_finished", "b"),
    ]


async def test_duplicates_have_no_event(broker: Broker, queue: str) -> None:
    assert await broker.enqueue(queue, [job("a"), job("a"), job("b", task="other")]) == [True, False, True]
    assert await broker.enqueue(queue, [job("a"), job("b", task="other")]) == [False, False]
    assert await new_events(broker, queue, START) == [("job_scheduled", "a"), ("job_scheduled", "b")]
    assert [event.task for event in await events_of(broker, queue)] == ["send", "other"]


async def test_a_tick_of_a_periodic_task_is_scheduled_once(broker: Broker, queue: str) -> None:
    await broker.register(queue, {"send": 0}, {"send": 1000}, WORKER)
    tick = Firing("send", 1000, broker.now() + 60_000, Envelope("send@1000", "send", b"[[],{}]", 1000))
    await broker.fire(queue, [tick])
    await broker.fire(queue, [tick])
    assert await new_events(broker, queue, START) == [("job_scheduled", "send@1000")]


async def test_a_lost_job_has_no_end_of_a_run(broker: Broker, queue: str) -> None:
    await put_and_take(broker, queue, "a")
    start = await end_of(broker, queue)
    [lost] = await take_when_expired(broker, queue)
    assert await new_events(broker, queue, start) == []
    retried = settlement(lost, Action.RETRY, duration=-1.0, error="aiospinach.exceptions.WorkerLost")
    await broker.exchange(queue, [retried], 0)
    assert await new_events(broker, queue, start) == [("job_schedule_retry", "a")]


async def test_the_jobs_of_several_tasks_keep_their_order(broker: Broker, queue: str) -> None:
    jobs = [job(f"j{number}", task=("send", "read", "send")[number % 3]) for number in range(250)]
    await broker.enqueue(queue, jobs)
    leases = await take(broker, queue, 250)
    assert ids(leases) == [each.id for each in jobs]
    settled = [settlement(lease, Action.DONE, duration=number) for number, lease in enumerate(leases)]
    await broker.exchange(queue, settled, 0)
    events = await events_of(broker, queue)
    for name in ("job_scheduled", "job_started", "job_finished"):
        found = [event for event in events if event.name == name]
        assert [(event.job_id, event.task) for event in found] == [(each.id, each.task) for each in jobs]
    assert [event.data["duration"] for event in events[500:]] == list(range(250))


async def test_a_reader_goes_on_behind_any_row(broker: Broker, queue: str) -> None:
    for number in range(20):
        await put(broker, queue, f"j{number}")
    page = await page_of(broker, queue)
    assert [row.events[0].job_id for row in page.rows] == [f"j{number}" for number in range(20)]
    assert page.end == page.rows[-1].position
    for number, row in enumerate(page.rows):
        rest = await page_of(broker, queue, row.position, 3)
        assert rest.rows == page.rows[number + 1 : number + 4]
        again = await page_of(broker, queue, row.position, 3, with_first=True)
        assert again.rows == page.rows[number : number + 3]


async def test_a_place_behind_which_rows_were_dropped_is_lost(broker: Broker, queue: str) -> None:
    assert (await page_of(broker, queue)).rows == []
    await put(broker, queue, "first")
    first = await end_of(broker, queue)
    for number in range(3 * ROWS):
        await put(broker, queue, f"j{number}")
    for place in (START, first):
        page = await page_of(broker, queue, place)
        assert page.is_lost
        assert not page.has_gone_back
        assert page.rows == []
    kept = (await page_of(broker, queue)).rows
    assert ROWS <= len(kept) < 3 * ROWS
    assert kept[-1].events[0].job_id == f"j{3 * ROWS - 1}"
    assert (await page_of(broker, queue, kept[0].position)).rows == kept[1:]


async def test_a_place_that_the_store_has_not_reached_is_lost(broker: Broker, queue: str) -> None:
    await put(broker, queue, "a")
    moment, number = end = await end_of(broker, queue)
    for place in ((moment, number + 1), (moment + 1, 0)):
        page = await page_of(broker, queue, place)
        assert (page.is_lost, page.has_gone_back, page.end, page.rows) == (True, True, end, [])
    assert not (await page_of(broker, queue, end)).is_lost
    await broker.flush(queue)
    assert (await page_of(broker, queue, end)).end == START


async def test_a_place_between_rows_is_of_another_history(broker: Broker, queue: str) -> None:
    """A new master may have gone on: its rows are before and behind the place of a row that is lost."""
    await put(broker, queue, "a")
    moment, number = before = await end_of(broker, queue)
    await until(lambda: broker.now() > moment + 1, "the clock has gone on")
    await put(broker, queue, "b")
    for place in ((moment, number + 1), (moment + 1, 0)):
        for with_first in (True, False):
            page = await page_of(broker, queue, place, with_first=with_first)
            assert (page.is_lost, page.has_gone_back, page.end, page.rows) == (True, True, before, [])
    assert await new_events(broker, queue, page.end) == [("job_scheduled", "b")]
    place = (moment - 1, 0)
    page = await page_of(broker, queue, place)
    assert (page.is_lost, page.has_gone_back, page.end) == (True, True, START)


async def test_a_wait_ends_with_an_event_of_one_of_its_queues(
    broker: Broker, queue: str, other_queue: str
) -> None:
    places = {queue: EventPlace(), other_queue: EventPlace()}
    waiting = asyncio.create_task(broker.wait_for_events(places, 600))
    await put(broker, other_queue, "a")
    await asyncio.wait_for(waiting, 10)
    await asyncio.wait_for(broker.wait_for_events(places, 600), 10)  # the event has come already
    places[other_queue] = EventPlace(await end_of(broker, other_queue))
    await broker.wait_for_events(places, 0.01)
    waiting = asyncio.create_task(broker.wait_for_events(places, 600))
    await asyncio.sleep(0)
    waiting.cancel()
    await asyncio.wait([waiting])
    waiting = asyncio.create_task(broker.wait_for_events(places, 600))
    await put(broker, other_queue, "b")
    await asyncio.wait_for(waiting, 10)


@pytest.mark.parametrize("number", [-1, True, 1.5, "many", 1_000_001])
async def test_a_wrong_number_of_rows_is_refused(broker: Broker, number: Any) -> None:
    with pytest.raises(InvalidValue, match="events="):
        (MemoryBroker if isinstance(broker, MemoryBroker) else RedisBroker)(events=number)


async def steps_of(broker: Broker, queue: str, after: Position = START) -> list[StoredEvent]:
    page = await page_of(broker, queue, None, 100, steps_after=after)
    assert all(row.is_step for row in page.steps)
    assert not page.steps or page.end_of_steps == page.steps[-1].position
    return [event for row in page.steps for event in row.events]


async def progress_of(broker: Broker, queue: str, job_id: str) -> Progress | None:
    facts = await broker.look(queue, LookJobFacts(job_id))
    [listed] = [None] if facts.seen is None else [facts.seen.lease]
    page = await broker.look(queue, LookPlace(Place.LEASES))
    in_page = [seen.lease.progress for seen in page.jobs if seen.lease and seen.job.id == job_id]
    assert in_page == ([] if listed is None else [listed.progress])
    return None if listed is None else listed.progress


async def test_the_last_step_of_a_running_job_is_kept(broker: Broker, queue: str) -> None:
    lease = await put_and_take(broker, queue, "a")
    assert await progress_of(broker, queue, "a") is None
    for step in (Step(1), Step(2**63 - 1, 0.1 + 0.2, 'rows é\n "two" words'), Step(-0.5, None, "")):
        before = broker.now()
        await broker.note_progress(queue, {lease.id: ("send", step)})
        progress = await progress_of(broker, queue, "a")
        assert progress is not None
        assert (progress.current, progress.total, progress.note) == (step.current, step.total, step.note)
        assert type(progress.current) is type(step.current)
        assert before - 1000 <= progress.at.timestamp() * 1000 <= broker.now() + 1000


@pytest.mark.parametrize("action", list(Action))
async def test_progress_is_gone_with_its_run(broker: Broker, queue: str, action: Action) -> None:
    await put(broker, queue, "a", "b")
    a, b = await take(broker, queue)
    await broker.note_progress(queue, {each.id: ("send", Step(1)) for each in (a, b)})
    await broker.exchange(queue, [settlement(a, action, detail=b"{}")], 0)
    for lease in await take(broker, queue):
        assert await progress_of(broker, queue, lease.job.id) is None
    await broker.note_progress(queue, {a.id: ("send", Step(2))})  # it comes late
    for seen in (await broker.look(queue, LookPlace(Place.LEASES))).jobs:
        assert seen.lease is not None
        assert (seen.lease.progress is not None) == (seen.job.id == "b")


async def test_progress_of_a_lost_job_is_gone(broker: Broker, queue: str) -> None:
    lease = await put_and_take(broker, queue, "a")
    await broker.note_progress(queue, {lease.id: ("send", Step(1))})
    [lost] = await take_when_expired(broker, queue)
    assert await progress_of(broker, queue, "a") is None
    await broker.note_progress(queue, {lease.id: ("send", Step(2))})
    assert await progress_of(broker, queue, "a") is None
    await broker.exchange(queue, [settlement(lost, Action.FAIL, detail=b"{}")], 0)


async def test_readers_that_wait_get_steps(broker: Broker, queue: str) -> None:
    lease = await put_and_take(broker, queue, "a")
    page = await page_of(broker, queue, None, 0, steps_after=START)
    places = {queue: EventPlace(page.end, page.end_of_steps)}
    waiting = asyncio.create_task(broker.wait_for_events(places, 600))
    await asyncio.sleep(0)
    await broker.note_progress(queue, {lease.id: ("send", Step(3, 10, "rows"))})
    await asyncio.wait_for(waiting, 10)
    [event] = await steps_of(broker, queue)
    assert (event.name, event.job_id, event.task, event.worker) == ("job_progress", "a", "send", WORKER)
    assert event.data == {"current": 3, "total": 10, "note": "rows"}
    page = await page_of(broker, queue, None, 0, steps_after=START)
    assert await steps_of(broker, queue, page.end_of_steps) == []
    assert len(await events_of(broker, queue)) == 2  # steps push no other event out


async def test_a_few_hundred_steps_are_kept_at_most(broker: Broker, queue: str) -> None:
    lease = await put_and_take(broker, queue, "a")
    for number in range(4 * STEPS_KEPT):
        await broker.note_progress(queue, {lease.id: ("send", Step(number))})
    page = await broker.look(queue, LookEvents(None, 1000, steps_after=START))
    assert STEPS_KEPT <= len(page.steps) < 3 * STEPS_KEPT
    assert page.steps[-1].events[0].data["current"] == 4 * STEPS_KEPT - 1


async def test_the_progress_of_ended_leases_is_not_kept_in_memory() -> None:
    broker = MemoryBroker()
    lease = await put_and_take(broker, "mail", "a")
    await broker.note_progress("mail", {lease.id: ("send", Step(1)), "gone": ("send", Step(2))})
    assert set(broker._queues["mail"].leases.progress) == {lease.id}
    await broker.exchange("mail", [settlement(lease, Action.DONE)], 0)
    assert broker._queues["mail"].leases.progress == {}


async def latest(broker: Broker, queue: str, up_to: Position | None = None, limit: int = 1000) -> LatestRows:
    return await broker.look(queue, LookLatestEvents(up_to, limit))


async def test_the_latest_rows_come_first_up_to_any_row(broker: Broker, queue: str) -> None:
    assert await latest(broker, queue) == LatestRows([])
    for number in range(20):
        await put(broker, queue, f"j{number}")
    rows = [*reversed((await page_of(broker, queue)).rows)]
    assert await latest(broker, queue) == LatestRows(rows)
    for number, row in enumerate(rows):
        assert await latest(broker, queue, row.position, 3) == LatestRows(rows[number : number + 3])
    moment, _ = rows[0].position
    assert await latest(broker, queue, (moment + 1, 0), 2) == LatestRows(rows[:2])
    assert await latest(broker, queue, START) == LatestRows([])


async def test_the_latest_rows_know_whether_others_were_dropped(broker: Broker, queue: str) -> None:
    for number in range(3 * ROWS):
        await put(broker, queue, f"j{number}")
    kept = (await page_of(broker, queue)).rows
    found = await latest(broker, queue)
    assert [*reversed(found.rows)] == kept
    assert found.dropped_before == kept[0].position

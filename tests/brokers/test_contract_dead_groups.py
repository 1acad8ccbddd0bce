"""Dead jobs are counted by task and error, and chosen by their error."""

from __future__ import annotations

from collections import Counter

import pytest

from aiospinach.brokers.base import Broker
from aiospinach.brokers.bulk import SteerDead
from aiospinach.brokers.dead_groups import LookDeadGroups
from aiospinach.brokers.records import Settlement
from aiospinach.failures import describe
from aiospinach.outcome import Action

from .. import asking
from .conftest import ids, put, put_and_take, settle, take

VALUE = describe(ValueError("x" * 500), "exhausted")
KEY = describe(KeyError("a"), "aborted")
QUOTED = rb'{"reason":"exhausted","error":"odd.\"Name\\","message":"","traceback":""}'


async def die(broker: Broker, queue: str, detail: bytes, *names: str, task: str = "send") -> None:
    for name in names:
        lease = await put_and_take(broker, queue, name, task=task)
        assert await settle(broker, queue, lease, Action.FAIL, detail=detail)


async def groups_of(broker: Broker, queue: str) -> dict[tuple[str, str], tuple[int, str]]:
    """The counts and the latest ids of all pages, by task and error."""
    counts: Counter[tuple[str, str]] = Counter()
    latest: dict[tuple[str, str], str] = {}
    position: str | None = ""
    while position is not None:
        page = await broker.look(queue, LookDeadGroups(position))
        for row in page.rows:
            assert 0 < row.latest_at <= broker.now()
            counts[row.task, row.error] += row.count
            latest.setdefault((row.task, row.error), row.latest_id)
        position = page.position
    return {group: (count, latest[group]) for group, count in counts.items()}


async def test_groups_have_a_task_and_an_error(broker: Broker, queue: str) -> None:
    assert await groups_of(broker, queue) == {}
    await die(broker, queue, VALUE, "a", "b")
    await die(broker, queue, VALUE, "c", task="other")
    await die(broker, queue, KEY, "d")
    await die(broker, queue, QUOTED, "e")
    await die(broker, queue, b"no JSON", "f")
    assert await groups_of(broker, queue) == {
        ("send", "builtins.ValueError"): (2, "b"),
        ("other", "builtins.ValueError"): (1, "c"),
        ("send", "builtins.KeyError"): (1, "d"),
        ("send", 'odd."Name\\'): (1, "e"),
        ("send", ""): (1, "f"),
    }


@pytest.mark.parametrize("size", [10, 9000])
async def test_many_dead_jobs_are_counted_in_pages(broker: Broker, queue: str, size: int) -> None:
    detail = VALUE[:-2] + b"x" * size + b'"}'
    await put(broker, queue, *(f"job-{number}" for number in range(1250)))
    leases = await take(broker, queue, 1250)
    await broker.exchange(queue, [Settlement(each, Action.FAIL, detail=detail) for each in leases], 0)
    [(count, _)] = (await groups_of(broker, queue)).values()
    assert count == 1250


async def test_pages_stay_right_while_jobs_die_and_are_requeued(broker: Broker, queue: str) -> None:
    await die(broker, queue, VALUE, "a", "b", "c", "d", "e")
    page = await broker.look(queue, LookDeadGroups("", 2))
    assert [(row.count, row.latest_id) for row in page.rows] == [(2, "e")]
    await die(broker, queue, VALUE, "f", "g")
    for gone in ("e", "d"):  # the second one is where the page has ended
        await asking.discard(broker, queue, gone)
        assert page.position
        then = await broker.look(queue, LookDeadGroups(page.position, 10))
        assert [(row.count, row.latest_id) for row in then.rows] == [(3, "c")]
        assert then.position is None


@pytest.mark.parametrize("is_to_run", [True, False])
async def test_dead_jobs_are_chosen_by_their_error(broker: Broker, queue: str, is_to_run: bool) -> None:
    await die(broker, queue, VALUE, "a", "b")
    await die(broker, queue, KEY, "c")
    await die(broker, queue, QUOTED, "d")
    await die(broker, queue, b"no JSON", "e")

    async def steer(error: str, reason: str = "") -> str:
        before = {one.job.id for one in await asking.dead(broker, queue)}
        result = await broker.steer(queue, SteerDead(is_to_run, "send", reason, error=error))
        gone = sorted(before - {one.job.id for one in await asking.dead(broker, queue)})
        assert result.count == len(gone)
        assert ids(await take(broker, queue)) == (gone if is_to_run else [])
        return "".join(gone)

    assert await steer("builtins.Value") == ""
    assert await steer("") == ""
    assert await steer("builtins.ValueError", "aborted") == ""
    assert await steer("builtins.ValueError") == "ab"
    assert await steer('odd."Name\\', "exhausted") == "d"
    assert await steer("builtins.KeyError") == "c"

"""The queues of a namespace are found, and the store says what it is, on every broker."""

from __future__ import annotations

from aiospinach import Broker, RedisBroker

from ..brokers_under_test import shared_server
from ..waiting import until
from .conftest import put, take


async def names(broker: Broker, expected: list[str]) -> None:
    """Return when exactly these queues are found."""
    found: list[str] = []

    async def look() -> None:
        found[:] = await broker.queues()

    await look()
    for _ in range(500):
        if found == expected:
            return
        await look()
    assert found == expected


async def test_queues_with_jobs_or_tasks_are_found(broker: Broker, queue: str, other_queue: str) -> None:
    assert await broker.queues() == []
    await put(broker, queue, "a", "b")
    await broker.register(other_queue, {"send": 0}, {})
    await names(broker, sorted([queue, other_queue]))


async def test_a_question_about_a_queue_does_not_name_it(broker: Broker) -> None:
    assert await take(broker, "empty") == []
    assert await broker.queues() == []


async def test_a_flushed_queue_is_found_again_once_it_is_used(
    broker: Broker, queue: str, other_queue: str
) -> None:
    await put(broker, queue, "a")
    await broker.register(other_queue, {"send": 0}, {})
    await names(broker, sorted([queue, other_queue]))
    await broker.flush(other_queue)
    await names(broker, [queue])
    await broker.register(other_queue, {"send": 0}, {})
    await names(broker, sorted([queue, other_queue]))


async def test_the_store_says_what_it_is(broker: Broker) -> None:
    info = await broker.ping()
    assert info.server in ("memory", "redis", "valkey")
    assert info.version[0].isdigit()
    assert abs(info.clock - broker.now()) < 10_000


async def test_other_processes_find_the_queues_of_this_one(namespace: str) -> None:
    url = shared_server().unix_url
    ours, theirs, others = RedisBroker(url), RedisBroker(url), RedisBroker(url)
    await ours.open(namespace)
    await theirs.open(namespace)
    await others.open(f"{namespace}-2")
    await put(ours, "mail", "a")
    await names(theirs, ["mail"])
    assert await others.queues() == []
    await ours.flush("mail")
    for broker in (ours, theirs, others):
        await broker.aclose()


async def test_a_queue_is_named_once_and_not_for_each_job(namespace: str) -> None:
    server = shared_server()
    broker = RedisBroker(server.unix_url)
    await broker.open(namespace)
    with server.client() as plain:
        before = plain.info("commandstats").get("cmdstat_sadd", {"calls": 0})["calls"]
        for number in range(20):
            await put(broker, "mail", f"job-{number}")
        await broker.register("mail", {"send": 0}, {})
        await names(broker, ["mail"])
        # The scripts add no member of a set for jobs without an id of the user.
        assert plain.info("commandstats")["cmdstat_sadd"]["calls"] == before + 1
    await broker.flush("mail")
    await broker.aclose()


async def test_a_user_without_rights_on_the_names_schedules_all_the_same(namespace: str) -> None:
    server = shared_server()
    user = f"few-{namespace}"
    with server.client() as plain:
        plain.execute_command(
            *("ACL", "SETUSER", user, "on", ">secret", "+@all", f"~ais2:{{{namespace}:mail}}:*", "&*")
        )
        broker = RedisBroker(f"redis://{user}:secret@127.0.0.1:{server.port}/0")
        await broker.open(namespace)
        await put(broker, "mail", "a")
        await until(lambda: not broker._calls.here().naming, "the name was refused")
        assert len(await take(broker, "mail")) == 1
        assert plain.exists(f"ais2:{{{namespace}:}}:queues") == 0
        await broker.aclose()
        plain.execute_command("ACL", "DELUSER", user)

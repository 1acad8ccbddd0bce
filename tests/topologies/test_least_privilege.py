"""The user of docs/production.md suffices for producers and workers, also on a Cluster."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from aiospinach import BrokerError, Engine, RedisBroker

from ..asking import counts
from ..servers import Server
from .conftest import Cluster, raw, spread
from .load import Work

PAGE = (Path(__file__).parents[2] / "docs" / "production.md").read_text()
ON_A_CLUSTER = ("+cluster|slots", "+cluster|shards", "+cluster|nodes")


def rules_for(namespace: str) -> list[str]:
    """The rules of the page, for the namespace of a test."""
    [rules] = re.findall(r"ACL SETUSER shop (.*?)\n```", PAGE, re.S)
    return str(rules).replace("ais2:{shop", f"ais2:{{{namespace}").split()


@pytest.fixture
def users() -> Iterator[list[tuple[Server, str]]]:
    """Servers and names of users, which are removed after the test."""
    made: list[tuple[Server, str]] = []
    yield made
    for server, name in made:
        raw(server.port, "ACL", "DELUSER", name)


async def test_the_user_of_the_docs_suffices_on_a_cluster(
    cluster: Cluster, namespace: str, users: list[tuple[Server, str]], caplog: pytest.LogCaptureFixture
) -> None:
    assert all(rule in PAGE for rule in ON_A_CLUSTER)
    for server in cluster.servers:
        raw(server.port, "ACL", "SETUSER", namespace, *rules_for(namespace), *ON_A_CLUSTER)
        users.append((server, namespace))
    url = cluster.url.replace("//", f"//{namespace}:secret@")
    work = Work(RedisBroker(url, lease=12), namespace, spread(cluster, namespace))
    async with work.engine:
        await work.schedule_all(range(10))
        await work.engine.start_workers(10, work.queues, block=False)
        await work.schedule_all(range(10, 20))
        await work.done()
        await work.engine.overview()
        queued, later = work.queues[0], datetime.now(UTC) + timedelta(days=1)
        job = await work.engine.schedule_at(f"run.{queued}", later, 20)
        await work.engine.pause(queue=queued)
        await work.engine.reschedule(job, None)
        await work.engine.cancel(job)  # it leaves a mark
        async with Engine(
            RedisBroker(url), namespace
        ) as console:  # without tasks, as the command line has it
            assert await console.find_queues() == sorted(work.queues)
            assert set(await console.counts()) == set(work.queues)
            assert await console.check() == []
            assert [pause.queue for pause in await console.pauses()] == [queued]
            assert sum(row.done for row in await console.throughput()) <= 20 * len(work.queues)
            assert (await console.ping()).round_trip > 0
    assert not [record for record in caplog.records if record.levelname == "WARNING"]
    other_broker = RedisBroker(url)
    await other_broker.open("another")
    with pytest.raises(BrokerError, match="ACL"):
        await counts(other_broker, "default")
    await other_broker.aclose()

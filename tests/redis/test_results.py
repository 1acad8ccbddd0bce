"""What results cost in Redis: nothing, for jobs that keep none."""

from __future__ import annotations

from typing import Any

from aiospinach import Engine, RedisBroker

from ..servers import Server
from .conftest import keys_of

OF_RESULTS = {"spublish", "mget", "del"}


async def commands_of(server: Server, namespace: str, count: int, **options: Any) -> dict[str, int]:
    """How often each command ran while a worker did these jobs; workers have subscribed before."""
    async with Engine(RedisBroker(server.url), namespace) as engine:

        @engine.task(**options)
        async def number(value: int) -> int:
            return value

        jobs = [await number.schedule(value) for value in range(count)]
        with server.client() as client:
            client.config_resetstat()
            await engine.start_workers(10, stop_when_queue_empty=True)
            stats: dict[str, Any] = client.info("commandstats")
        if options:
            assert await engine.results(jobs, timeout=10) == list(range(count))
    return {name.removeprefix("cmdstat_"): each["calls"] for name, each in stats.items()}


async def test_a_job_without_results_costs_no_command_of_results(own_server: Server, namespace: str) -> None:
    commands = await commands_of(own_server, namespace, 200)
    assert not OF_RESULTS & set(commands)
    assert commands["set"] < 60, "one for each exchange, of which there are few"
    with own_server.client() as client:
        assert not [name for name in keys_of(client, namespace) if name.startswith("result:")]


async def test_a_job_with_a_result_costs_two_commands_more(own_server: Server, namespace: str) -> None:
    plain = await commands_of(own_server, namespace, 200)
    kept = await commands_of(own_server, namespace + "-kept", 200, result_ttl=60)
    assert kept["spublish"] == 200
    assert kept["set"] - plain["set"] in range(150, 250)
    with own_server.client() as client:
        names = [name for name in keys_of(client, namespace + "-kept") if name.startswith("result:")]
        assert len(names) == 200
        for name in names:
            prefix = f"ais2:{{{namespace}-kept:default}}:"
            assert 0 < client.pttl(prefix + name) <= 60_000

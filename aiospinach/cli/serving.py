"""Runs the workers of an engine in this process, until a signal."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import random
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

from aiospinach import Engine, signals

from .address import Address
from .exits import WELL
from .line import VARIABLE, WorkerEnd
from .probe_server import probes_at
from .probes import Probes
from .queue_options import Queues

logger: logging.Logger = logging.getLogger("aiospinach.cli")

RECYCLED = 75
"""The exit code of a process that has run its share of jobs, and wants a successor."""


@dataclass(frozen=True)
class Share:
    """What one process runs."""

    number: int
    queues: Queues | None
    shutdown_timeout: float
    health: Address | None = None
    recycle_after: int | None = None


async def serve(engine: Engine, share: Share) -> int:
    """Run workers until a signal, or until the supervisor of the process has ended. Returns the exit code."""
    is_supervised = os.environ.pop(VARIABLE, None) is not None  # not for processes that jobs start
    probes = Probes(engine, with_metrics=share.health is not None)
    recycling = Recycling(engine, share.recycle_after) if share.recycle_after is not None else None
    async with engine:
        address = None if is_supervised else share.health
        line = supervised(engine, probes) if is_supervised else contextlib.nullcontext()
        async with probes_at(address, probes.answer), line:
            await engine.start_workers(share.number, share.queues, shutdown_timeout=share.shutdown_timeout)
    return RECYCLED if recycling is not None and recycling.is_over else WELL


class Recycling:
    """Stops the workers after so many jobs.

    Up to a tenth more, so that the processes of a supervisor do not end together.
    """

    def __init__(self, engine: Engine, jobs: int) -> None:
        self._engine = engine
        self._jobs = self._left = jobs + random.randint(0, jobs // 10)
        self._stopping: asyncio.Task[None] | None = None
        signals.job_started.connect(self._on_started, engine.namespace)

    @property
    def is_over(self) -> bool:
        """The workers were stopped since they have run their share."""
        return self._stopping is not None

    def _on_started(self, namespace: str, **kwargs: Any) -> None:
        self._left -= 1
        if self._left <= 0 and self._stopping is None:
            logger.info("recycling after %d jobs: a new process follows this one", self._jobs)
            self._stopping = asyncio.get_running_loop().create_task(self._engine.stop_workers())


@contextlib.asynccontextmanager
async def supervised(engine: Engine, probes: Probes) -> AsyncIterator[WorkerEnd]:
    """Keep the line to the supervisor open while entered. The workers stop if the supervisor ends."""
    stopping: set[asyncio.Task[None]] = set()

    def stop() -> None:
        stopping.add(asyncio.get_running_loop().create_task(engine.stop_workers()))

    line = WorkerEnd(probes.answer, stop)

    def on_up(namespace: str, **kwargs: Any) -> None:
        line.say_up()

    def on_done(namespace: str, **kwargs: Any) -> None:
        line.say_done()

    await line.open()
    signals.worker_started.connect(on_up, engine.namespace)
    signals.worker_terminated.connect(on_done, engine.namespace)
    listening = asyncio.create_task(line.run())
    try:
        yield line
    finally:
        signals.worker_started.disconnect(on_up, engine.namespace)
        signals.worker_terminated.disconnect(on_done, engine.namespace)
        listening.cancel()
        await asyncio.wait([listening, *stopping])

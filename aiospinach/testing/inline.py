"""``jobs.inline()``: schedule calls that run the body before they return."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import msgspec

from ..batch import Batch
from ..engine.producer import Producer
from ..job import Job, JobStatus
from .broker import KeepingBroker

Execute = Callable[[Job], Awaitable[None]]
"""Runs the body of a job here and now. Raises its errors."""


class InlineProducer(Producer):
    """Stores jobs, and runs those that are due. It shares the state of the producer that it stands in for."""

    def __init__(self, producer: Producer, broker: KeepingBroker, execute: Execute) -> None:
        vars(self).update(vars(producer))
        self._kept = broker
        self._execute = execute

    async def schedule(
        self, task: object, at: int | None, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Job:
        return await self._run(await super().schedule(task, at, args, kwargs))

    async def schedule_batch(self, batch: Batch, within: float | None) -> list[Job]:
        return [await self._run(job) for job in await super().schedule_batch(batch, within)]

    async def _run(self, job: Job) -> Job:
        """Run the body of a job that is due. Returns the job as it is then."""
        if job.status is not JobStatus.QUEUED or not self._kept.remove(job.queue, job.id):
            return job
        await self._execute(job)
        return msgspec.structs.replace(job, status=JobStatus.SUCCEEDED)

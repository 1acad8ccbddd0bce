"""Helpers that look up how a job ended."""

from __future__ import annotations

from typing import Any

import msgspec

from aiospinach import Job
from aiospinach.brokers import Broker

from .. import asking
from ..conftest import Heard
from ..waiting import until


async def finish_of(heard: Heard, job: Job) -> dict[str, Any]:
    """Wait for the job_finished of a job, and return its keywords."""
    await until(lambda: "job_finished" in heard.names(job.id), f"job_finished of {job!r}", show=heard.names)
    [finish] = [kwargs for name, kwargs in heard if name == "job_finished" and kwargs["job"] == job]
    return finish


async def reasons_of_death(broker: Broker, queue: str = "default") -> dict[str, str]:
    """The reasons for which jobs of a queue died, by id."""
    return {
        dead.job.id: msgspec.json.decode(dead.detail)["reason"] for dead in await asking.dead(broker, queue)
    }

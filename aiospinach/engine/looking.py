"""Looking: the calls of an engine that ask about its queues and jobs."""

from __future__ import annotations

from collections.abc import AsyncIterator

from ..brokers.base import Broker
from .attached_tasks import AttachedTasks
from .counts import QueueCounts, count_jobs
from .dead_jobs import DeadJob, DeadJobs


class Looking:
    """Answers questions about the queues of attached tasks."""

    namespace: str
    _broker: Broker
    _dead_jobs: DeadJobs
    _tasks: AttachedTasks

    def dead_jobs(self, *, queue: str | None = None) -> AsyncIterator[DeadJob]:
        """Iterate over the jobs that failed for ever, the latest of each queue first.

        ``async for dead in engine.dead_jobs(): ...``. A queue keeps the last 10,000, for 180 days. Raises
        UnknownQueue or a BrokerError.
        """
        return self._dead_jobs.jobs(self._tasks.queues_to_search(queue))

    async def counts(self, *, queue: str | None = None) -> dict[str, QueueCounts]:
        """Count the jobs of each queue of the attached tasks, or of one ``queue``, by their states.

        Returns the counts by queue. Raises UnknownQueue or a BrokerError. A cancellation changes nothing.
        """
        return await count_jobs(self._broker, self.namespace, self._tasks.queues_to_search(queue))

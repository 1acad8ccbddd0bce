"""Stores the jobs of a batch, with one call to the broker for each queue."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Any

from ..brokers.base import Broker
from ..exceptions import AiospinachError, BatchPartlyStored, EnqueueUncertain
from ..job import Job
from .request import Request

OnDuplicate = Callable[[Request], Job]
"""Makes the job of a request that the broker did not store."""
Announce = Callable[[Sequence[Job]], Awaitable[None]]
"""Sends job_scheduled for jobs."""


class BatchOrder:
    """Stores the jobs of one batch, queue by queue. A retry goes on from the uncertain call."""

    def __init__(
        self,
        broker: Broker,
        namespace: str,
        requests: Sequence[Request],
        *,
        on_duplicate: OnDuplicate,
        announce: Announce,
    ) -> None:
        self._broker = broker
        self._namespace = namespace
        self._requests = requests
        self._on_duplicate = on_duplicate
        self._announce = announce
        self.answered_queues: list[str] = []
        self._stored: dict[int, Job] = {}
        """Jobs after the broker's answer, by their places in the batch."""
        self._places: dict[str, list[int]] = {}
        for place, request in enumerate(requests):
            self._places.setdefault(request.queue, []).append(place)

    async def store(self, until: float) -> list[Job]:
        """Store all jobs, until this moment of ``time.monotonic()``. Returns them in the order of the batch.

        Raises EnqueueUncertain, whose retry stores the rest, or another BrokerError. If some queues were
        stored before the error, raises BatchPartlyStored from it.
        """
        return await self._store(list(self._places), [], until)

    async def _continue(self, queues: Sequence[str], answer: Sequence[bool]) -> list[Job]:
        """Store the rest, after an answer for the first of these queues."""
        return await self._store(queues[1:], self._on_answer(queues[0], answer), None)

    async def _store(self, queues: Sequence[str], fresh: list[int], until: float | None) -> list[Job]:
        failure: AiospinachError | None = None
        for number, queue in enumerate(queues):
            envelopes = [self._requests[place].envelope for place in self._places[queue]]
            try:
                fresh += self._on_answer(queue, await self._broker.enqueue(queue, envelopes, until=until))
            except EnqueueUncertain as error:
                failure = with_conclusion(error, partial(self._continue, queues[number:]))
                failure.__cause__ = error
                break
            except AiospinachError as error:
                failure = error
                break
        await self._announce([self._stored[place] for place in sorted(fresh)])
        jobs = [self._stored[place] for place in sorted(self._stored)]
        if failure is None:
            return jobs
        if not jobs:
            raise failure
        raise BatchPartlyStored(
            f"queue {queue!r} of the batch was not stored ({failure}); the {len(jobs)} jobs of"
            f" {', '.join(sorted({job.queue for job in jobs}))} were",
            stored=jobs,
        ) from failure

    def _on_answer(self, queue: str, answer: Sequence[bool]) -> list[int]:
        """Keep the jobs of a queue after the broker's answer. Returns their places."""
        self.answered_queues.append(queue)
        places, namespace = self._places[queue], self._namespace
        for place, is_new in zip(places, answer, strict=True):
            request = self._requests[place]
            self._stored[place] = request.as_job(namespace, True) if is_new else self._on_duplicate(request)
        return list(places)


def with_conclusion(
    error: EnqueueUncertain, conclude: Callable[[list[bool]], Awaitable[Any]]
) -> EnqueueUncertain:
    """The same error; its retry() passes the broker's answer to ``conclude`` and returns the result."""

    async def retry() -> Any:
        try:
            answer = await error.retry()
        except EnqueueUncertain as again:
            raise with_conclusion(again, conclude) from again
        return await conclude(answer)

    return EnqueueUncertain(str(error), retry=retry)

"""The jobs of a batch on their way to the broker."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Any

from ..brokers.base import Broker
from ..exceptions import AiospinachError, BatchPartlyStored, EnqueueUncertain
from ..job import Job
from .request import Request

Accept = Callable[[Request, bool], Job]
"""Makes the job of a request that the broker has answered: True if it is new."""
Announce = Callable[[Sequence[Job]], Awaitable[None]]
"""Sends job_scheduled for jobs."""


class BatchOrder:
    """Stores the jobs with one call for each queue. After an uncertain call, its retry goes on from there."""

    def __init__(
        self, broker: Broker, requests: Sequence[Request], *, accept: Accept, announce: Announce
    ) -> None:
        self._broker = broker
        self._requests = requests
        self._accept = accept
        self._announce = announce
        self._stored: dict[int, Job] = {}
        """Jobs that the broker has answered, by their places in the batch."""
        self._places: dict[str, list[int]] = {}
        for place, request in enumerate(requests):
            self._places.setdefault(request.queue, []).append(place)

    async def store(self, until: float) -> list[Job]:
        """Store all jobs until this moment of ``time.monotonic()``. Returns them in the order of the batch.

        Raises EnqueueUncertain, whose retry stores the rest, or another BrokerError; or BatchPartlyStored if
        some queues were answered before.
        """
        return await self._store(list(self._places), [], until)

    async def _continue(self, queues: Sequence[str], answer: Sequence[bool]) -> list[Job]:
        """Go on with an answer for the first of these queues."""
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
        """The broker has answered for a queue. Returns the places of its jobs."""
        places = self._places[queue]
        for place, is_new in zip(places, answer, strict=True):
            self._stored[place] = self._accept(self._requests[place], is_new)
        return list(places)


def with_conclusion(
    error: EnqueueUncertain, conclude: Callable[[list[bool]], Awaitable[Any]]
) -> EnqueueUncertain:
    """The broker's error, whose retry() also does what follows an answer."""

    async def retry() -> Any:
        try:
            answer = await error.retry()
        except EnqueueUncertain as again:
            raise with_conclusion(again, conclude) from again
        return await conclude(answer)

    return EnqueueUncertain(str(error), retry=retry)

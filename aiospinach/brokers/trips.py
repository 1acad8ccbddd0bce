"""Concurrent ``schedule`` calls share round trips."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import msgspec

from ..exceptions import BrokerError, BrokerUnavailable, EnqueueUncertain, JobIdInUse
from . import wire
from .base import Envelope
from .failures import Unanswered
from .links import rest

JOBS_AT_MOST = 1000
BYTES_AT_MOST = 1024 * 1024
LONGEST_PAUSE = 1.0


class Call(msgspec.Struct, frozen=True):
    """The jobs of one caller, who waits for the answer."""

    arguments: list[Any]
    count: int
    size: int
    answer: asyncio.Future[list[bool]]
    token: str | None = None
    """The caller's own; it travels alone then."""


class Trip:
    """What one script call carries. A repeat is identical, so that it is known as a repeat."""

    def __init__(self, calls: Sequence[Call], token: str) -> None:
        self.calls = calls
        self.token = token
        self.was_sent = False
        self.is_split = False
        """An id in use refused it, so each of its calls travels alone."""
        self.arguments: list[Any] = [token]
        for call in calls:
            self.arguments += call.arguments

    def alone(self, number: int) -> Trip:
        """One of its calls, which is known again as that one."""
        return Trip([self.calls[number]], f"{self.token}+{number}")


SendTrip = Callable[[Trip, float], Awaitable[list[Any]]]
"""Sends a trip, and gives back its answer, or raises BrokerUnavailable at a moment of time.monotonic()."""


class Trips:
    """The trips of one queue, one at a time: what is scheduled meanwhile goes with the next.

    They run in a task of their own, so that a caller who is cancelled abandons the answer, not the call.
    """

    def __init__(self, queue: str, send: SendTrip, *, within: float, session: str) -> None:
        self._tokens = (f"{session}.{number}" for number in itertools.count())
        self._queue = queue
        self._send = send
        self._within = within
        self._waiting: deque[Call] = deque()
        self._task: asyncio.Task[None] | None = None

    async def store(self, jobs: Sequence[Envelope], token: str | None) -> list[bool]:
        """Have the jobs stored; tells of each whether it is new."""
        loop = asyncio.get_running_loop()
        size = sum(len(job.body) + 100 for job in jobs)
        self._waiting.append(call := Call(wire.in_rows(jobs), len(jobs), size, loop.create_future(), token))
        if self._task is None:
            self._task = loop.create_task(self._work())
        return await call.answer

    async def aclose(self) -> None:
        """Wait for the trips under way."""
        if self._task is not None:
            await asyncio.wait([self._task])

    async def _work(self) -> None:
        try:
            while self._waiting:
                await self._travel(self._next())
        finally:
            self._task = None

    def _next(self) -> Trip:
        calls = [self._waiting.popleft()]
        if calls[0].token is not None:
            return Trip(calls, calls[0].token)
        count, size = calls[0].count, calls[0].size
        while self._waiting and self._waiting[0].token is None:
            count += self._waiting[0].count
            size += self._waiting[0].size
            if count > JOBS_AT_MOST or size > BYTES_AT_MOST:
                break
            calls.append(self._waiting.popleft())
        return Trip(calls, next(self._tokens))

    async def _travel(self, trip: Trip) -> None:
        deadline, pause = time.monotonic() + self._within, 0.05
        while True:
            try:
                await self._tell(trip, await self._send(trip, deadline))
                return
            except BrokerUnavailable as error:
                trip.was_sent = trip.was_sent or isinstance(error, Unanswered)
                if time.monotonic() + pause > deadline:
                    self._fail(trip, error)
                    return
                pause = await rest(pause, LONGEST_PAUSE)
            except Exception as error:
                self._fail(trip, error)
                return
            except asyncio.CancelledError as error:
                self._fail(trip, BrokerUnavailable("the event loop ended while a job was stored"))
                raise error

    async def _tell(self, trip: Trip, answer: list[Any]) -> None:
        if answer[1] == b"stored":
            duplicates, before = set(answer[2]), 0
            for call in trip.calls:
                if not call.answer.done():
                    numbers = range(before + 1, before + 1 + call.count)
                    call.answer.set_result([number not in duplicates for number in numbers])
                before += call.count
        elif len(trip.calls) > 1:  # one id in use must not refuse the jobs of others
            trip.is_split = True
            for number in range(len(trip.calls)):
                await self._travel(trip.alone(number))
        else:
            job_id = answer[2].decode()
            self._fail(
                trip,
                JobIdInUse(
                    f"job id {job_id!r} belongs to a cancelled job that still lies in queue"
                    f" {self._queue!r}: choose another, or try again later"
                ),
            )

    def _fail(self, trip: Trip, error: Exception) -> None:
        for number, call in enumerate(trip.calls):
            if call.answer.done():
                continue
            if isinstance(error, BrokerError) and trip.was_sent:  # guard: uncertain
                call.answer.set_exception(self._uncertain(trip, number, error))
            else:
                call.answer.set_exception(error)
            call.answer.exception()  # told once is enough: a caller who has gone needs no warning

    def _uncertain(self, trip: Trip, number: int, cause: Exception) -> EnqueueUncertain:
        async def retry() -> list[bool]:
            loop = asyncio.get_running_loop()
            calls = [msgspec.structs.replace(call, answer=loop.create_future()) for call in trip.calls]
            again = Trip(calls, trip.token)
            if trip.is_split:
                again = again.alone(number)
            again.was_sent = True
            await self._travel(again)
            trip.is_split = trip.is_split or again.is_split
            return await calls[number].answer

        error = EnqueueUncertain(
            f"queue {self._queue!r}: Redis did not say whether {trip.calls[number].count} jobs were stored;"
            " 'await error.retry()' asks again, and stores nothing twice within 10 minutes",
            retry=retry,
        )
        error.__cause__ = cause
        return error

"""Concurrent ``schedule`` calls share round trips."""

from __future__ import annotations

import asyncio
import math
import time
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import msgspec

from ...exceptions import BrokerError, BrokerUnavailable, EnqueueUncertain
from ..memory.recent import Recent
from ..records import Envelope
from . import schema
from .call_numbers import CallNumber, CallNumbers
from .errors import Unanswered
from .transports import rest

JOBS_AT_MOST = 1000
BYTES_AT_MOST = 1024 * 1024
LONGEST_PAUSE = 1.0
PATROL_PERIOD = 0.05
"""Seconds between two looks for callers whose time is over."""


class PendingEnqueue(msgspec.Struct, frozen=True, eq=False):
    """The jobs of one caller, who waits for the answer."""

    arguments: list[Any]
    count: int
    size: int
    answer: asyncio.Future[list[bool]]
    until: float
    """When the caller waits no longer, by time.monotonic()."""
    number: CallNumber | None = None
    """That of the caller's own token; it travels alone then."""


class RoundTrip:
    """What one script call carries. A repeat is identical, so that it is known as a repeat."""

    def __init__(self, calls: Sequence[PendingEnqueue], number: CallNumber) -> None:
        self.number = number
        self.is_out = False
        """It is being sent, and may have arrived."""
        self._carry(calls)

    @property
    def was_sent(self) -> bool:
        """It may have arrived."""
        return self.number.was_sent

    @property
    def arguments(self) -> list[Any]:
        """What the script gets."""
        return [self.number.field, self.number.number, *self._jobs]

    def leave_behind(self, late: Sequence[PendingEnqueue]) -> None:
        """Go on without some of its calls; it was not sent yet."""
        self._carry([call for call in self.calls if call not in late])

    def _carry(self, calls: Sequence[PendingEnqueue]) -> None:
        self.calls = calls
        self.until: float = max(call.until for call in calls)
        """When none of the callers waits any longer."""
        self._jobs: list[Any] = []
        for call in calls:
            self._jobs += call.arguments


SendRoundTrip = Callable[[RoundTrip], Awaitable[list[Any]]]
"""Sends a trip and returns its answer, or raises BrokerUnavailable, at the latest when nobody waits."""


class EnqueueBatcher:
    """The round trips of one queue, one at a time: what is scheduled meanwhile goes with the next.

    They run in a task of their own, so that a caller who is cancelled abandons the answer, not the call.
    """

    def __init__(self, queue: str, send: SendRoundTrip, numbers: CallNumbers, *, within: float) -> None:
        self._numbers = numbers
        self._by_token: Recent[CallNumber] = Recent()
        self._queue = queue
        self._send = send
        self._within = within
        self._waiting: deque[PendingEnqueue] = deque()
        self._under_way: RoundTrip | None = None
        self._task: asyncio.Task[None] | None = None
        self._patrol: asyncio.TimerHandle | None = None
        self._patrol_at = math.inf

    async def store(self, jobs: Sequence[Envelope], token: str | None, *, until: float) -> list[bool]:
        """Have the jobs stored until this moment of time.monotonic(); returns for each whether it is new."""
        loop = asyncio.get_running_loop()
        size = sum(len(job.body) + 100 for job in jobs)
        answer: asyncio.Future[list[bool]] = loop.create_future()
        number = None if token is None else self._number_of(token)
        self._waiting.append(PendingEnqueue(schema.encode_rows(jobs), len(jobs), size, answer, until, number))
        if self._task is None or self._task.done():  # an eager task may be done before it is known
            self._task = loop.create_task(self._work())
        if until < self._patrol_at and not answer.done():  # guard: time of a caller
            self._set_patrol(until)
        return await answer

    def forget_tokens(self) -> None:
        """Take what comes for no repeat of what was stored by now."""
        self._by_token = Recent()

    async def aclose(self) -> None:
        """Wait for the round trips under way."""
        if self._task is not None and not self._task.done():
            await asyncio.wait([self._task])
        if self._patrol is not None:
            self._patrol.cancel()
        self._patrol, self._patrol_at = None, math.inf

    async def _work(self) -> None:
        while self._waiting:
            self._under_way = self._next()
            try:
                await self._travel(self._under_way)
            finally:
                self._under_way = None

    def _next(self) -> RoundTrip:
        calls = [self._waiting.popleft()]
        if calls[0].number is not None:
            return RoundTrip(calls, calls[0].number)
        count, size = calls[0].count, calls[0].size
        while self._waiting and self._waiting[0].number is None:
            count += self._waiting[0].count
            size += self._waiting[0].size
            if count > JOBS_AT_MOST or size > BYTES_AT_MOST:
                break
            calls.append(self._waiting.popleft())
        return RoundTrip(calls, CallNumber())

    def _number_of(self, token: str) -> CallNumber:
        now = int(time.monotonic() * 1000)
        number = self._by_token.get(token, now)
        if number is None:
            number = CallNumber()
        self._by_token.put(token, number, now)
        return number

    async def _travel(self, trip: RoundTrip) -> None:
        pause, number = 0.05, trip.number
        try:
            while True:
                try:
                    self._tell(trip, await self._answer_to(trip))
                    return
                except BrokerUnavailable as error:
                    number.was_sent = number.was_sent or isinstance(error, Unanswered)
                    if time.monotonic() + pause > trip.until:
                        self._fail(trip, trip.calls, error)
                        return
                    pause = await rest(pause, LONGEST_PAUSE)
        except Exception as error:
            self._fail(trip, trip.calls, error)
            number.was_sent = number.was_sent or not isinstance(error, BrokerError)  # or it was refused
        except asyncio.CancelledError as error:
            ended = BrokerUnavailable("the event loop ended while a job was stored")
            self._fail(trip, trip.calls, ended)
            raise error
        finally:
            if not number.was_sent:  # guard: unused field
                self._numbers.give_back(number)

    async def _answer_to(self, trip: RoundTrip) -> list[Any]:
        """The server's answer; to a repeat that of the copy which was answered first."""
        number = trip.number
        if number.answer is not None:  # guard: answered before
            return number.answer
        self._numbers.stamp(number)
        trip.is_out = True
        try:
            answer = await self._send(trip)
        except asyncio.CancelledError:
            number.was_sent = True  # guard: cancelled on the way
            raise
        finally:
            trip.is_out = False
        if number.answer is None:
            if answer[1] == b"late":  # guard: field of others
                self._numbers.leave(number)
                raise BrokerUnavailable(
                    f"queue {self._queue!r}: others have written to what Redis knows this session's calls by"
                )
            number.answer = answer
        self._numbers.give_back(number)
        return number.answer

    def _set_patrol(self, moment: float) -> None:
        """Look for callers whose time is over at this moment, or soon after: a trip ends by itself when
        none of its callers has time. The timer is left running by those that were answered."""
        loop = asyncio.get_running_loop()
        if self._patrol is not None:
            self._patrol.cancel()
        wait = max(moment - time.monotonic(), 0.0) + PATROL_PERIOD
        self._patrol_at = moment
        self._patrol = loop.call_at(loop.time() + wait, self._end_late_calls)

    def _end_late_calls(self) -> None:
        """Callers that have no more time may wait behind others, or on one trip with others who have."""
        self._patrol, self._patrol_at = None, math.inf
        now = time.monotonic()
        error = BrokerUnavailable(f"queue {self._queue!r}: Redis stored nothing in time: is it running?")
        late = [call for call in self._waiting if call.until <= now]
        if late:
            self._waiting = deque(call for call in self._waiting if call.until > now)
            self._fail(None, late, error)
        waiting = [call.until for call in self._waiting]
        trip = self._under_way
        if trip is not None and trip.until > now:
            late = [call for call in trip.calls if call.until <= now and not call.answer.done()]
            if trip.is_out:  # guard: may have arrived
                trip.number.was_sent = trip.was_sent or bool(late)
            if late and not trip.was_sent:  # guard: left behind
                trip.leave_behind(late)
            self._fail(trip, late, error)
            waiting += [call.until for call in trip.calls if call.until > now]
        if waiting:
            self._set_patrol(min(waiting))

    def _tell(self, trip: RoundTrip, answer: list[Any]) -> None:
        duplicates, before = set(answer[2]), 0
        for call in trip.calls:
            if not call.answer.done():
                numbers = range(before + 1, before + 1 + call.count)
                call.answer.set_result([number not in duplicates for number in numbers])
            before += call.count

    def _fail(self, trip: RoundTrip | None, calls: Sequence[PendingEnqueue], error: Exception) -> None:
        """Raise an error for some calls of a trip, or of none."""
        for call in calls:
            if call.answer.done():
                continue
            if trip is not None and trip.was_sent and isinstance(error, BrokerError):  # guard: uncertain
                call.answer.set_exception(self._uncertain(trip, call, error))
            else:
                call.answer.set_exception(error)
            call.answer.exception()  # told once is enough: a caller who has gone needs no warning

    def _uncertain(self, trip: RoundTrip, call: PendingEnqueue, cause: Exception) -> EnqueueUncertain:
        async def retry() -> list[bool]:
            loop, until = asyncio.get_running_loop(), time.monotonic() + self._within
            calls = [
                msgspec.structs.replace(call, answer=loop.create_future(), until=until) for call in trip.calls
            ]
            number = trip.calls.index(call)
            again = RoundTrip(calls, trip.number)
            again.number.was_sent = True
            await self._travel(again)
            return await calls[number].answer

        error = EnqueueUncertain(
            f"queue {self._queue!r}: Redis did not say whether {call.count} jobs were stored;"
            " 'await error.retry()' asks again, and stores nothing twice within 10 minutes",
            retry=retry,
        )
        error.__cause__ = cause
        return error

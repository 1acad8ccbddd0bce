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
from .events import NOBODY, rows_of, scheduled_lines
from .transports import sleep_before_retry

JOBS_AT_MOST = 1000
BYTES_AT_MOST = 1024 * 1024
LONGEST_PAUSE = 1.0
TIMER_DELAY = 0.05
"""Seconds by which a caller may be answered too late: many time limits share a timer."""


class PendingEnqueue(msgspec.Struct, frozen=True, eq=False):
    """The jobs of one call of ``enqueue``, which waits for the answer."""

    jobs: Sequence[Envelope]
    arguments: list[Any]
    count: int
    size: int
    answer: asyncio.Future[list[bool]]
    until: float
    """When the caller's time is over, by time.monotonic()."""
    call_number: CallNumber | None = None
    """The number of the caller's token. Such a call has a round trip of its own."""


class RoundTrip:
    """The calls that one call of the script carries. A repeat is identical, so the server recognises it."""

    def __init__(self, calls: Sequence[PendingEnqueue], call_number: CallNumber) -> None:
        self.call_number = call_number
        self.is_under_way = False
        """The round trip was sent and has no answer yet, so it may have arrived."""
        self._set_calls(calls)

    @property
    def was_sent(self) -> bool:
        """A copy of it may have arrived."""
        return self.call_number.was_sent

    def arguments(self, event_rows: int) -> list[Any]:
        """Return the arguments of the script."""
        head: list[Any] = [self.call_number.field, self.call_number.value, event_rows]
        if event_rows:
            jobs = [job for call in self.calls for job in call.jobs]
            events = rows_of(NOBODY, scheduled_lines(jobs))
            head += (len(events), *events)
        return head + self._jobs

    def drop(self, late: Sequence[PendingEnqueue]) -> None:
        """Leave out some of its calls. Called only before the round trip is sent."""
        self._set_calls([call for call in self.calls if call not in late])

    def _set_calls(self, calls: Sequence[PendingEnqueue]) -> None:
        self.calls = calls
        self.until: float = max(call.until for call in calls)
        """When the time of all its callers is over, by time.monotonic()."""
        self._jobs: list[Any] = []
        for call in calls:
            self._jobs += call.arguments


SendRoundTrip = Callable[[RoundTrip], Awaitable[list[Any]]]
"""Sends a round trip. Returns its answer, or raises BrokerUnavailable by the time ``until``."""


class EnqueueBatcher:
    """Makes the round trips of one queue, one at a time. Calls that come meanwhile share the next one.

    They run in a task of their own, so a caller that is cancelled abandons the answer, not the call.
    """

    def __init__(self, queue: str, send: SendRoundTrip, numbers: CallNumbers, *, within: float) -> None:
        self._numbers = numbers
        self._by_token: Recent[CallNumber] = Recent()
        self._queue = queue
        self._send = send
        self._within = within
        self._waiting: deque[PendingEnqueue] = deque()
        self._current: RoundTrip | None = None
        self._task: asyncio.Task[None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = math.inf
        """The earliest time limit that the timer serves, by time.monotonic()."""

    async def store(self, jobs: Sequence[Envelope], token: str | None, *, until: float) -> list[bool]:
        """Store the jobs until this moment of time.monotonic(). Returns for each whether it is new."""
        loop = asyncio.get_running_loop()
        size = sum(len(job.body) + 100 for job in jobs)
        answer: asyncio.Future[list[bool]] = loop.create_future()
        call_number = None if token is None else self._call_number_of(token)
        rows = schema.encode_rows(jobs)
        self._waiting.append(PendingEnqueue(jobs, rows, len(jobs), size, answer, until, call_number))
        if self._task is None or self._task.done():  # with eager tasks it may end within create_task
            self._task = loop.create_task(self._work())
        if until < self._timer_at and not answer.done():  # guard: time of a caller
            self._set_timer(until)
        return await answer

    def forget_tokens(self) -> None:
        """Forget the tokens of earlier calls: a later call with such a token is no repeat."""
        self._by_token = Recent()

    async def aclose(self) -> None:
        """Wait for all round trips."""
        if self._task is not None and not self._task.done():
            await asyncio.wait([self._task])
        if self._timer is not None:
            self._timer.cancel()
        self._timer, self._timer_at = None, math.inf

    async def _work(self) -> None:
        while self._waiting:
            self._current = self._next()
            try:
                await self._complete(self._current)
            finally:
                self._current = None

    def _next(self) -> RoundTrip:
        calls = [self._waiting.popleft()]
        if calls[0].call_number is not None:
            return RoundTrip(calls, calls[0].call_number)
        count, size = calls[0].count, calls[0].size
        while self._waiting and self._waiting[0].call_number is None:
            count += self._waiting[0].count
            size += self._waiting[0].size
            if count > JOBS_AT_MOST or size > BYTES_AT_MOST:
                break
            calls.append(self._waiting.popleft())
        return RoundTrip(calls, CallNumber())

    def _call_number_of(self, token: str) -> CallNumber:
        now = int(time.monotonic() * 1000)
        call_number = self._by_token.get(token, now)
        if call_number is None:
            call_number = CallNumber()
        self._by_token.put(token, call_number, now)
        return call_number

    async def _complete(self, round_trip: RoundTrip) -> None:
        """Send a round trip again and again, until it is answered or the time of its callers is over."""
        pause, call_number = 0.05, round_trip.call_number
        try:
            while True:
                try:
                    self._deliver(round_trip, await self._answer_to(round_trip))
                    return
                except BrokerUnavailable as error:
                    call_number.was_sent = call_number.was_sent or isinstance(error, Unanswered)
                    if time.monotonic() + pause > round_trip.until:
                        self._fail(round_trip, round_trip.calls, error)
                        return
                    pause = await sleep_before_retry(pause, LONGEST_PAUSE)
        except Exception as error:
            self._fail(round_trip, round_trip.calls, error)
            # A BrokerError is a refusal. After any other error the call may have arrived.
            call_number.was_sent = call_number.was_sent or not isinstance(error, BrokerError)
        except asyncio.CancelledError as error:
            ended = BrokerUnavailable("the event loop ended while a job was stored")
            self._fail(round_trip, round_trip.calls, ended)
            raise error
        finally:
            if not call_number.was_sent:  # guard: unused field
                self._numbers.release(call_number)

    async def _answer_to(self, round_trip: RoundTrip) -> list[Any]:
        """Send a round trip. Returns the server's answer; a repeat has the answer to the first copy."""
        call_number = round_trip.call_number
        if call_number.answer is not None:  # guard: answered before
            return call_number.answer
        self._numbers.assign(call_number)
        round_trip.is_under_way = True
        try:
            answer = await self._send(round_trip)
        except asyncio.CancelledError:
            call_number.was_sent = True  # guard: cancelled on the way
            raise
        finally:
            round_trip.is_under_way = False
        if call_number.answer is None:
            if answer[1] == b"late":  # guard: field of others
                self._numbers.abandon(call_number)
                raise BrokerUnavailable(
                    f"queue {self._queue!r}: another program has changed the key in which Redis keeps the"
                    " answers to this session's calls"
                )
            call_number.answer = answer
        self._numbers.release(call_number)
        return call_number.answer

    def _set_timer(self, moment: float) -> None:
        """Call ``_end_late_calls`` at this moment or soon after. An answer leaves the timer running."""
        loop = asyncio.get_running_loop()
        if self._timer is not None:
            self._timer.cancel()
        wait = max(moment - time.monotonic(), 0.0) + TIMER_DELAY
        self._timer_at = moment
        self._timer = loop.call_at(loop.time() + wait, self._end_late_calls)

    def _end_late_calls(self) -> None:
        """Raise an error for callers whose time is over.

        Such a caller may wait for the next round trip, or share the current one with callers that have time
        left. A round trip ends by itself if none of its callers has time left.
        """
        self._timer, self._timer_at = None, math.inf
        now = time.monotonic()
        error = BrokerUnavailable(f"queue {self._queue!r}: Redis stored nothing in time: is it running?")
        late = [call for call in self._waiting if call.until <= now]
        if late:
            self._waiting = deque(call for call in self._waiting if call.until > now)
            self._fail(None, late, error)
        waiting = [call.until for call in self._waiting]
        round_trip = self._current
        if round_trip is not None and round_trip.until > now:
            late = [call for call in round_trip.calls if call.until <= now and not call.answer.done()]
            if round_trip.is_under_way:  # guard: may have arrived
                round_trip.call_number.was_sent = round_trip.was_sent or bool(late)
            if late and not round_trip.was_sent:  # guard: left behind
                round_trip.drop(late)
            self._fail(round_trip, late, error)
            waiting += [call.until for call in round_trip.calls if call.until > now]
        if waiting:
            self._set_timer(min(waiting))

    def _deliver(self, round_trip: RoundTrip, answer: list[Any]) -> None:
        """Give each call of a round trip its part of the answer."""
        duplicates, before = set(answer[2]), 0
        for call in round_trip.calls:
            if not call.answer.done():
                numbers = range(before + 1, before + 1 + call.count)
                call.answer.set_result([number not in duplicates for number in numbers])
            before += call.count

    def _fail(self, round_trip: RoundTrip | None, calls: Sequence[PendingEnqueue], error: Exception) -> None:
        """Raise an error for some calls of a round trip, or for calls that have none yet."""
        for call in calls:
            if call.answer.done():
                continue
            if round_trip and round_trip.was_sent and isinstance(error, BrokerError):  # guard: uncertain
                call.answer.set_exception(self._uncertain(round_trip, call, error))
            else:
                call.answer.set_exception(error)
            call.answer.exception()  # so that asyncio logs nothing if the caller has gone

    def _uncertain(self, round_trip: RoundTrip, call: PendingEnqueue, cause: Exception) -> EnqueueUncertain:
        async def retry() -> list[bool]:
            loop, until = asyncio.get_running_loop(), time.monotonic() + self._within
            calls = [
                msgspec.structs.replace(call, answer=loop.create_future(), until=until)
                for call in round_trip.calls
            ]
            place = round_trip.calls.index(call)
            again = RoundTrip(calls, round_trip.call_number)
            again.call_number.was_sent = True
            await self._complete(again)
            return await calls[place].answer

        error = EnqueueUncertain(
            f"queue {self._queue!r}: Redis did not confirm that {call.count} jobs were stored;"
            " 'await error.retry()' tries again, and stores nothing twice within 10 minutes",
            retry=retry,
        )
        error.__cause__ = cause
        return error

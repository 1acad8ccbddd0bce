"""The events of one job for a browser, as server-sent events. ``contrib.starlette`` imports it when used."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence
from http import HTTPStatus
from inspect import isawaitable
from typing import Any

import msgspec
from sse_starlette import EventSourceResponse, ServerSentEvent
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response

from aiospinach import BrokerError, Engine, Event, EventsLost, EventStream, InvalidValue, Job, JobStatus

LOOK_AGAIN_AFTER = 15.0
"""Seconds without an event after which the job is looked up: its end may have no event."""
MISSED_WITHIN = 0.5
"""Seconds in which the next event of a job that has ended has to come, if there is one."""
SHOWN = ("name", "job_id", "task", "queue", "at", "worker", "data")
_encode = msgspec.json.Encoder().encode


class JobEvents:
    """An endpoint that sends the events of the job in its path, until the job has ended."""

    def __init__(self, engine: Engine, access: Any, queue: str | None) -> None:
        self._engine = engine
        self._access = access
        self._queue = queue

    async def respond(self, request: Request) -> Response:
        """Return the stream of events, or why there is none."""
        allowed = self._access(request)
        if isawaitable(allowed):
            allowed = await allowed
        if not allowed:  # guard: access to the events of a job
            return _refusal(HTTPStatus.FORBIDDEN, "you may not see this job")
        job_id, after = request.path_params["id"], request.headers.get("last-event-id") or None
        try:
            stream = self._engine.events(job=job_id, queue=self._queue, after=after)
            await stream.__aenter__()  # before the job is looked up: so no event is missed in between
        except InvalidValue as error:
            return _refusal(HTTPStatus.BAD_REQUEST, str(error))
        try:
            job = await self._engine.job(job_id, queue=self._queue)
            if job is None and after is None:
                await stream.aclose()
                return _refusal(HTTPStatus.NOT_FOUND, "no such job is stored")
            if _lives(job) or after is None:
                return EventSourceResponse(self._messages(stream, job_id, None if after else job))
            missed = [event async for event in _missed(stream)]
        except BaseException:
            await stream.aclose()
            raise
        await stream.aclose()
        if not missed:  # the browser has seen the end: it connects no more
            return Response(status_code=HTTPStatus.NO_CONTENT)
        return EventSourceResponse(_replayed(missed))

    async def _messages(
        self, stream: EventStream, job_id: str, job: Job | None
    ) -> AsyncIterator[ServerSentEvent]:
        """The state of the job, unless the browser has seen it, and its events."""
        try:
            if job is not None:
                yield _state(stream, job)
                if not _lives(job):
                    return
            while True:
                try:
                    event = await _next(stream, LOOK_AGAIN_AFTER)
                    is_lost = False
                except EventsLost:
                    event, is_lost = None, True
                if event is not None:
                    yield _message(event)
                    if _is_end(event):
                        return
                    continue
                job = await self._engine.job(job_id, queue=self._queue)
                if is_lost or not _lives(job):
                    yield _state(stream, job)
                if not _lives(job):
                    return
        except BrokerError:
            return  # the browser connects again, and goes on behind the last event
        finally:
            await stream.aclose()


async def _missed(stream: EventStream) -> AsyncIterator[Event]:
    """The events of a job that has ended, as far as they are kept."""
    while True:
        with contextlib.suppress(EventsLost):
            event = await _next(stream, MISSED_WITHIN)
            if event is None:
                return
            yield event


async def _replayed(events: Sequence[Event]) -> AsyncIterator[ServerSentEvent]:
    for event in events:
        yield _message(event)


async def _next(stream: EventStream, timeout: float) -> Event | None:
    """The next event; None if none has come in time."""
    try:
        async with asyncio.timeout(timeout):
            return await anext(stream, None)
    except TimeoutError:
        return None


def _lives(job: Job | None) -> bool:
    return job is not None and job.status is not JobStatus.FAILED


def _is_end(event: Event) -> bool:
    """Whether the job ends with this event."""
    if event.name == "job_finished":
        return "error" not in event.data
    return event.name in ("job_failed", "job_cancelled")


def _state(stream: EventStream, job: Job | None) -> ServerSentEvent:
    """The message ``state``: where the job is, and how far it has come."""
    state = {
        "status": JobStatus.NOT_SET.value if job is None else job.status.value,
        "progress": None if job is None else job.progress,
    }
    return ServerSentEvent(_encode(state).decode(), event="state", id=stream.cursor)


def _message(event: Event) -> ServerSentEvent:
    shown = {name: getattr(event, name) for name in SHOWN}
    return ServerSentEvent(_encode(shown).decode(), event=event.name, id=event.cursor)


def _refusal(status: HTTPStatus, text: str) -> Response:
    return PlainTextResponse(text, status)

"""Reports changes to pages that are open, as server-sent events."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

from sse_starlette import EventSourceResponse, ServerSentEvent
from starlette.responses import Response

from aiospinach import BrokerError, EventStream

from .site import Visit

APART = 1.0
"""Seconds between two messages, at least."""


async def changes(visit: Visit) -> Response:
    """Send the message ``changed`` when there are events of a queue, of a task or of a job, or any.

    It has no data: the page is asked for anew, with the rights that its visitor has then. Raises InvalidValue
    if the broker keeps no events, UnknownQueue or a BrokerError.
    """
    stream = visit.engine.events(
        queue=visit.query("queue") or None, task=visit.query("task") or None, job=visit.query("job") or None
    )
    await stream.__aenter__()
    return EventSourceResponse(_messages(stream))


async def _messages(stream: EventStream) -> AsyncIterator[ServerSentEvent]:
    try:
        while await stream.skip():
            yield ServerSentEvent("page", event="changed")  # a browser drops a message without data
            await asyncio.sleep(APART)
    except BrokerError:
        return  # the browser connects again
    finally:
        await stream.aclose()

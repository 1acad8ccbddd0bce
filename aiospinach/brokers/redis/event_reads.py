"""Reads events in Redis, and waits for them."""

from __future__ import annotations

from collections.abc import Mapping

from ..events import EventPage, EventRow, LookEvents, Position
from . import scripts
from .calls import ScriptCalls
from .events import decode_row
from .queue_session import QueueSession


async def read_events(calls: ScriptCalls, state: QueueSession, question: LookEvents) -> EventPage:
    """Return rows behind a place."""
    after = "" if question.after is None else _id_of(question.after)
    arguments = [after, int(question.with_first), question.limit]
    _, last, fault, *flat = await calls.produce(scripts.READ_EVENTS, state, arguments)
    end = _position_of(last)
    if fault:
        return EventPage([], end, is_lost=True, has_gone_back=fault == b"back")
    rows = []
    for row_id, text in zip(flat[::2], flat[1::2], strict=True):
        position = _position_of(row_id)
        rows.append(EventRow(position, decode_row(position[0], text)))
    return EventPage(rows, end)


async def wait_for_events(calls: ScriptCalls, places: Mapping[str, Position], timeout: float) -> None:
    """Wait until one of the queues has a row behind its place."""
    after = {calls.queue(queue).keys.events: _id_of(place) for queue, place in places.items()}
    await calls.here().transport.blocking_read(after, timeout)


def _id_of(position: Position) -> str:
    return f"{position[0]}-{position[1]}"


def _position_of(row_id: bytes) -> Position:
    moment, _, number = row_id.partition(b"-")
    return int(moment), int(number)

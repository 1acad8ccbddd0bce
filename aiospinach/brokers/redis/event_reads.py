"""Reads events in Redis, and waits for them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ..events import (
    EventPage,
    EventPlace,
    EventRow,
    LatestRows,
    LookEvents,
    LookLatestEvents,
    Position,
)
from . import scripts
from .calls import ScriptCalls
from .events import decode_row
from .queue_session import QueueSession


async def read_events(calls: ScriptCalls, state: QueueSession, question: LookEvents) -> EventPage:
    """Return rows behind a place."""
    after = "" if question.after is None else _id_of(question.after)
    steps_after = "" if question.steps_after is None else _id_of(question.steps_after)
    arguments = [after, int(question.with_first), question.limit, steps_after]
    _, last, fault, last_step, rows, steps = await calls.produce(scripts.READ_EVENTS, state, arguments)
    return EventPage(
        _rows_of(rows),
        _position_of(last),
        _rows_of(steps, is_step=True),
        _position_of(last_step),
        is_lost=fault != b"",
        has_gone_back=fault == b"back",
    )


async def read_latest_events(
    calls: ScriptCalls, state: QueueSession, question: LookLatestEvents
) -> LatestRows:
    """Return rows up to a place, the latest first."""
    up_to = "" if question.up_to is None else _id_of(question.up_to)
    _, oldest, rows = await calls.produce(scripts.LATEST_EVENTS, state, [up_to, question.limit])
    return LatestRows(_rows_of(rows), _position_of(oldest) if oldest else None)


async def wait_for_events(calls: ScriptCalls, places: Mapping[str, EventPlace], timeout: float) -> None:
    """Wait until one of the queues has a row behind its place."""
    after: dict[str, str] = {}
    for queue, place in places.items():
        keys = calls.queue(queue).keys
        after |= {keys.events: _id_of(place.events), keys.steps: _id_of(place.steps)}
    await calls.here().transport.blocking_read(after, timeout)


def _rows_of(flat: Sequence[bytes], *, is_step: bool = False) -> list[EventRow]:
    rows = []
    for row_id, text in zip(flat[::2], flat[1::2], strict=True):
        position = _position_of(row_id)
        rows.append(EventRow(position, decode_row(position[0], text), is_step))
    return rows


def _id_of(position: Position) -> str:
    return f"{position[0]}-{position[1]}"


def _position_of(row_id: bytes) -> Position:
    moment, _, number = row_id.partition(b"-")
    return int(moment), int(number)

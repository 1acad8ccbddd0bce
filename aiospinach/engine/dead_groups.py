"""Dead jobs of an engine's queues, counted by task and error."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

import msgspec

from ..brokers.base import Broker
from ..brokers.dead_groups import DeadGroupRow, LookDeadGroups
from ..timing import from_milliseconds


class DeadGroup(msgspec.Struct, frozen=True, kw_only=True):
    """Dead jobs of one queue that have the same task and died with the same class of error."""

    queue: str
    task: str
    """The name of the task; empty for jobs that cannot be read."""
    error: str
    """The class of the last error, with its module; empty if it is not known."""
    count: int
    latest_at: datetime
    """When the latest of them died, in UTC."""
    latest_id: str
    """The id of this job."""


async def read_dead_groups(broker: Broker, namespace: str, queues: Sequence[str]) -> list[DeadGroup]:
    """The groups of these queues, those with the most jobs first."""
    await broker.open_in_time(namespace)
    groups = [group for queue in queues for group in await _groups_of(broker, queue)]
    return sorted(groups, key=lambda group: (-group.count, group.queue, group.task, group.error))


async def _groups_of(broker: Broker, queue: str) -> list[DeadGroup]:
    """The groups of a queue, page by page."""
    found: dict[tuple[str, str], DeadGroupRow] = {}
    offset: int | None = 0
    while offset is not None:
        page = await broker.look(queue, LookDeadGroups(offset))
        for row in page.rows:
            earlier = found.get((row.task, row.error))
            found[row.task, row.error] = row if earlier is None else _sum(earlier, row)
        offset = page.offset
    return [
        DeadGroup(
            queue=queue,
            task=row.task,
            error=row.error,
            count=row.count,
            latest_at=from_milliseconds(row.latest_at),
            latest_id=row.latest_id,
        )
        for row in found.values()
    ]


def _sum(latest: DeadGroupRow, row: DeadGroupRow) -> DeadGroupRow:
    return msgspec.structs.replace(latest, count=latest.count + row.count)

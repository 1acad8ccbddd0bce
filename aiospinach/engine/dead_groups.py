"""Dead jobs of an engine's queues, counted by task and error."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

import msgspec

from ..brokers.base import Broker
from ..brokers.dead_groups import COUNTED_AT_ONCE, DeadGroupRow, LookDeadGroups
from ..timing import from_milliseconds
from ..validation import LARGEST_NUMBER, check_number


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


async def read_dead_groups(
    broker: Broker, namespace: str, queues: Sequence[str], latest: object
) -> list[DeadGroup]:
    """The groups of these queues, those with the most jobs first."""
    most = LARGEST_NUMBER if latest is None else check_number(latest, what="latest=", least=1)
    await broker.open_in_time(namespace)
    groups = [group for queue in queues for group in await _groups_of(broker, queue, most)]
    return sorted(groups, key=lambda group: (-group.count, group.queue, group.task, group.error))


async def _groups_of(broker: Broker, queue: str, left: int) -> list[DeadGroup]:
    """The groups of so many dead jobs of a queue, page by page."""
    found: dict[tuple[str, str], DeadGroupRow] = {}
    position: str | None = ""
    while position is not None and left > 0:
        page = await broker.look(queue, LookDeadGroups(position, min(left, COUNTED_AT_ONCE)))
        for row in page.rows:
            earlier = found.get((row.task, row.error))
            found[row.task, row.error] = row if earlier is None else _sum(earlier, row)
            left -= row.count
        position = page.position
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

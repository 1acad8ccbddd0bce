"""The first page: all queues, and what the workers do."""

from __future__ import annotations

import msgspec
from starlette.responses import Response

from aiospinach.views import Overview, QueueRow

from ..rendering import render
from ..site import Visit
from .slices import Slice, slice_of

ROWS = 40


class OverviewPage(msgspec.Struct, frozen=True, kw_only=True):
    """All queues and workers at one moment."""

    overview: Overview
    queues: Slice[QueueRow]
    ready: int
    running: int
    waiting: int
    dead: int
    failed: tuple[int, ...]
    """How many tries failed in each of the last minutes."""


async def overview_page(visit: Visit) -> Response:
    overview = await visit.site.reader.read()
    queues = overview.queues
    page = OverviewPage(
        overview=overview,
        queues=slice_of(queues, visit.query("from"), ROWS),
        ready=sum(queue.ready for queue in queues),
        running=sum(queue.running for queue in queues),
        waiting=sum(queue.waiting + queue.parked for queue in queues),
        dead=sum(queue.dead for queue in queues),
        failed=tuple(map(sum, zip(*(queue.failed_per_minute for queue in queues), strict=True))),
    )
    return render(visit, "overview.html", page, scope={})

"""Dead jobs, grouped by task and error."""

from __future__ import annotations

import msgspec
from starlette.responses import Response

from aiospinach import DeadGroup

from ..rendering import render
from ..site import Visit
from .slices import Slice, slice_of

ROWS = 25


class DeadPage(msgspec.Struct, frozen=True, kw_only=True):
    """The groups, the largest first."""

    groups: Slice[DeadGroup]
    total: int
    """How many jobs the groups have together."""
    filter: str


async def dead_page(visit: Visit) -> Response:
    wanted = visit.query("filter").strip()
    groups = [group for group in await visit.site.groups.read() if _matches(group, wanted.casefold())]
    page = DeadPage(
        groups=slice_of(groups, visit.query("from"), ROWS),
        total=sum(group.count for group in groups),
        filter=wanted,
    )
    return render(visit, "dead.html", page, scope={})


def _matches(group: DeadGroup, wanted: str) -> bool:
    return any(wanted in text.casefold() for text in (group.task, group.error, group.queue))

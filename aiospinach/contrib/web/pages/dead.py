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
    counted: int
    """How many jobs the groups have together."""
    total: int
    """How many dead jobs there are; shown if some of them were counted alone."""
    is_partial: bool
    filter: str


async def dead_page(visit: Visit) -> Response:
    wanted = visit.query("filter").strip()
    found = await visit.site.groups.read()
    groups = [group for group in found.groups if _matches(group, wanted.casefold())]
    page = DeadPage(
        groups=slice_of(groups, visit.query("from"), ROWS),
        counted=sum(group.count for group in groups),
        total=found.total,
        is_partial=found.is_partial,
        filter=wanted,
    )
    return render(visit, "dead.html", page, scope={})


def _matches(group: DeadGroup, wanted: str) -> bool:
    return any(wanted in text.casefold() for text in (group.task, group.error, group.queue))

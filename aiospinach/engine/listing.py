"""Lists the jobs of an engine's queues, page by page."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence

import msgspec

from ..arguments.meta import meta_of
from ..brokers.base import Broker
from ..brokers.places import JobSeen, LookPlace, Place
from ..exceptions import InvalidValue
from ..job import Job, JobStatus
from ..task import Task
from ..validation import check_identifier, check_number, check_text
from .attached_tasks import AttachedTasks
from .cursor import Cursor, decode_cursor
from .snapshots import detail_of, snapshot_of

PAGE = 100
LARGEST_PAGE = 1000
LOOKS_AT_MOST = 10_000
"""A page with filters looks at so many jobs at most."""
LOOKS_AT_ONCE = 1000

_PLACES: dict[object, tuple[Place, ...]] = {
    None: tuple(Place),
    **{
        status: tuple(place for place in Place if place.status is status)
        for status in (JobStatus.QUEUED, JobStatus.WAITING, JobStatus.RUNNING, JobStatus.FAILED)
    },
}


class Page(msgspec.Struct, frozen=True):
    """Some of the jobs that a listing has. A job that moves between two pages may be in both, or in none."""

    jobs: Sequence[Job]
    """No job is there twice."""
    cursor: str | None
    """``after=`` of the next page; None if this is the last one. The last page may be empty."""
    is_truncated: bool
    """The page has looked at 10,000 jobs and found fewer than ``limit``: ``cursor`` goes on from there."""


class Filters(msgspec.Struct, frozen=True):
    """Which jobs are listed."""

    status: JobStatus | None
    task: str
    key: str
    error: str

    @property
    def are_slow(self) -> bool:
        """More jobs have to be looked at than are listed."""
        return bool(self.task or self.key or self.error)

    def match(self, seen: JobSeen) -> bool:
        """Whether the key and the error are right; the broker filters by the task."""
        if self.key and not (seen.job.has_meta and meta_of(seen.job.body).key == self.key):
            return False
        if not self.error:
            return True
        error = seen.job.error if seen.dead is None else detail_of(seen.dead).get("error", "")
        return error == self.error or error.endswith(f".{self.error}")


def filters_of(status: object, task: object, key: object, error: object) -> Filters:
    """Check and return the filters of a listing. Raises InvalidValue."""
    if status is not None and status not in _PLACES:
        raise InvalidValue(
            f"status= takes JobStatus.QUEUED, WAITING, RUNNING or FAILED, or None, not {status!r}: other jobs"
            " are not stored"
        )
    if isinstance(error, type) and issubclass(error, BaseException):
        error = f"{error.__module__}.{error.__qualname__}"
    name = task.name if isinstance(task, Task) else task
    return Filters(
        status if isinstance(status, JobStatus) else None,
        "" if name is None else check_identifier(name, what="task name"),
        "" if key is None else check_text(key, what="key="),
        "" if error is None else check_text(error, what="error="),
    )


class Listing:
    """The listings of an engine."""

    def __init__(self, broker: Broker, namespace: str, tasks: AttachedTasks) -> None:
        self._broker = broker
        self._namespace = namespace
        self._tasks = tasks

    async def jobs(self, queues: Sequence[str], filters: Filters) -> AsyncIterator[Job]:
        """Every job once, page by page."""
        seen: set[tuple[str, str]] = set()
        cursor: str | None = None
        while True:
            page = await self.page(queues, filters, cursor, PAGE)
            for job in page.jobs:
                if (job.queue, job.id) not in seen:
                    seen.add((job.queue, job.id))
                    yield job
            cursor = page.cursor
            if cursor is None:
                return

    async def page(self, queues: Sequence[str], filters: Filters, after: str | None, limit: object) -> Page:
        """One page. Raises InvalidValue."""
        limit = check_number(limit, what="limit=", least=1, most=LARGEST_PAGE)
        listing = repr((self._namespace, list(queues), filters))
        steps = [Cursor(queue, place) for queue in queues for place in _PLACES[filters.status]]
        if after is not None:
            steps = _steps_from(decode_cursor(after, listing), steps)
        await self._broker.open_in_time(self._namespace)
        jobs: dict[tuple[str, str], Job] = {}
        looks = LOOKS_AT_MOST
        while steps and len(jobs) < limit and looks > 0:
            found, behind, looked = await self._look(steps[0], filters, limit - len(jobs), looks)
            queue = steps[0].queue
            for seen in found:  # a job that moved between two calls is found twice
                jobs.setdefault((queue, seen.job.id), snapshot_of(seen, self._namespace, queue, self._tasks))
            steps[:1] = [] if behind is None else [behind]
            looks -= looked
        cursor = steps[0].encode(listing) if steps else None
        return Page(list(jobs.values()), cursor, bool(steps) and len(jobs) < limit)

    async def _look(
        self, at: Cursor, filters: Filters, limit: int, looks: int
    ) -> tuple[list[JobSeen], Cursor | None, int]:
        """Look at jobs from a cursor on. Returns those that the filters let through, the cursor behind them
        and how many jobs were looked at."""
        looks = min(looks, LOOKS_AT_ONCE if filters.are_slow else limit)
        try:
            page = await self._broker.look(
                at.queue, LookPlace(at.place, at.position, looks, looks, filters.task)
            )
        except ValueError as error:
            raise InvalidValue("after= has a position that no page has returned") from error
        found: list[JobSeen] = []
        for number, seen in enumerate(page.jobs, 1):
            if not filters.match(seen):
                continue
            found.append(seen)
            if len(found) == limit and number < len(page.jobs):
                return found, at._replace(position=seen.after), page.looks
        behind = None if page.position is None else at._replace(position=page.position)
        return found, behind, page.looks


def _steps_from(cursor: Cursor, steps: Sequence[Cursor]) -> list[Cursor]:
    """The steps from a cursor on."""
    first = next(place for place, step in enumerate(steps) if step[:2] == cursor[:2])
    return [cursor, *steps[first + 1 :]]

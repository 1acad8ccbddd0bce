"""Looks up single jobs, and explains why they do not run."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from ..brokers.base import Broker
from ..brokers.places import JobFacts, LookJobFacts, Place
from ..brokers.results import EndRecord, LookResults
from ..job import Job
from ..timing import from_milliseconds
from .attached_tasks import AttachedTasks
from .dead_jobs import DeadJob, read_dead
from .explanation import Explanation, Verdict, explain
from .snapshots import snapshot_of
from .stack_request import stack_of

WAITS_FOR_WORKERS = {
    Verdict.QUEUED,
    Verdict.AT_LIMIT,
    Verdict.NO_WORKER,
    Verdict.UNKNOWN_TASK,
    Verdict.PARKED,
}


RUNS = {Verdict.RUNNING, Verdict.CANCELLING}


class Lookup:
    """Finds single jobs of an engine's queues."""

    def __init__(self, broker: Broker, namespace: str, tasks: AttachedTasks) -> None:
        self._broker = broker
        self._namespace = namespace
        self._tasks = tasks

    async def find(self, queues: Sequence[str], job_id: str) -> Job | None:
        """A job that lives or is dead, in the first of the queues that has it; None if none has it."""
        queue, facts = await self._facts(queues, job_id, is_brief=True)
        return self._job(facts, queue)

    async def find_dead(self, queues: Sequence[str], job_id: str) -> DeadJob | None:
        """A dead job, in the first of the queues that has a job of its id; None if that is not dead."""
        queue, facts = await self._facts(queues, job_id, is_brief=True)
        record = None if facts.seen is None else facts.seen.dead
        return None if record is None else read_dead(record, self._namespace, queue, self._tasks)

    async def explain(self, queues: Sequence[str], job_id: str, *, stack: bool) -> Explanation:
        """Why the job does not run, or what it does; in the first of the queues that has it."""
        queue, facts = await self._facts(queues, job_id, is_brief=False)
        if facts.seen is None:
            facts = msgspec.structs.replace(facts, end=await self._end_of(queues, job_id))
        verdict, sentence, until = explain(facts, queue, self._broker.grace, queues)
        is_queued = facts.seen is not None and facts.seen.place in (Place.READY, Place.LANES)
        return Explanation(
            verdict=verdict,
            sentence=sentence,
            job=self._job(facts, queue),
            ahead=facts.ahead if is_queued else None,
            until=None if until is None else from_milliseconds(until),
            holders=facts.holders if verdict is Verdict.AT_LIMIT else {},
            workers=facts.workers if verdict in WAITS_FOR_WORKERS else None,
            stack=await self._stack_of(queue, job_id) if stack and verdict in RUNS else None,
        )

    async def _facts(self, queues: Sequence[str], job_id: str, *, is_brief: bool) -> tuple[str, JobFacts]:
        await self._broker.open_in_time(self._namespace)
        facts = JobFacts(now=self._broker.now())
        for queue in queues:
            facts = await self._broker.look(queue, LookJobFacts(job_id, is_brief))
            if facts.seen is not None:
                return queue, facts
        return "", facts

    async def _end_of(self, queues: Sequence[str], job_id: str) -> EndRecord | None:
        """The stored end of a job, in the first of the queues that has it."""
        for queue in queues:
            [found] = await self._broker.look(queue, LookResults([job_id]))
            if found.record is not None:
                return found.record
        return None

    async def _stack_of(self, queue: str, job_id: str) -> tuple[str, ...] | None:
        """The frames of the body, as its worker answers; None without an answer in time."""
        frames = await stack_of(self._broker, queue, job_id)
        return None if frames is None else tuple(frames)

    def _job(self, facts: JobFacts, queue: str) -> Job | None:
        return None if facts.seen is None else snapshot_of(facts.seen, self._namespace, queue, self._tasks)

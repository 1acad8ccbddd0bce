"""Why a job does not run, or what it does: one pure function from the facts to a verdict and a sentence."""

from __future__ import annotations

import enum
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import NamedTuple

import msgspec

from ..brokers.pauses import WHOLE_QUEUE, StoredPause
from ..brokers.places import LOOKED_AT_MOST, JobFacts, JobSeen, LeaseSeen, Place
from ..brokers.results import EndRecord, EndState
from ..job import Job
from ..timing import from_milliseconds
from .snapshots import detail_of

NAMED_AT_MOST = 5
"""How many workers or queues a sentence names."""
DEATHS = {
    "exhausted": "it {error}, and has no retries left",
    "aborted": "it {error}, which asks for no retry",
    "lost": "its worker disappeared, and a job without retries starts at most once",
    "interrupted": "its worker stopped or lost its lease, and a job without retries starts at most once",
    "poison": "it ran on several workers that disappeared",
    "result": "its result could not be kept",
    "unknown": "no worker has known its task for a day",
    "unreadable": "what is stored of it cannot be read",
}
"""What the reasons of dead jobs mean."""


class Verdict(enum.Enum):
    """Why a job does not run, or what has become of it."""

    QUEUED = "queued"
    """The next free worker takes it, after the jobs ahead of it."""
    NOT_DUE = "not due"
    RETRY = "retry"
    """It failed, and is tried again later."""
    AT_LIMIT = "at limit"
    """As many jobs of its task run as may run at once."""
    QUEUE_PAUSED = "queue paused"
    TASK_PAUSED = "task paused"
    NO_WORKER = "no worker"
    """No live worker consumes its queue."""
    UNKNOWN_TASK = "unknown task"
    """Workers consume its queue, and none of them knows its task."""
    PARKED = "parked"
    """A worker did not know its task, or another release stored it: it waits for a worker that can run it."""
    RUNNING = "running"
    CANCELLING = "cancelling"
    """It was cancelled, and its body has not ended yet."""
    LOST = "lost"
    """The lease of its worker has ended, and another worker takes the job over."""
    UNREADABLE = "unreadable"
    """Its stored header is damaged. The worker that meets it makes it dead."""
    DEAD = "dead"
    ENDED = "ended"
    """It has succeeded or was cancelled, and keeps its result for a while."""
    UNKNOWN = "unknown"
    """No such job was stored, or it has ended and is forgotten."""


class Explanation(msgspec.Struct, frozen=True, kw_only=True):
    """What becomes of a job, and why; ``str()`` is the sentence, and the stack if there is one."""

    verdict: Verdict
    sentence: str
    """It names tasks, queues, workers and classes of errors, and has no argument. It has the message of an
    error only as the reason of a pause that a job asked for."""
    job: Job | None = None
    """None if no such job is stored."""
    ahead: int | None = None
    """How many jobs are ahead of it; None if it is not queued, or if they are more than 10,000."""
    until: datetime | None = None
    """When it is due or tried again, or when the pause ends; for a lost job, when another worker takes it
    over, at about."""
    holders: Mapping[str, int] = {}
    """For a task at its limit: how many of its jobs run on which worker. The name is empty for workers that
    have not reported."""
    workers: int | None = None
    """How many live workers consume its queue; None for jobs that do not wait for one."""
    stack: tuple[str, ...] | None = None
    """If it was asked for: a line ``file:line function`` for each frame of the running body, the outermost
    first. None if the job does not run, or its worker has not answered."""

    def __str__(self) -> str:
        return "\n".join((self.sentence, *(f"  {frame}" for frame in self.stack or ())))


class Reason(NamedTuple):
    """The result of ``explain``."""

    verdict: Verdict
    sentence: str
    until: int | None = None


def explain(facts: JobFacts, queue: str, grace: float, queues: Sequence[str]) -> Reason:
    """Return why a job of a queue does not run, or what it does. A job counts as lost ``grace`` seconds after
    the end of its lease. ``queues`` are those in which it was looked for."""
    seen = facts.seen
    if seen is None and facts.end is not None:
        return _explain_end(facts.end)
    if seen is None:
        return _explain_unknown(queues)
    if seen.place is Place.DEAD:
        return _explain_dead(seen)
    if seen.place is Place.PARKED:
        return _explain_parked(facts, seen)
    if not seen.job.task:
        return Reason(
            Verdict.UNREADABLE, "cannot be read: the next worker that meets it puts it among the dead jobs"
        )
    if seen.lease is not None:
        return _explain_lease(facts, seen.lease, grace)
    if seen.job.at > facts.now and seen.place is Place.FUTURE:
        return _explain_future(facts, seen)
    return _explain_queued(facts, seen, queue)


def _explain_unknown(queues: Sequence[str]) -> Reason:
    if not queues:
        return Reason(
            Verdict.UNKNOWN, "is unknown: the engine has no tasks, and so no queue to search; give it queue="
        )
    where = f"queue {queues[0]}" if len(queues) == 1 else f"queues {_listed(queues)}"
    return Reason(
        Verdict.UNKNOWN,
        f"is unknown: no such job was stored in the {where}, or it has ended and is forgotten",
    )


def _explain_end(end: EndRecord) -> Reason:
    moment = _moment(end.ended_at)
    if end.state is EndState.CANCELLED:
        return Reason(Verdict.ENDED, f"has ended: it was cancelled at {moment}")
    return Reason(Verdict.ENDED, f"has ended: it succeeded at {moment}, and its result is kept")


def _explain_dead(seen: JobSeen) -> Reason:
    if seen.dead is None:
        return Reason(Verdict.DEAD, "is dead")
    detail = detail_of(seen.dead)
    reason, error = detail.get("reason", ""), detail.get("error")
    why = DEATHS.get(reason, "for an unknown reason").format(error=f"raised {error}" if error else "failed")
    named = f" ({reason})" if reason else ""
    return Reason(Verdict.DEAD, f"died at {_moment(seen.dead.died_at)}: {why}{named}")


def _explain_parked(facts: JobFacts, seen: JobSeen) -> Reason:
    if not seen.job.task:
        return Reason(Verdict.PARKED, "is parked: another release stored it, whose workers can run it")
    since = f"has been parked since {_moment(seen.job.parked_at)}"
    if facts.is_known:
        return Reason(Verdict.PARKED, f"{since}: a live worker knows its task now, and takes it soon")
    return Reason(Verdict.PARKED, f"{since}: no live worker knows its task {seen.job.task}{_owner(facts)}")


def _explain_lease(facts: JobFacts, lease: LeaseSeen, grace: float) -> Reason:
    worker = lease.worker or "a worker that has not reported"
    if not lease.started:
        sentence = "is lost: its worker disappeared, and another worker decides what becomes of it"
        return Reason(Verdict.LOST, sentence, lease.ends)
    if lease.ends <= facts.now:
        until = lease.ends + int(grace * 1000)
        return Reason(
            Verdict.LOST,
            f"is lost: the lease of {worker} ended at {_moment(lease.ends)}, and another worker takes the job"
            f" over at about {_moment(until)}",
            until,
        )
    if facts.is_cancelled:
        return Reason(Verdict.CANCELLING, f"is cancelled, and its body still runs on {worker}")
    lasted = _span(facts.now - lease.started)
    return Reason(Verdict.RUNNING, f"has run since {_moment(lease.started)}, for {lasted}, on {worker}")


def _explain_future(facts: JobFacts, seen: JobSeen) -> Reason:
    job = seen.job
    due = f"at {_moment(job.at)}, in {_span(job.at - facts.now)}"
    if not job.retries:
        return Reason(Verdict.NOT_DUE, f"waits: it is due {due}", job.at)
    after = f", after {job.error}" if job.error else ""
    retry = f"retry {job.retries} of {job.max_retries}"
    return Reason(Verdict.RETRY, f"waits: it is tried again {due}{after} ({retry})", job.at)


def _explain_queued(facts: JobFacts, seen: JobSeen, queue: str) -> Reason:
    task, ahead = seen.job.task, _ahead(facts, seen)
    if facts.pause is not None and not facts.pause.is_over(facts.now):
        return _explain_pause(facts.pause, queue)
    if not facts.workers:
        return Reason(Verdict.NO_WORKER, f"waits: no live worker consumes the queue {queue}")
    if not facts.is_known:
        workers = "the live worker" if facts.workers == 1 else f"none of the {facts.workers} live workers"
        knows = "does not know" if facts.workers == 1 else "knows"
        return Reason(
            Verdict.UNKNOWN_TASK, f"waits: {workers} of the queue {queue} {knows} task {task}{_owner(facts)}"
        )
    if facts.limit and facts.used >= facts.limit:
        return Reason(
            Verdict.AT_LIMIT,
            f"waits: task {task} runs {facts.used} of {facts.limit} on {_holders(facts)}; {ahead}",
        )
    if seen.place is Place.FUTURE:
        sentence = f"has been due since {_moment(seen.job.at)}, and a worker queues it within seconds"
        return Reason(Verdict.QUEUED, sentence)
    return Reason(Verdict.QUEUED, f"is queued: {ahead}")


def _explain_pause(pause: StoredPause, queue: str) -> Reason:
    is_queue = pause.task == WHOLE_QUEUE
    what = f"the queue {queue}" if is_queue else f"task {pause.task}"
    until = f"until {_moment(pause.until)}" if pause.until else "until it is resumed"
    why = f": {pause.reason}" if pause.reason else ""
    return Reason(
        Verdict.QUEUE_PAUSED if is_queue else Verdict.TASK_PAUSED,
        f"waits: {what} has been paused since {_moment(pause.since)} by {pause.by}, {until}{why}",
        pause.until or None,
    )


def _ahead(facts: JobFacts, seen: JobSeen) -> str:
    of_task, line = (f" of task {seen.job.task}", "") if seen.place is Place.LANES else ("", " in line")
    if facts.ahead == 0:
        return f"no job{of_task} is ahead of it{line}"
    if facts.ahead == 1:
        return f"1 job{of_task} is ahead of it{line}"
    many = f"more than {LOOKED_AT_MOST:,}" if facts.ahead is None else f"{facts.ahead:,}"
    return f"{many} jobs{of_task} are ahead of it{line}"


def _holders(facts: JobFacts) -> str:
    names = sorted(facts.holders.items(), key=lambda item: (-item[1], item[0]))
    named = [f"{name or 'workers that have not reported'} ({count})" for name, count in names]
    return _listed(named) if named else "no known worker"


def _listed(names: Sequence[str]) -> str:
    """The first of these names, and how many others there are."""
    named = list(names[:NAMED_AT_MOST])
    if len(names) > NAMED_AT_MOST:
        named.append(f"{len(names) - NAMED_AT_MOST} others")
    return " and ".join(filter(None, (", ".join(named[:-1]), named[-1])))


def _owner(facts: JobFacts) -> str:
    return f"; worker {facts.owner} knew it last" if facts.owner else ""


def _moment(milliseconds: int) -> str:
    return f"{from_milliseconds(milliseconds):%Y-%m-%d %H:%M:%S} UTC"


def _span(milliseconds: int) -> str:
    seconds = max(0.0, milliseconds / 1000)
    for length, unit in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= 2 * length:
            return f"{seconds / length:.0f} {unit}"
    return f"{seconds:.0f} s" if seconds >= 10 else f"{seconds:.1f} s"

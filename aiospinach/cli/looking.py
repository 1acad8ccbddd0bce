"""The commands that look, and change nothing."""

from __future__ import annotations

from enum import Enum
from typing import Annotated

from cyclopts import Parameter

from aiospinach import Engine, Job, JobStatus, Verdict
from aiospinach.views.phrases import age, moment, progress_text, status_name
from aiospinach.views.text import printable

from .exits import NOT, WELL
from .options import Json, Queue, Task
from .output import age_of, is_terminal, print_json, print_table
from .rows import Death, JobReport, JobsPage, PingReport, QueueRow
from .target import Target, ask


class Status(Enum):
    """The statuses of stored jobs."""

    QUEUED = "queued"
    WAITING = "waiting"
    RUNNING = "running"
    DEAD = "dead"


_STATUSES = {
    Status.QUEUED: JobStatus.QUEUED,
    Status.WAITING: JobStatus.WAITING,
    Status.RUNNING: JobStatus.RUNNING,
    Status.DEAD: JobStatus.FAILED,
}


def counts(target: Target | None = None, *, queue: Queue = None, json: Json = False) -> int:
    """Count the jobs of each queue.

    `ready` jobs may start now, `waiting` ones are not due yet or are tried again later, and `parked` ones
    wait for a worker that has their task. `oldest` is for how long the first job in line has been due.

    ```console
    aiospinach counts shop:engine
    ```
    """

    async def show(engine: Engine) -> None:
        rows = [QueueRow.of(*each) for each in (await engine.counts(queue=queue)).items()]
        if json:
            print_json(rows)
            return
        columns = ("queue", "ready", "running", "waiting", "dead", "parked", "oldest", "workers", "paused")
        cells = [
            (
                *(
                    row.queue,
                    row.ready,
                    row.running,
                    row.waiting,
                    row.dead,
                    row.parked,
                    "" if row.oldest is None else age(row.oldest),
                ),
                *(row.workers, "paused" if row.paused else ", ".join(row.paused_tasks)),
            )
            for row in rows
        ]
        print_table(columns, cells)

    return ask(target, show)


def jobs(
    target: Target | None = None,
    *,
    status: Annotated[Status | None, Parameter(name=["--status", "-s"])] = None,
    task: Task = None,
    queue: Queue = None,
    key: str | None = None,
    error: str | None = None,
    limit: Annotated[int, Parameter(name=["--limit", "-n"], show_default=True)] = 100,
    after: Annotated[str | None, Parameter(allow_leading_hyphen=True)] = None,
    json: Json = False,
) -> int:
    """List jobs, without their arguments.

    Queued jobs come in the order in which they start, waiting ones by their moments, running ones by their
    starts, and dead ones with the latest first.

    ```console
    aiospinach jobs shop:engine --status dead --task send
    ```

    Parameters
    ----------
    status
        Only jobs of this status.
    key
        Only jobs that have this key.
    error
        Only jobs whose last error is of this class, with or without its module.
    limit
        How many jobs to list, 1,000 at most.
    after
        The cursor of the page before, to list the next one with the same other options.
    """

    async def show(engine: Engine) -> None:
        wanted = None if status is None else _STATUSES[status]
        page = await engine.page(
            queue=queue, status=wanted, task=task, key=key, error=error, after=after, limit=limit
        )
        if json:
            print_json(JobsPage.of(page))
            return
        columns = ("task", "id", "queue", "status", "due", "tries", "worker", "error")
        print_table(columns, [_cells(job) for job in page.jobs])
        if page.cursor is not None and is_terminal():
            print(f"there are more: --after {page.cursor}")

    return ask(target, show)


def _cells(job: Job) -> tuple[str | None, ...]:
    due = f"since {age_of(job.started_at)}" if job.started_at else moment(job.at)
    tries = f"{job.retries + 1}/{job.max_retries + 1}" if job.max_retries else "1"
    return job.task_name, job.id, job.queue, status_name(job.status), due, tries, job.worker, job.error


def job(
    job_id: Annotated[str, Parameter(name="ID", show=True)],
    /,
    target: Target | None = None,
    *,
    queue: Queue = None,
    stack: Annotated[bool, Parameter(negative="")] = False,
    arguments: Annotated[bool, Parameter(negative="")] = False,
    json: Json = False,
) -> int:
    """Explain one job: why it does not run, where it runs, or why it is dead, with its traceback.

    ```console
    aiospinach job order-17 shop:engine --stack
    ```

    The exit code is 1 if no such job is known.

    Parameters
    ----------
    job_id
        The id of the job.
    stack
        Ask the worker of a running job at which line its body is.
    arguments
        Show the arguments, if the engine has the task. They may be somebody's secrets.
    """

    async def show(engine: Engine) -> int:
        explanation = await engine.explain(job_id, queue=queue, stack=stack)
        found = explanation.job
        death = await _death_of(engine, found) if explanation.verdict is Verdict.DEAD and found else None
        values = _arguments_of(found) if found is not None and arguments else None
        report = JobReport.of(job_id, explanation, death, values)
        if json:
            print_json(report)
        else:
            _print_report(report)
        return NOT if explanation.verdict is Verdict.UNKNOWN else WELL

    return ask(target, show)


def _arguments_of(job: Job) -> list[str] | None:
    shown = [*map(repr, job.args), *(f"{name}={value!r}" for name, value in job.kwargs.items())]
    return shown or None


async def _death_of(engine: Engine, job: Job) -> Death | None:
    dead = await engine.dead_job(job)
    return None if dead is None else Death.of(dead)


def _print_report(report: JobReport) -> None:
    print(f"job {report.id} {printable(report.sentence)}")
    if (job := report.job) is not None:
        task = printable(job.task) or "unreadable"
        print(f"  task {task}, queue {job.queue}, scheduled {moment(job.created_at)}")
        if job.max_retries:
            print(f"  try {job.retries + 1} of {job.max_retries + 1}")
        if job.key:
            print(f"  key {printable(job.key)}")
        if job.progress is not None:
            print(f"  progress {printable(progress_text(job.progress))}")
    for value in report.arguments or ():
        print(f"  {printable(value)}")
    for frame in report.stack or ():
        print(f"  {printable(frame)}")
    if (death := report.death) is not None:
        if death.message:
            print(f"  {printable(death.message)}")
        for line in death.traceback.splitlines():
            print(f"    {printable(line)}")


def workers(target: Target | None = None, *, queue: Queue = None, json: Json = False) -> int:
    """List the workers that live, as they have reported.

    A worker that was killed is listed for three more leases, which are three minutes by default.

    ```console
    aiospinach workers shop:engine --queue mail
    ```
    """

    async def show(engine: Engine) -> None:
        found = await engine.workers(queue=queue)
        if json:
            print_json(found)
            return
        columns = ("worker", "queues", "jobs", "up", "seen", "lag", "release")
        cells = [
            (
                *(each.name, ", ".join(each.queues), f"{each.running}/{each.number}"),
                *(age_of(each.started_at), f"{age_of(each.seen_at)} ago", f"{each.loop_lag * 1000:.0f} ms"),
                each.version,
            )
            for each in found
        ]
        print_table(columns, cells)

    return ask(target, show)


def ping(target: Target | None = None, *, json: Json = False) -> int:
    """Connect to the store: its kind and release, the time of an answer, and the difference of its clock.

    ```console
    aiospinach ping --url redis://localhost:6379/0 --namespace shop
    ```

    The exit code is 3 if the store does not answer.
    """

    async def show(engine: Engine) -> None:
        answer = await engine.ping()
        trip, difference = answer.round_trip * 1000, answer.clock_difference * 1000
        if json:
            print_json(
                PingReport(
                    server=answer.server,
                    version=answer.version,
                    namespace=engine.namespace,
                    round_trip_ms=round(trip, 3),
                    clock_difference_ms=round(difference, 3),
                )
            )
            return
        ahead = "ahead of" if difference >= 0 else "behind"
        print(
            f"{answer.server} {answer.version} answers in {trip:.1f} ms; its clock is"
            f" {abs(difference):.0f} ms {ahead} this machine's"
        )

    return ask(target, show, needs_queue=False)

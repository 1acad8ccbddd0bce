"""The commands that change what becomes of jobs."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Annotated

from cyclopts import Parameter

from aiospinach import Engine, JobStatus, UnknownTask
from aiospinach.views.phrases import moment

from .exits import NOT, WELL, Refused, WrongUsage, say
from .moments import span_of
from .options import PausedQueue, Queue, Task, Yes
from .target import Target, ask

JobId = Annotated[str, Parameter(name="ID", help="The id of the job.")]


def cancel(job_id: JobId, /, target: Target | None = None, *, queue: Queue = None) -> int:
    """Cancel a job that waits, is queued or runs.

    A running async body is cancelled, and the job is not tried again.

    ```console
    aiospinach cancel order-17 shop:engine
    ```

    The exit code is 1 if no such job lives.
    """

    async def change(engine: Engine) -> int:
        status = await engine.cancel(job_id, queue=queue)
        if status is JobStatus.NOT_SET:
            raise Refused(f"no job {job_id} lives: nothing was cancelled")
        ending = "its body is being cancelled" if status is JobStatus.RUNNING else "it will never run"
        print(f"job {job_id} was {status.value}, and {ending}")
        return WELL

    return ask(target, change)


def requeue(job_id: JobId, /, target: Target | None = None, *, queue: Queue = None) -> int:
    """Queue a dead job again, as if it had never run.

    ```console
    aiospinach requeue order-17 shop:engine
    ```

    The exit code is 1 if no such job is dead.
    """

    async def change(engine: Engine) -> int:
        if not await engine.requeue(job_id, queue=queue):
            raise Refused(f"no job {job_id} is dead, or its id is in use again: nothing was queued")
        print(f"job {job_id} is queued again")
        return WELL

    return ask(target, change)


def discard(job_id: JobId, /, target: Target | None = None, *, queue: Queue = None) -> int:
    """Forget a dead job.

    ```console
    aiospinach discard order-17 shop:engine
    ```

    The exit code is 1 if no such job is dead.
    """

    async def change(engine: Engine) -> int:
        if not await engine.discard(job_id, queue=queue):
            raise Refused(f"no job {job_id} is dead: nothing was discarded")
        print(f"job {job_id} is forgotten")
        return WELL

    return ask(target, change)


def run_now(job_id: JobId, /, target: Target | None = None, *, queue: Queue = None) -> int:
    """Have a job that waits start now, and not at its moment.

    ```console
    aiospinach run-now reminder-3 shop:engine
    ```

    The exit code is 1 if no such job waits or is queued.
    """
    return _move(job_id, None, target, queue)


def reschedule(
    job_id: JobId,
    moment_or_span: Annotated[str, Parameter(name="MOMENT")],
    /,
    target: Target | None = None,
    *,
    queue: Queue = None,
) -> int:
    """Move a job that waits or is queued to another moment.

    ```console
    aiospinach reschedule reminder-3 2h shop:engine
    ```

    The exit code is 1 if no such job waits or is queued.

    Parameters
    ----------
    moment_or_span
        A moment such as 2026-12-24T18:00, in UTC unless it names another zone; or a span from now: 90s, 15m,
        2h, 3d.
    """
    return _move(job_id, moment_or_span, target, queue)


def _move(job_id: str, when: str | None, target: Target | None, queue: str | None) -> int:
    async def change(engine: Engine) -> int:
        at = None if when is None else _moment_of(when)
        status = await engine.reschedule(job_id, at, queue=queue)
        if status is JobStatus.FAILED:
            raise Refused(f"job {job_id} is dead: aiospinach requeue queues it again")
        if status is JobStatus.RUNNING:
            raise Refused(f"job {job_id} runs already: it was not moved")
        if status is JobStatus.NOT_SET:
            raise Refused(f"no job {job_id} lives: nothing was moved")
        print(f"job {job_id} starts {'now' if at is None else f'at {moment(at)}'}, or when its turn comes")
        return WELL

    return ask(target, change)


def _moment_of(text: str) -> datetime:
    if (span := span_of(text)) is not None:
        return datetime.now(UTC) + span
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        raise WrongUsage(
            f"{text!r} is no moment: give one such as 2026-12-24T18:00, or a span such as 90s, 15m, 2h or 3d"
        ) from None
    return at if at.tzinfo is not None else at.replace(tzinfo=UTC)


def pause(
    target: Target | None = None,
    *,
    task: Task = None,
    queue: PausedQueue = None,
    for_: Annotated[str | None, Parameter(name="--for")] = None,
    reason: str = "",
) -> int:
    """Start no more jobs of a task, or of a whole queue, on any worker.

    Jobs that run go on. A task that the engine does not have needs its queue as well.

    ```console
    aiospinach pause shop:engine --queue mail --for 15m --reason "provider is down"
    ```

    Parameters
    ----------
    for_
        How long: 90s, 15m, 2h, 3d. By default until aiospinach resume.
    reason
        Why, for people.
    """

    async def change(engine: Engine) -> int:
        length = None if for_ is None else _length_of(for_)
        with _named_target(task, queue):
            await engine.pause(task, queue=queue, for_=length, reason=reason)
        until = "until it is resumed" if for_ is None else f"for {for_}"
        print(f"{_named(task, queue)} is paused {until}")
        return WELL

    return ask(target, change)


def _length_of(text: str) -> timedelta:
    if (span := span_of(text)) is None:
        raise WrongUsage(f"--for {text!r} is no span: give one such as 90s, 15m, 2h or 3d")
    return span


def resume(target: Target | None = None, *, task: Task = None, queue: PausedQueue = None) -> int:
    """End a pause of a task, or of a whole queue.

    ```console
    aiospinach resume shop:engine --queue mail
    ```

    The exit code is 1 if it was not paused.
    """

    async def change(engine: Engine) -> int:
        with _named_target(task, queue):
            was_paused = await engine.resume(task, queue=queue)
        if not was_paused:
            raise Refused(f"{_named(task, queue)} was not paused")
        print(f"{_named(task, queue)} goes on")
        return WELL

    return ask(target, change)


@contextmanager
def _named_target(task: str | None, queue: str | None) -> Iterator[None]:
    """Have an error about the task or the queue of a pause name the options of the command."""
    if task is None and queue is None:
        raise WrongUsage("name a queue or a task, as in --queue mail or --task send")
    try:
        yield
    except UnknownTask as error:
        raise WrongUsage(
            f"the engine has no task {task!r}, so its queue is not known: if the name is right, add --queue"
        ) from error


def _named(task: str | None, queue: str | None) -> str:
    return f"queue {queue}" if task is None else f"task {task}"


def purge(
    target: Target | None = None,
    *,
    queue: Queue = None,
    task: Task = None,
    live: Annotated[bool, Parameter(negative="")] = False,
    dead: Annotated[bool, Parameter(negative="")] = False,
    yes: Yes = False,
) -> int:
    """Cancel all jobs that wait or are queued, or forget dead ones; of every queue, or of a queue or a task.

    Running jobs go on, and periodic tasks keep their next ticks. It cannot be undone, so it asks first.

    ```console
    aiospinach purge shop:engine --dead --task send --yes
    ```

    The exit code is 1 if the answer is no.

    Parameters
    ----------
    live
        Cancel the jobs that wait or are queued.
    dead
        Forget the dead jobs.
    """

    async def change(engine: Engine) -> int:
        if not (live or dead):
            raise WrongUsage("name the jobs to purge: --live, --dead or both")
        if not yes and not await _is_sure(engine, live=live, dead=dead, queue=queue, task=task):
            say("nothing was purged")
            return NOT
        if live:
            number = await engine.cancel_all(queue=queue, task=task)
            print("1 job was cancelled" if number == 1 else f"{number:,} jobs were cancelled")
        if dead:
            number = await engine.discard_dead(queue=queue, task=task)
            print("1 dead job was forgotten" if number == 1 else f"{number:,} dead jobs were forgotten")
        return WELL

    return ask(target, change)


async def _is_sure(engine: Engine, *, live: bool, dead: bool, queue: str | None, task: str | None) -> bool:
    if not sys.stdin.isatty():
        raise WrongUsage("purge asks before it begins, and there is no terminal to ask: give --yes")
    counts = (await engine.counts(queue=queue)).values()
    numbers = {
        "live": sum(each.ready + each.waiting + each.parked for each in counts) if live else None,
        "dead": sum(each.dead for each in counts) if dead else None,
    }
    shown = " and ".join(f"{number:,} {name}" for name, number in numbers.items() if number is not None)
    of_task = f" those of task {task} among" if task is not None else ""
    where = f"queue {queue}" if queue is not None else "every queue"
    print(f"namespace {engine.namespace}:{of_task} {shown} jobs of {where} will be gone.", file=sys.stderr)
    print("Go on? [y/N] ", end="", file=sys.stderr, flush=True)
    return sys.stdin.readline().strip().lower() in ("y", "yes")

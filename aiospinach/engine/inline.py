"""``Engine.execute``: runs the body of a task in the calling process, without a broker."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Any

import msgspec

from .. import signals
from ..call import call_surrounded
from ..dependencies import SharedScope
from ..exceptions import JobTimeout
from ..functions import is_awaitable
from ..job import Job, JobStatus, running_job
from ..signals.receivers import discard
from ..signals.sender import Sender
from ..surroundings import Surroundings
from ..task import Task
from ..workers import Threads


async def run_inline(
    task: Task[..., Any],
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    sender: Sender,
    surroundings: Surroundings,
) -> Any:
    """Run a task between job_started and job_finished. Returns its result, and raises its errors."""
    task._arguments.fit(args, kwargs)
    now = datetime.now(UTC)
    job = Job(
        id=task._job_id or secrets.token_hex(16),
        task_name=task.name,
        queue=task.queue,
        namespace=sender.namespace,
        at=now,
        status=JobStatus.RUNNING,
        created_at=now,
        args=args,
        kwargs=kwargs,
        headers=surroundings.carried.headers(),
        key=task._key,
    )
    before = running_job.set(job)
    try:
        return await _run(task, job, sender, surroundings)
    finally:
        running_job.reset(before)


async def _run(task: Task[..., Any], job: Job, sender: Sender, surroundings: Surroundings) -> Any:
    began = time.perf_counter()

    async def send_finished(status: JobStatus, error: BaseException | None, result: Any) -> None:
        ended = msgspec.structs.replace(job, status=status)
        duration = time.perf_counter() - began
        finished = {"job": ended, "err": error, "duration": duration, "result": result}
        await sender.send(signals.job_finished, finished)

    try:
        await sender.send(signals.job_started, {"job": job})
        began = time.perf_counter()
        result = await _call_in_time(task, job, surroundings)
    except BaseException as error:
        await send_finished(JobStatus.FAILED, error, None)
        raise
    await send_finished(JobStatus.SUCCEEDED, None, result)
    return result


async def _call_in_time(task: Task[..., Any], job: Job, surroundings: Surroundings) -> Any:
    """Call the function within the time limit of the task. Shared values are of this call."""
    arounds = [*surroundings.arounds, *task._arounds]
    errors: list[BaseException] = []
    scope = SharedScope(surroundings.overrides, lambda name, error: errors.append(error))
    try:
        async with asyncio.timeout(task.timeout) as limit:
            try:
                result = await call_surrounded(_Host(), task, job, arounds, scope)
            finally:
                await scope.close()
            for error in errors:
                raise error
            return result
    except TimeoutError as error:
        if not limit.expired():
            raise
        raise JobTimeout(f"task {task.name!r} took longer than {task.timeout:g} s") from error


class _Host:
    """Calls the function of a task at once, in this process."""

    def call(self, task: Task[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        return task.function(*args, **kwargs)

    async def perform(self, body: Callable[[], Awaitable[Any]]) -> Any:
        result = await body()
        return await result if is_awaitable(result) else result

    async def call_in_thread(self, call: Callable[[], Any]) -> Any:
        caller = asyncio.current_task()
        assert caller is not None
        cancellations = caller.cancelling()
        threads = Threads(1, "aiospinach execute")
        try:
            result = await threads.run(call, (), {})
        finally:
            threads.end()
            threads.join()
        if caller.cancelling() > cancellations:
            discard(result)
            raise asyncio.CancelledError  # it arrived while the thread ran
        return result

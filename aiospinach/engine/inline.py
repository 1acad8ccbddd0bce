"""``Engine.execute``: runs the body of a task in the calling process, without a broker."""

from __future__ import annotations

import asyncio
import secrets
import time
from datetime import UTC, datetime
from typing import Any

import msgspec

from .. import signals
from ..dependencies import Injection, Overrides, SharedScope
from ..exceptions import JobTimeout
from ..functions import is_awaitable
from ..job import Job, JobStatus, running_job
from ..signals.receivers import discard
from ..signals.sender import Sender
from ..task import Task
from ..workers import Threads


async def run_inline(
    task: Task[..., Any],
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    sender: Sender,
    overrides: Overrides,
) -> Any:
    """Run a task between job_started and job_finished. Returns its result, and raises its errors."""
    task._arguments.fit(args, kwargs)
    job = Job(
        id=task._job_id or secrets.token_hex(16),
        task_name=task.name,
        queue=task.queue,
        namespace=sender.namespace,
        at=datetime.now(UTC),
        status=JobStatus.RUNNING,
        args=args,
        kwargs=kwargs,
    )
    before = running_job.set(job)
    try:
        return await _run(task, job, sender, overrides)
    finally:
        running_job.reset(before)


async def _run(task: Task[..., Any], job: Job, sender: Sender, overrides: Overrides) -> Any:
    began = time.perf_counter()

    async def send_finished(status: JobStatus, error: BaseException | None, result: Any) -> None:
        ended = msgspec.structs.replace(job, status=status)
        duration = time.perf_counter() - began
        finished = {"job": ended, "err": error, "duration": duration, "result": result}
        await sender.send(signals.job_finished, finished)

    try:
        await sender.send(signals.job_started, {"job": job})
        began = time.perf_counter()
        result = await _call_in_time(task, job, overrides)
    except BaseException as error:
        await send_finished(JobStatus.FAILED, error, None)
        raise
    await send_finished(JobStatus.SUCCEEDED, None, result)
    return result


async def _call_in_time(task: Task[..., Any], job: Job, overrides: Overrides) -> Any:
    try:
        async with asyncio.timeout(task.timeout) as limit:
            if task._injection is None:
                return await _call(task, job.args, job.kwargs)
            return await _call_injected(task, task._injection, job, overrides)
    except TimeoutError as error:
        if not limit.expired():
            raise
        raise JobTimeout(f"task {task.name!r} took longer than {task.timeout:g} s") from error


async def _call_injected(task: Task[..., Any], injection: Injection, job: Job, overrides: Overrides) -> Any:
    """Call the function with its dependencies. Shared ones are of this call, and no error is logged."""
    errors: list[BaseException] = []
    scope = SharedScope(overrides, lambda name, error: errors.append(error))
    try:
        async with injection.opened(scope) as values:
            args, kwargs = injection.add(values, job.args, job.kwargs)
            result = await _call(task, args, kwargs)
    finally:
        await scope.close()
    for error in errors:
        raise error
    return result


async def _call(task: Task[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    result = await (task.function(*args, **kwargs) if task.is_async else _in_thread(task, args, kwargs))
    return await result if is_awaitable(result) else result


async def _in_thread(task: Task[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    caller = asyncio.current_task()
    assert caller is not None
    cancellations = caller.cancelling()
    threads = Threads(1, "aiospinach execute")
    try:
        result = await threads.run(task.function, args, kwargs)
    finally:
        threads.end()
        threads.join()
    if caller.cancelling() > cancellations:
        discard(result)
        raise asyncio.CancelledError  # it arrived while the thread ran
    return result

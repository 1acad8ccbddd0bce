"""``Engine.execute``: runs the body of a task in the calling process, without a broker."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime
from typing import Any

import msgspec

from .. import signals
from ..around import Around, await_within, call_within
from ..dependencies import Injection, Overrides, SharedScope
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
    arounds = [*surroundings.arounds, *task._arounds]

    def body() -> Any:
        return task.function(*job.args, **job.kwargs)

    try:
        async with asyncio.timeout(task.timeout) as limit:
            if task._injection is not None:
                result = await _call_injected(arounds, task, task._injection, job, surroundings.overrides)
            elif task.is_async:
                result = await await_within(arounds, job, body)
            else:
                result = await call_within(arounds, job, body, _in_thread)
            return await result if is_awaitable(result) else result
    except TimeoutError as error:
        if not limit.expired():
            raise
        raise JobTimeout(f"task {task.name!r} took longer than {task.timeout:g} s") from error


async def _call_injected(
    arounds: Sequence[Around], task: Task[..., Any], injection: Injection, job: Job, overrides: Overrides
) -> Any:
    """Call the function with its dependencies. Shared ones are of this call, and no error is logged."""
    errors: list[BaseException] = []
    scope = SharedScope(overrides, lambda name, error: errors.append(error))
    args, kwargs = job.args, job.kwargs

    def call() -> Any:
        return task.function(*args, **kwargs)

    async def run(within: Callable[[], Awaitable[Any]]) -> Any:
        nonlocal args, kwargs
        async with injection.opened(scope) as values:
            args, kwargs = injection.add(values, job.args, job.kwargs)
            result = await within()
            return await result if is_awaitable(result) else result

    try:
        if task.is_async:
            result = await await_within(arounds, job, lambda: run(call))
        else:
            result = await call_within(arounds, job, call, lambda plain: run(lambda: _in_thread(plain)))
    finally:
        await scope.close()
    for error in errors:
        raise error
    return result


async def _in_thread(function: Callable[[], Any]) -> Any:
    caller = asyncio.current_task()
    assert caller is not None
    cancellations = caller.cancelling()
    threads = Threads(1, "aiospinach execute")
    try:
        result = await threads.run(function, (), {})
    finally:
        threads.end()
        threads.join()
    if caller.cancelling() > cancellations:
        discard(result)
        raise asyncio.CancelledError  # it arrived while the thread ran
    return result

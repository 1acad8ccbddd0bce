"""Running the body of a task here and now, without a broker."""

from __future__ import annotations

import asyncio
import secrets
import time
from datetime import UTC, datetime
from typing import Any

import msgspec

from .. import signals
from ..exceptions import JobTimeout
from ..functions import is_to_be_awaited
from ..job import Job, JobStatus, running_job
from ..signals.receivers import discard
from ..task import Task
from ..workers import Threads
from .producer import Producer


async def run_inline(
    task: Task[..., Any],
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    namespace: str,
    producer: Producer,
) -> Any:
    """What the task returns, or raises; with job_started and job_finished around it."""
    task.arguments.fit(args, kwargs)
    job = Job(
        id=task.job_id or secrets.token_hex(16),
        task_name=task.name,
        queue=task.queue,
        namespace=namespace,
        at=datetime.now(UTC),
        status=JobStatus.RUNNING,
        args=args,
        kwargs=kwargs,
    )
    before = running_job.set(job)
    try:
        return await _run(task, job, producer)
    finally:
        running_job.reset(before)


async def _run(task: Task[..., Any], job: Job, producer: Producer) -> Any:
    began = time.perf_counter()

    async def tell_end(status: JobStatus, error: BaseException | None, result: Any) -> None:
        ended = msgspec.structs.replace(job, status=status)
        duration = time.perf_counter() - began
        told = {"job": ended, "err": error, "duration": duration, "result": result}
        await producer.tell(signals.job_finished, told)

    try:
        await producer.tell(signals.job_started, {"job": job})
        began = time.perf_counter()
        result = await _call(task, job)
    except BaseException as error:
        await tell_end(JobStatus.FAILED, error, None)
        raise
    await tell_end(JobStatus.SUCCEEDED, None, result)
    return result


async def _call(task: Task[..., Any], job: Job) -> Any:
    try:
        async with asyncio.timeout(task.timeout) as limit:
            result = await (
                task.function(*job.args, **job.kwargs) if task.is_async else _in_thread(task, job)
            )
            return await result if is_to_be_awaited(result) else result
    except TimeoutError as error:
        if not limit.expired():
            raise
        raise JobTimeout(f"task {task.name!r} took longer than {task.timeout:g} s") from error


async def _in_thread(task: Task[..., Any], job: Job) -> Any:
    caller = asyncio.current_task()
    assert caller is not None
    cancellations = caller.cancelling()
    threads = Threads(1, "aiospinach run_inline")
    try:
        result = await threads.run(task.function, job.args, job.kwargs)
    finally:
        threads.end()
        threads.join()
    if caller.cancelling() > cancellations:
        discard(result)
        raise asyncio.CancelledError  # it was kept back while the thread ran
    return result

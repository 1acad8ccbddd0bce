"""What a key does to a job or a queue, and the sentence that reports it."""

from __future__ import annotations

from aiospinach import Engine, Job, JobStatus, UnknownTask

_CANCELLED = {
    JobStatus.WAITING: "was cancelled, and never runs",
    JobStatus.QUEUED: "was cancelled, and never runs",
    JobStatus.RUNNING: "is being cancelled: an async body ends now, a plain function when it returns",
}
_MOVED = {
    JobStatus.WAITING: "was queued, to run now",
    JobStatus.QUEUED: "was queued already",
    JobStatus.RUNNING: "runs already",
    JobStatus.FAILED: "is dead: requeue it with r",
}


async def cancel(engine: Engine, job: Job) -> str:
    """Cancel a job."""
    status = await engine.cancel(job)
    return f"{job.id} {_CANCELLED.get(status, 'lives no longer: nothing was cancelled')}"


async def run_now(engine: Engine, job: Job) -> str:
    """Queue a job that waits."""
    status = await engine.reschedule(job, None)
    return f"{job.id} {_MOVED.get(status, 'lives no longer')}"


async def requeue(engine: Engine, job: Job) -> str:
    """Queue a dead job again."""
    if await engine.requeue(job):
        return f"{job.id} was queued again"
    return f"{job.id} was not queued: it is dead no longer, or its id is in use again"


async def discard(engine: Engine, job: Job) -> str:
    """Forget a dead job."""
    return f"{job.id} " + ("was discarded" if await engine.discard(job) else "is dead no longer")


async def pause(engine: Engine, queue: str, reason: str) -> str:
    """Pause a queue."""
    await engine.pause(queue=queue, reason=reason)
    return f"the queue {queue} is paused: its jobs wait until you resume it"


async def resume(engine: Engine, queue: str) -> str:
    """End the pause of a queue; if it has none, those of its tasks."""
    if await engine.resume(queue=queue):
        return f"the queue {queue} goes on"
    paused = [pause.task for pause in await engine.pauses(queue=queue) if pause.task is not None]
    for task in paused:
        await _resume_task(engine, queue, task)
    if not paused:
        return f"nothing of the queue {queue} was paused"
    return f"{', '.join(paused)} of the queue {queue} {'goes' if len(paused) == 1 else 'go'} on"


async def _resume_task(engine: Engine, queue: str, task: str) -> None:
    try:
        await engine.resume(task)
    except UnknownTask:  # its code is not attached here, so its queue has to be named
        await engine.resume(task, queue=queue)

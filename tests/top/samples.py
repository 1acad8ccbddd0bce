"""Snapshots to draw."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from aiospinach import Job, JobStatus, Pause, WorkerInfo
from aiospinach.views import HISTORY, Overview, QueueRow

NOW = datetime(2026, 11, 29, 8, 1, 12, tzinfo=UTC)
HOSTILE = "\x1b[31mred\x1b[0m\n\u202egnp \ud800"
NO_HISTORY = (0,) * HISTORY


def ago(seconds: float) -> datetime:
    return NOW - timedelta(seconds=seconds)


def queue(name: str = "mail", **fields: Any) -> QueueRow:
    values: dict[str, Any] = {
        **dict.fromkeys(("ready", "running", "waiting", "dead", "parked", "workers", "slots"), 0),
        **{"oldest": None, "pause": None, "paused_tasks": [], "rate": 0.0},
        **{"per_minute": NO_HISTORY, "failed_per_minute": NO_HISTORY},
    }
    return QueueRow(name=name, **(values | fields))


def overview(*queues: QueueRow, workers: Sequence[WorkerInfo] = ()) -> Overview:
    return Overview(
        namespace="shop",
        at=NOW,
        queues=queues,
        workers=workers,
        busy=sum(worker.running for worker in workers),
        slots=sum(worker.number for worker in workers),
        per_minute=tuple(map(sum, zip(NO_HISTORY, *(queue.per_minute for queue in queues), strict=True))),
        failed_per_minute=NO_HISTORY,
        rate=sum(queue.rate for queue in queues),
    )


def pause(task: str | None = None, **fields: Any) -> Pause:
    values: dict[str, Any] = {
        **{"queue": "mail", "since": ago(300), "until": None, "by": "web-1", "reason": "provider is down"},
    }
    return Pause(task=task, **(values | fields))


def worker(name: str = "web-1-4711", **fields: Any) -> WorkerInfo:
    values: dict[str, Any] = {
        **{"host": "web-1", "pid": 4711, "queues": ("mail", "web"), "number": 20, "running": 3},
        **{"seen_at": ago(2), "started_at": ago(7200), "version": "0.1.0", "loop_lag": 0.0012, "level": 1},
    }
    return WorkerInfo(name=name, **(values | fields))


def job(job_id: str = "order-17", status: JobStatus = JobStatus.QUEUED, **fields: Any) -> Job:
    values: dict[str, Any] = {
        **{"task_name": "send", "queue": "mail", "namespace": "shop", "at": ago(90), "created_at": ago(90)},
        **{"args": ("CANARY",), "kwargs": {"name": "CANARY"}, "headers": {"h": "CANARY"}, "max_retries": 3},
    }
    return Job(id=job_id, status=status, **(values | fields))

"""The record of a test: which jobs were scheduled, which bodies began, and which errors are left."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

from .. import signals
from ..job import Job, JobStatus
from ..outcome import is_planned
from ..signals import SafeNamedSignal


@contextmanager
def connected(signal: SafeNamedSignal, receiver: Callable[..., None], namespace: str) -> Iterator[None]:
    """Have the signals of a namespace call this receiver within the block, and leave no trace of it."""
    signal.connect(receiver, namespace)
    try:
        yield
    finally:
        signal.disconnect(receiver)  # with a sender, blinker would keep the receiver in its list


class Record:
    """What the signals of one namespace report."""

    def __init__(self, namespace: str) -> None:
        self._namespace = namespace
        self._connections = ExitStack()
        self.scheduled: list[Job] = []
        self.begun: Counter[str] = Counter()
        """How many bodies have begun, by the name of their task."""
        self.errors: dict[Job, BaseException] = {}
        """The last error of each job that has not succeeded since."""

    def connect(self) -> None:
        """Begin to record."""
        self._connect(signals.job_scheduled, self._on_scheduled)
        self._connect(signals.job_started, self._on_started)
        self._connect(signals.job_schedule_retry, self._on_retry)
        self._connect(signals.job_failed, self._on_failed)
        self._connect(signals.job_finished, self._on_finished)

    def disconnect(self) -> None:
        """Record nothing more."""
        self._connections.close()

    def _connect(self, signal: SafeNamedSignal, receiver: Callable[..., None]) -> None:
        self._connections.enter_context(connected(signal, receiver, self._namespace))

    def _on_scheduled(self, namespace: str, job: Job, **_: Any) -> None:
        self.scheduled.append(job)

    def _on_started(self, namespace: str, job: Job, **_: Any) -> None:
        self.begun[job.task_name] += 1

    def _on_retry(self, namespace: str, job: Job, err: BaseException, **_: Any) -> None:
        if not is_planned(err):
            self.errors[job] = err

    def _on_failed(self, namespace: str, job: Job, err: BaseException, **_: Any) -> None:
        self.errors[job] = err

    def _on_finished(self, namespace: str, job: Job, **_: Any) -> None:
        if job.status in (JobStatus.SUCCEEDED, JobStatus.CANCELLED):
            self.errors.pop(job, None)

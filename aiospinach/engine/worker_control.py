"""Starts and stops the workers of an engine, which has one pool at a time."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from contextvars import copy_context
from datetime import timedelta
from typing import Any

from ..brokers.base import Broker
from ..dependencies import Lifespan
from ..exceptions import AlreadyRunning
from ..job import JobStatus
from ..logs import Log
from ..signals.sender import Sender
from ..surroundings import Surroundings
from ..task import Task
from ..timing import to_seconds
from ..validation import check_flag, check_number
from ..workers import STOPPED, Health, OSSignals, Pool, current_pool
from .attached_tasks import AttachedTasks
from .with_statements import WithStatements

logger: Log = Log("aiospinach")

LARGEST_NUMBER = 10_000
LARGEST_WEIGHT = 1_000


class WorkerControl:
    """Starts, stops and watches one pool of workers at a time, and remembers the last one."""

    def __init__(
        self,
        broker: Broker,
        sender: Sender,
        tasks: AttachedTasks,
        surroundings: Surroundings,
        with_statements: WithStatements,
    ) -> None:
        self._broker = broker
        self._sender = sender
        self._tasks = tasks
        self._surroundings = surroundings
        self._with_statements = with_statements
        self.pool: Pool | None = None

    def use_broker(self, broker: Broker) -> None:
        """Start further workers on another broker."""
        self._broker = broker

    @property
    def is_running(self) -> bool:
        """Workers were started, and have not stopped."""
        return self.pool is not None and not self.pool.has_ended

    @property
    def is_running_here(self) -> bool:
        """The workers run in this event loop."""
        return self.is_running and self.pool is not None and self.pool.loop is asyncio.get_running_loop()

    def health(self) -> Health:
        """The health of the workers."""
        return STOPPED if self.pool is None else self.pool.health()

    async def start(
        self,
        number: int,
        queue: str | Sequence[str] | Mapping[str, int] | None,
        *,
        block: bool,
        stop_when_queue_empty: bool,
        shutdown_timeout: float | timedelta,
        lifespan: Lifespan | None,
    ) -> None:
        """Start a pool. Returns when it has stopped; without ``block``, when it fetches jobs."""
        check_flag(block, what="block")
        if self.is_running:
            raise AlreadyRunning(
                f"the workers of engine {self._sender.namespace!r} already run: await engine.stop_workers()"
                " first"
            )
        queues = self._tasks.check_queues(queue)
        pool = Pool(
            broker=self._broker,
            sender=self._sender,
            tasks=self._tasks.by_name,
            surroundings=self._surroundings,
            lifespan=lifespan,
            queues=queues,
            weights=check_weights(queue) if isinstance(queue, Mapping) else None,
            number=check_number(number, what="number", least=1, most=LARGEST_NUMBER),
            stop_when_queue_empty=check_flag(stop_when_queue_empty, what="stop_when_queue_empty"),
            shutdown_timeout=to_seconds(shutdown_timeout, what="shutdown_timeout"),
            context=copy_context(),
        )
        if not self._tasks.by_name:
            logger.warning(
                "engine %s has no tasks, and its workers run nothing: import the modules that declare tasks,"
                " and attach their registries",
                self._sender.namespace,
                fields={"namespace": self._sender.namespace},
            )
        self._warn_of_queues_left_out(queues, self._tasks.by_name.values())
        self.pool = pool
        self._with_statements.assign(pool, block=block)
        if block:
            with OSSignals(pool.stop, pool.interrupt):
                await pool.join(until_started=True)
                await pool.join()
        else:
            await pool.join(until_started=True)

    async def stop(self) -> None:
        """Stop the pool, and return when it has stopped; return at once if called within the pool."""
        pool = self.pool
        if pool is None or not pool.loop.is_running():
            return
        if pool.loop is not asyncio.get_running_loop():
            call = asyncio.run_coroutine_threadsafe(self.stop(), pool.loop)
            await asyncio.wrap_future(call)
            return
        pool.stop()
        if current_pool() is not pool:
            await pool.wait_closed()

    def on_cancelled(self, queue: str, job_id: str, status: JobStatus) -> None:
        """A job was cancelled. Cancel its body if it runs here, or wait for its retry no longer.

        The id of a job that did not run is free at once, and another job may run under it by now.
        """
        if self.pool is not None and status is JobStatus.RUNNING:
            self.pool.cancel(queue, job_id)
        elif self.pool is not None and status is not JobStatus.NOT_SET:
            self.pool.forget_retry(queue, job_id)

    def on_rescheduled(self, queue: str, job_id: str) -> None:
        """A job was moved: wait for its retry no longer."""
        if self.pool is not None:
            self.pool.forget_retry(queue, job_id)

    def on_tasks_added(self, tasks: Sequence[Task[..., Any]]) -> None:
        """Have running workers register tasks that were attached."""
        if tasks and self.pool is not None and self.is_running:
            self._warn_of_queues_left_out([consumer.queue for consumer in self.pool.consumers], tasks)
            self.pool.loop.call_soon_threadsafe(self.pool.register_again)

    def forget(self) -> object:
        """Forget the pool, in a forked child. Returns it: it goes on in the parent."""
        pool, self.pool = self.pool, None
        return pool

    @staticmethod
    def _warn_of_queues_left_out(queues: Sequence[str], tasks: Iterable[Task[..., Any]]) -> None:
        """Log the queues of tasks that are not among the queues of the workers."""
        left_out: defaultdict[str, list[str]] = defaultdict(list)
        for task in tasks:
            if task.queue not in queues:
                left_out[task.queue].append(task.name)
        for queue, names in left_out.items():
            logger.warning(
                "queue %s: these workers run none of its jobs, of the tasks %s: start other workers for it,"
                " or leave queue= out to run every queue",
                queue,
                ", ".join(sorted(names)),
            )


def check_weights(shares: Mapping[str, int]) -> list[int]:
    """The weights of ``queue={name: weight}``. Raises InvalidValue."""
    return [
        check_number(weight, what=f"the share of queue {queue!r}", least=1, most=LARGEST_WEIGHT)
        for queue, weight in shares.items()
    ]

"""The engine: the one object that programs call; it checks arguments, and its parts do the work."""

from __future__ import annotations

import functools
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from datetime import timedelta
from types import TracebackType
from typing import Any, Self

from .. import forks
from ..brokers.base import Broker
from ..dependencies import check_lifespan
from ..exceptions import InvalidValue
from ..redaction import redaction_of
from ..registry import Tasks
from ..signals.faults import set_redaction
from ..signals.sender import Sender
from ..signals.signal import DEFAULT_TIMEOUT
from ..task import Task
from ..timing import to_seconds
from ..validation import check_scope
from ..workers import Health
from .attached_tasks import AttachedTasks
from .awaiting import Awaiting
from .blocking import Blocking
from .bulk import Bulk
from .dead_jobs import DeadJobs
from .declarations import Declarations
from .event_hubs import EventHubs
from .listing import Listing
from .looking import Looking
from .lookup import Lookup
from .pauses import Pauses
from .portal import Portal
from .producer import Producer
from .result_hubs import ResultHubs
from .scheduling import Scheduling
from .steering import Steering
from .with_statements import WithStatements
from .worker_control import WorkerControl

DEFAULT_NAMESPACE = "aiospinach"
DEFAULT_NUMBER = 5
DEFAULT_SHUTDOWN_TIMEOUT = 25.0


class Engine(Declarations, Scheduling, Awaiting, Looking, Steering):
    """Schedules jobs, and runs them.

    ``broker`` stores the jobs, and belongs to this engine alone. ``namespace`` separates engines that share a
    store. ``signal_timeout``, in seconds or as a timedelta, is the time that the receivers of one signal have
    together. ``leave_out`` names data that neither the log nor the dead jobs may hold: "arguments" of jobs,
    "messages" and "tracebacks" of errors. ``lifespan`` takes the engine, and returns an async context
    manager: each start of workers enters it before the first job, and leaves it after the last signal. A new
    engine does not connect. Raises InvalidValue.

    Leaving ``async with engine`` stops the workers that were started within it; other workers go on. An
    engine may be entered many times, in any task, thread and event loop. The last exit in an event loop
    closes the connections of this loop.
    """

    def __init__(
        self,
        broker: Broker,
        namespace: str = DEFAULT_NAMESPACE,
        *,
        signal_timeout: float | timedelta = DEFAULT_TIMEOUT,
        leave_out: str | Collection[str] = (),
        lifespan: Callable[[Engine], AbstractAsyncContextManager[Any]] | None = None,
    ) -> None:
        if not isinstance(broker, Broker):
            kind = f"{broker.__name__}: call it" if isinstance(broker, type) else type(broker).__name__
            raise InvalidValue(
                f"Engine takes a broker such as MemoryBroker() or RedisBroker(url), not {kind}"
            )
        super().__init__(redaction_of(leave_out))
        self.namespace: str = check_scope(namespace, what="namespace")
        timeout = to_seconds(signal_timeout, what="Engine(signal_timeout=)", least=0.001)
        self._lifespan = check_lifespan(lifespan)
        broker._belong_to(self)
        set_redaction(self.namespace, self._surroundings.redaction)
        self._sender = Sender(self.namespace, timeout)
        self._with_statements = WithStatements()
        self._tasks = AttachedTasks(self.namespace, self, self._on_tasks_added)
        self._producer = Producer(broker, self._sender, self._tasks, self._surroundings.carried)
        self._workers = WorkerControl(
            broker, self._sender, self._tasks, self._surroundings, self._with_statements
        )
        self._ask(broker)
        self._portal = Portal()
        self._own_tasks._attach_to(self._tasks)
        forks.forget_in_child(self)

    def __repr__(self) -> str:
        return f"<Engine {self.namespace} on {self._broker!r}>"

    @property
    def has_ended(self) -> bool:
        """The engine was used, and is not in use any more.

        Every ``async with`` of it was left and its workers have stopped; or its event loop is closed. This is
        the loop in which it was made, or else scheduled its first job. It may be used again. A task that is
        attached to several engines schedules itself through the one that has not ended.
        """
        if self._workers.is_running or self._with_statements.is_open:
            return False
        was_used = self._with_statements.was_entered or self._workers.pool is not None
        return was_used or self._producer.is_homeless

    async def __aenter__(self) -> Self:
        self._broker._belong_to(self)  # another engine may have taken the broker after this one had ended
        await self._broker.open(self.namespace)
        self._with_statements.enter()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        pool, is_last = self._with_statements.leave()
        is_own = pool is self._workers.pool
        if not is_own and self._workers.is_running_here:  # guard: connections of others
            is_last = False
        try:
            if is_own:
                await self.stop_workers()
        finally:
            self._producer.close()
            if is_last:
                await self._hubs.aclose()
                await self._event_hubs.aclose()
                await self._broker.aclose()

    def _use_broker(self, broker: Broker) -> Broker:
        """Store and run all further jobs with another broker. Returns the broker before.

        Only while no workers run. The kit for tests calls it.
        """
        broker._belong_to(self)
        before = self._broker
        self._producer.use_broker(broker)
        self._workers.use_broker(broker)
        self._ask(broker)
        return before

    def _ask(self, broker: Broker) -> None:
        """Make the parts that ask this broker about jobs, and steer jobs there."""
        self._broker = broker
        self._hubs = ResultHubs(broker, self.namespace)
        self._event_hubs = EventHubs(broker, self.namespace)
        self._dead_jobs = DeadJobs(broker, self.namespace, self._tasks)
        self._listing = Listing(broker, self.namespace, self._tasks)
        self._lookup = Lookup(broker, self.namespace, self._tasks)
        self._pauses = Pauses(broker, self.namespace, self._tasks)
        self._bulk = Bulk(broker, self.namespace, self._tasks, self._producer, self._workers)

    # Tasks.

    def attach_tasks(self, tasks: Tasks) -> None:
        """Attach the tasks of a registry, also those that the registry gets later.

        Attaches no task if it raises DuplicateTask or InvalidValue. Attaching a registry twice does nothing.
        """
        if not isinstance(tasks, Tasks):
            raise InvalidValue(f"attach_tasks() takes a Tasks registry, not {type(tasks).__name__}")
        tasks._attach_to(self._tasks)

    @property
    def tasks(self) -> Mapping[str, Task[..., Any]]:
        """The attached tasks by their names, in a view that also shows tasks that are attached later."""
        return self._tasks.by_name

    @property
    def blocking(self) -> Blocking:
        """The same calls for threads without an event loop: ``engine.blocking.schedule(task, ...)``."""
        return Blocking(self, self._portal)

    # Workers.

    async def start_workers(
        self,
        number: int = DEFAULT_NUMBER,
        queue: str | Sequence[str] | Mapping[str, int] | None = None,
        *,
        block: bool = True,
        stop_when_queue_empty: bool = False,
        shutdown_timeout: float | timedelta = DEFAULT_SHUTDOWN_TIMEOUT,
    ) -> None:
        """Run jobs, ``number`` at a time.

        ``queue`` names one queue, or several, of which earlier ones come first. A mapping such as
        ``{"critical": 6, "default": 3, "bulk": 1}`` gives each queue a share instead: of the jobs that start
        while all of them have jobs, 6, 3 and 1 of ten. An empty queue leaves its share to the others. None
        means every queue of the attached tasks, ``"default"`` first. The log names queues of tasks that
        ``queue`` leaves out.

        With ``block=True`` it returns when the workers have stopped: after ``stop_workers()``, or after
        SIGINT or SIGTERM in the main thread. Running jobs then have ``shutdown_timeout`` (seconds or a
        timedelta) to end before their bodies are cancelled; a second SIGINT or SIGTERM cancels them at once.
        Cancelled jobs that have retries go back to the head of their queue, others fail. With ``block=False``
        it returns once the workers fetch, and handles no SIGINT or SIGTERM. ``stop_when_queue_empty`` stops
        the workers when no job is ready or running, and no retry waits that they put back.

        Raises AlreadyRunning, UnknownQueue, InvalidValue or a BrokerError before any job runs. If the call is
        cancelled, it cancels the bodies, waits until the workers have stopped, and raises CancelledError.
        """
        self._broker._belong_to(self)
        await self._workers.start(
            number,
            queue,
            block=block,
            stop_when_queue_empty=stop_when_queue_empty,
            shutdown_timeout=shutdown_timeout,
            lifespan=None if self._lifespan is None else functools.partial(self._lifespan, self),
        )

    async def stop_workers(self) -> None:
        """Stop the workers as ``start_workers`` describes, and return when they have stopped.

        It may be called before a start, twice, and from any task. Within a job, or within a receiver of a
        signal, it returns at once: otherwise it would wait for itself. Raises the error that crashed the
        workers, if there was one. If the call is cancelled, the workers stop all the same.
        """
        self._producer.close()
        await self._workers.stop()

    def health(self) -> Health:
        """The health of the workers, for a readiness probe. It calls no broker, and does not wait."""
        return self._workers.health()

    def _on_tasks_added(self, tasks: Sequence[Task[..., Any]]) -> None:
        """Called by ``AttachedTasks`` after tasks were attached."""
        self._workers.on_tasks_added(tasks)

    def _forget_parent(self) -> object:
        """Forget the workers, in a forked child: those of the parent go on in the parent."""
        self._with_statements.clear()
        self._producer.clear()
        return self._workers.forget()

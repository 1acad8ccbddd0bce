"""The tasks of all registries that are attached to an engine, and look-ups among them."""

from __future__ import annotations

import contextlib
import difflib
import inspect
from collections.abc import Callable, Mapping, Sequence, Set
from typing import Any
from weakref import WeakMethod, ref

from ..exceptions import DuplicateTask, InvalidValue, UnknownQueue, UnknownTask
from ..job import Job
from ..task import DEFAULT_QUEUE, Scheduler, Task
from ..validation import check_id, check_identifier, check_scope


class AttachedTasks:
    """Tasks by name, and the queues that they use."""

    def __init__(
        self, namespace: str, scheduler: Scheduler, on_added: Callable[[Sequence[Task[..., Any]]], None]
    ) -> None:
        self._namespace = namespace
        self._scheduler = ref(scheduler)  # weak, as the callback is: neither keeps the engine alive
        self._on_added = WeakMethod(on_added)
        self._tasks: dict[str, Task[..., Any]] = {}
        self._queues: set[str] = set()
        self._found: set[str] = set()
        """Queues that were found in the store: old ones, and those of tasks that are not attached here."""

    @property
    def by_name(self) -> Mapping[str, Task[..., Any]]:
        """The tasks by name, in a view that also shows tasks that are attached later."""
        return self._tasks

    @property
    def queues(self) -> Set[str]:
        """The queues that the tasks use."""
        return self._queues

    def check(self, tasks: Sequence[Task[..., Any]]) -> None:
        """Raise DuplicateTask if another task has the name of one of these."""
        for task in tasks:
            if self._tasks.get(task.name, task) is not task:
                raise DuplicateTask(
                    f"engine {self._namespace!r} has a task {task.name!r} already: give this one another"
                    " name="
                )

    def add(self, tasks: Sequence[Task[..., Any]]) -> None:
        """Add tasks that have been checked."""
        self._tasks.update({task.name: task for task in tasks})
        self._queues.update(task.queue for task in tasks)
        scheduler, on_added = self._scheduler(), self._on_added()
        if scheduler is not None and on_added is not None:
            for task in tasks:
                task._schedulers.add(scheduler)
            on_added(tasks)

    def find(self, task: object) -> Task[..., Any]:
        """The attached task, given itself or by its name. Raises UnknownTask or InvalidValue."""
        if isinstance(task, Task):
            found = self._tasks.get(task.name)
            if found is task or (found is not None and found.function is task.function):
                return task
            name = task.name
            if found is not None:
                raise UnknownTask(
                    f"engine {self._namespace!r} has another task {name!r}, of another function: schedule"
                    " this one on its own engine, or declare it in a registry, Tasks(), that is attached to"
                    " both engines"
                )
        elif isinstance(task, str):
            found = self._tasks.get(task)
            if found is not None:
                return found
            name = check_identifier(task, what="task name")
        else:
            if inspect.iscoroutine(task):
                task.close()  # or Python would warn that it was never awaited
                raise InvalidValue(
                    "a task or its name is needed here, and not a call of it: pass the task and its"
                    " arguments, as in engine.schedule(send, 'ann')"
                )
            raise InvalidValue(
                f"a task or its name is needed here, not {type(task).__name__}: decorate the function with"
                " @engine.task"
            )
        similar = difflib.get_close_matches(name, self._tasks, 1)
        raise UnknownTask(
            f"task {name!r} is not attached to engine {self._namespace!r}, which has"
            f" {', '.join(sorted(self._tasks)) or 'none'}: "
            + (
                f"did you mean {similar[0]!r}?"
                if similar
                else "use @engine.task or engine.attach_tasks(tasks), also where jobs are only scheduled"
            )
        )

    def read(self, name: str, body: bytes) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """The arguments in the body of a job, for snapshots; none if they cannot be read here."""
        task = self._tasks.get(name)
        if task is not None:
            with contextlib.suppress(InvalidValue):
                return task._arguments.decode(body)
        return (), {}

    def check_queue(self, queue: object) -> str:
        """Return the name of a queue. Raises UnknownQueue if there are tasks, none uses it, and it was not
        found in the store."""
        name = check_scope(queue, what="queue")
        queues = self.queues
        if queues and name not in queues and name not in self._found:
            raise UnknownQueue(
                f"no task of engine {self._namespace!r} uses queue {name!r}; its tasks use"
                f" {', '.join(sorted(queues))}"
            )
        return name

    def check_queues(self, queue: object) -> list[str]:
        """The names of the queues in ``queue=``: one name, a list of different names, a mapping of names to
        weights, or None for every queue, the default queue first.

        Raises UnknownQueue or InvalidValue.
        """
        if queue is None:
            others = sorted(self._queues - {DEFAULT_QUEUE})
            return [DEFAULT_QUEUE, *others] if DEFAULT_QUEUE in self._queues else others or [DEFAULT_QUEUE]
        if isinstance(queue, str):
            return [self.check_queue(queue)]
        if not isinstance(queue, Sequence | Mapping) or not queue:
            raise InvalidValue(
                "queue takes a name, a list of at least one name, or a mapping of names to weights"
            )
        queues = [self.check_queue(name) for name in queue]
        if len(set(queues)) < len(queues):
            raise InvalidValue("queue names the same queue twice")
        return queues

    def queues_to_search(self, queue: object) -> list[str]:
        """The one queue that ``queue=`` names, or every queue if it is None. Raises UnknownQueue."""
        return sorted(self._queues | self._found) if queue is None else [self.check_queue(queue)]

    def note_found(self, queues: Sequence[str]) -> None:
        """Search these queues, too: they were found in the store."""
        self._found.update(queues)

    def whereabouts(self, job: object, queue: object) -> tuple[list[str], str]:
        """The queues to search for a job that is given itself or by its id, and the id.

        Raises InvalidValue or UnknownQueue.
        """
        if isinstance(job, Job):
            if job.namespace != self._namespace:
                raise InvalidValue(f"{job!r} is not of the namespace {self._namespace!r} of this engine")
            return [job.queue], job.id
        return self.queues_to_search(queue), check_id(job, what="job id")

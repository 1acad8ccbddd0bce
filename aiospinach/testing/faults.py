"""Faults that a test makes: lost workers, and a broker that is away."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from ..engine import Engine
from ..exceptions import InvalidValue
from ..task import Task
from ..timing import to_seconds
from .broker import KeepingBroker
from .lost_workers import Loss, LossPoint
from .outage import Outage


class Faults:
    """Makes faults that production has now and then."""

    _engine: Engine
    _broker: KeepingBroker

    def lose_worker(
        self, task: Task[..., Any] | str | None = None, *, at: LossPoint = "before_settle"
    ) -> None:
        """Lose the worker of the next job, or of the next job of a task, once.

        ``before_settle``: the body has run, and its outcome is not stored. ``before_body``: the body does not
        begin. The job stays leased until its lease ends, 60 to 75 seconds later: ``advance(minutes=2)`` finds
        it. It runs again if it has retries, and fails otherwise. Raises UnknownTask and InvalidValue.
        """
        if at not in ("before_body", "before_settle"):
            raise InvalidValue(f'lose_worker(at=) takes "before_body" or "before_settle", not {at!r}')
        name = None if task is None else self._engine._tasks.find(task).name
        self._broker.lost_workers.add(Loss(at, name))

    def outage(self, seconds: float | timedelta | None = None, *, lose_answers: bool = False) -> Outage:
        """Have the broker be away from now on: each call raises BrokerUnavailable, as it does in production.

        The outage ends with the ``with`` block that it opens, or when the clock of the jobs has moved by
        ``seconds``. Within the outage ``drain()`` raises BrokerUnavailable. ``advance()`` moves the clock to
        its end first, and runs then what became due. If it begins while jobs run, workers try again, and
        their first try moves the clock to the end of an outage that has ``seconds``.

        With ``lose_answers`` only the answers to ``schedule`` calls are lost: the jobs are stored, and the
        calls raise EnqueueUncertain. Its ``retry()`` returns the job after the outage. Another outage
        replaces this one. Raises InvalidValue.
        """
        until = None
        if seconds is not None:
            until = self._broker.now() + round(to_seconds(seconds, what="outage()") * 1000)
        self._broker.outage = Outage(self._broker.now, until, lose_answers=lose_answers)
        return self._broker.outage

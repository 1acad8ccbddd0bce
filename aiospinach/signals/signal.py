"""The class of all signals: a blinker signal that calls receivers safely, and awaits the async ones."""

from __future__ import annotations

import asyncio
import inspect
import time
from collections.abc import Callable, Iterable
from contextvars import Context
from types import CoroutineType
from typing import Any, Final, TypeVar
from weakref import ref

from blinker import ANY, NamedSignal

from ..exceptions import InvalidValue
from ..functions import is_async
from ..timing import to_seconds
from .faults import ReceiverFaults
from .receivers import Gathering, Receiver, ReceiverRun, name_of, own_context
from .stats import Counters, SignalStats

DEFAULT_TIMEOUT: Final = 5.0
SLOW_AFTER: Final = 0.1
KNOWN_SENDERS: Final = 64
"""A signal remembers the receivers of so many senders."""

_F = TypeVar("_F", bound=Callable[..., Any])
Results = list[tuple[Receiver, Any]]
Wrapper = Callable[[Receiver], Receiver]


class SafeNamedSignal(NamedSignal):
    """A blinker signal whose receivers may be plain or ``async def``, and cannot harm its sender.

    ``timeout`` is how many seconds the receivers of one sending have together. None, the default, means the
    ``signal_timeout`` of the engine that sends, or 5 seconds.
    """

    def __init__(self, name: str, doc: str | None = None) -> None:
        super().__init__(name, doc)
        self._timeout: float | None = None
        self._counters = Counters()
        self._faults = ReceiverFaults(name, self._counters)
        self._receivers_of: dict[str, list[Receiver]] = {}
        """The receivers of senders that are names; emptied by each connect and disconnect."""

    def __repr__(self) -> str:
        return f'{type(self).__name__} "{self.name}"'

    @property
    def timeout(self) -> float | None:
        """Seconds for the receivers of one sending; None: the default. Setting it may raise InvalidValue."""
        return self._timeout

    @timeout.setter
    def timeout(self, seconds: float | None) -> None:
        self._timeout = (
            None if seconds is None else to_seconds(seconds, what=f"{self.name}.timeout", least=0.001)
        )

    def connect(self, receiver: _F, sender: Any = ANY, weak: bool = False) -> _F:
        """Call ``receiver`` each time that ``sender`` (a namespace; by default any) sends this signal.

        Returns the receiver, so that ``connect`` works as a decorator. The connection is strong unless
        ``weak`` is true: a receiver defined within a function stays connected. Raises InvalidValue.
        """
        if not callable(receiver):
            raise InvalidValue(
                f"signal {self.name}: a receiver must be callable, not {type(receiver).__name__}"
            )
        try:
            return super().connect(receiver, sender, weak)
        finally:
            self._receivers_of = {}

    def disconnect(self, receiver: Receiver, sender: Any = ANY) -> None:
        """Stop calling ``receiver`` when ``sender`` sends this signal."""
        try:
            super().disconnect(receiver, sender)
        finally:
            self._receivers_of = {}

    def stats(self) -> SignalStats:
        """Numbers about the sendings of this signal in this process, from all senders together.

        They begin with the process, and connecting and disconnecting leaves them as they are.
        """
        return self._counters.stats()

    def _clear_state(self) -> None:
        super()._clear_state()
        self._receivers_of = {}

    async def send_async(
        self, sender: Any = None, /, *, _sync_wrapper: Wrapper | None = None, **kwargs: Any
    ) -> Results:
        """Call every receiver, and await the async ones together, under one time limit.

        Plain receivers run inline. The sender sees each ContextVar that a receiver sets. Returns
        ``(receiver, result)`` for each receiver that succeeded; errors of the others are logged. If the
        sender is cancelled meanwhile, CancelledError is raised when the receivers have ended or their time is
        over. ``_sync_wrapper`` takes a plain receiver, and returns the function to call in its place.
        """
        if not self.receivers or self.is_muted:
            return []
        wrap = _for_one_kind(_sync_wrapper, are_async=False)
        return await self._dispatch(sender, kwargs, timeout=None, context=None, wrap=wrap)

    def send(self, sender: Any = None, /, *, _async_wrapper: Wrapper | None = None, **kwargs: Any) -> Results:
        """Call every receiver without awaiting anything; for senders that are not async.

        Returns ``(receiver, result)`` for each receiver that succeeded; errors of the others are logged.
        Raises TypeError after all calls if a receiver returned an awaitable: use ``send_async``.
        ``_async_wrapper`` takes an async receiver, and returns the function to call in its place.
        """
        if not self.receivers or self.is_muted:
            return []
        results, runs = self._call(sender, kwargs, _for_one_kind(_async_wrapper, are_async=True))
        for run in runs:
            run.discard()
        if runs:
            raise TypeError(
                f"signal {self.name}: {', '.join(name_of(run.receiver) for run in runs)} returned an"
                " awaitable: use 'await signal.send_async(...)'"
            )
        return results

    async def _dispatch(
        self,
        sender: Any,
        kwargs: dict[str, Any],
        *,
        timeout: float | None,
        context: Context | None,
        wrap: Wrapper | None = None,
    ) -> Results:
        """``send_async`` for senders that have a default ``timeout`` and know their own context."""
        results, runs = self._call(sender, kwargs, wrap)
        if not runs:
            return results
        return await self._gather(results, runs, timeout=timeout, context=context)

    async def _dispatch_all(
        self,
        sender: Any,
        sendings: Iterable[dict[str, Any]],
        *,
        timeout: float | None,
        context: Context | None,
    ) -> bool:
        """Send several times at once.

        Plain receivers are called for one sending after the other. Async ones are awaited together, under the
        time limit of one sending. Returns False if some did not end in time.
        """
        runs = [run for kwargs in sendings for run in self._call(sender, kwargs)[1]]
        if runs:
            await self._gather([], runs, timeout=timeout, context=context)
        return not any(run.abandoned for run in runs)

    async def _require(
        self, sender: Any, kwargs: dict[str, Any], *, timeout: float, context: Context | None
    ) -> None:
        """Send, wait for every receiver without a time limit, and raise the first error of a receiver.

        An error that is no Exception is raised as the cause of a RuntimeError. If the call is cancelled,
        CancelledError is raised when the receivers have ended, after ``timeout`` seconds at most.
        """
        errors: list[BaseException] = []
        _, runs = self._call(sender, kwargs, errors=errors)
        gathering = Gathering(runs, context or own_context())
        cancellation = None
        try:
            if runs:
                await asyncio.wait([run.task for run in runs])
        except asyncio.CancelledError as error:
            cancellation = error
            await gathering.wait(timeout)
        self._report(runs, gathering, timeout)
        if cancellation is not None:
            raise cancellation
        for raised in (*errors, *(run.error for run in runs)):
            if isinstance(raised, Exception):
                raise raised
            if raised is not None:
                raise RuntimeError(f"a receiver of {self.name} raised {type(raised).__name__}") from raised

    def _call(
        self,
        sender: Any,
        kwargs: dict[str, Any],
        wrap: Wrapper | None = None,
        errors: list[BaseException] | None = None,
    ) -> tuple[Results, list[ReceiverRun]]:
        """The first half of a sending: call the receivers one by one.

        Returns (results, runs). ``results`` has each receiver that did not raise, with its result, or with
        its ReceiverRun if the result is awaitable. ``runs`` has these runs, which ``_gather`` awaits. Errors
        are logged, and added to ``errors``.
        """
        results: Results = []
        runs: list[ReceiverRun] = []
        receivers = self._receivers_of.get(sender) if type(sender) is str else None
        if receivers is None:
            receivers = self._find_receivers(sender)
        if not receivers:
            return results, runs
        faults, counters = self._faults, self._counters
        counters.sent += 1
        began = time.perf_counter()
        for receiver in receivers:
            if faults.has_any and faults.is_skipped(receiver):
                continue
            try:
                result = (receiver if wrap is None else wrap(receiver))(sender, **kwargs)
                if result is not None and (type(result) is CoroutineType or inspect.isawaitable(result)):
                    result = ReceiverRun(receiver, kwargs, result, began)
                    runs.append(result)
                results.append((receiver, result))
            except BaseException as error:
                faults.on_error(receiver, kwargs, error)
                if errors is not None:
                    errors.append(error)
            ended = time.perf_counter()
            if (elapsed := ended - began) > counters.slowest_seconds:
                counters.slowest, counters.slowest_seconds = name_of(receiver), elapsed
            if elapsed > SLOW_AFTER:
                faults.on_blocked(receiver, elapsed)
            began = ended
        return results, runs

    def _report(self, runs: list[ReceiverRun], gathering: Gathering, limit: float) -> None:
        counters, now = self._counters, time.perf_counter()
        for run in runs:
            if run.error is not None:
                self._faults.on_error(run.receiver, run.kwargs, run.error)
            elapsed = (now if run.ended is None else run.ended) - run.began
            if elapsed > counters.slowest_seconds:
                counters.slowest, counters.slowest_seconds = name_of(run.receiver), elapsed
        for run in gathering.overdue:
            self._faults.on_timeout(run, limit)

    def _find_receivers(self, sender: Any) -> list[Receiver]:
        """Look the receivers up in blinker, which takes half of the time of a sending."""
        known = self._receivers_of  # another thread that connects a receiver meanwhile replaces the dict
        found = list(self.receivers_for(sender))
        is_lasting = type(sender) is str and not any(
            isinstance(r, ref) for r in list(self.receivers.values())
        )
        if is_lasting and len(known) < KNOWN_SENDERS:
            known[sender] = found
        return found

    async def _gather(
        self,
        results: Results,
        runs: list[ReceiverRun],
        *,
        timeout: float | None,
        context: Context | None,
    ) -> Results:
        """The second half of a sending: await the runs. Returns the results of receivers that succeeded."""
        limit = self._timeout if self._timeout is not None else timeout or DEFAULT_TIMEOUT
        gathering = Gathering(runs, context or own_context())
        cancellation = await gathering.wait(limit)
        self._report(runs, gathering, limit)
        if cancellation is not None:
            raise cancellation
        return [
            (receiver, result.result if isinstance(result, ReceiverRun) else result)
            for receiver, result in results
            if not isinstance(result, ReceiverRun) or result.succeeded
        ]


def _for_one_kind(wrapper: Wrapper | None, *, are_async: bool) -> Wrapper | None:
    """The wrapper, applied to receivers of one kind only."""
    if wrapper is None:
        return None
    return lambda receiver: wrapper(receiver) if is_async(receiver) is are_async else receiver

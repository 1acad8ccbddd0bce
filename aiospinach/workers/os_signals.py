"""SIGINT and SIGTERM for programs that only run workers: the first signal drains, the second interrupts."""

from __future__ import annotations

import asyncio
import signal
import threading
from collections.abc import Callable
from types import FrameType, TracebackType
from typing import Any, ClassVar

from .. import forks
from ..logs import Log

logger: Log = Log("aiospinach")

_SIGNALS = (signal.SIGINT, signal.SIGTERM)
ENDS_PROCESS_AT = 3


class OSSignals:
    """While entered, the first SIGINT or SIGTERM calls ``drain`` and the second one ``interrupt``.

    The third one ends the process at once: a thread cannot be stopped, and a blocked event loop is deaf.

    Outside of the main thread nothing happens. Several engines may have such a context open at the same time.
    Then each engine gets every signal, and the context that is left last restores the earlier handlers. An
    earlier handler, such as a server's, is called as well.
    """

    _entered: ClassVar[list[OSSignals]] = []
    _before: ClassVar[dict[signal.Signals, Any]] = {}

    def __init__(self, drain: Callable[[], None], interrupt: Callable[[], None]) -> None:
        self._drain = drain
        self._interrupt = interrupt
        self._count = 0

    def __enter__(self) -> None:
        if threading.current_thread() is threading.main_thread():
            if not self._entered:
                _install(self._before)
                forks.forget_in_child(OSSignals)
            self._entered.append(self)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self in self._entered:
            self._entered.remove(self)
            if not self._entered:
                _restore(self._before)

    @classmethod
    def _forget_parent(cls) -> object:
        inherited = list(cls._entered)
        cls._entered.clear()
        _restore(cls._before)
        return inherited

    def on_signal(self, number: signal.Signals) -> None:
        """Called in the event loop for each signal."""
        self._count += 1
        if self._count == 1:
            logger.warning("%s: running jobs may finish; once more cancels them", number.name)
            self._drain()
        else:
            logger.warning(
                "%s: running jobs are cancelled, but for those in threads; once more ends the process",
                number.name,
            )
            self._interrupt()


def _deliver(number: signal.Signals) -> None:
    for entered in list(OSSignals._entered):
        entered.on_signal(number)


def _install(before: dict[signal.Signals, Any]) -> None:
    # Not loop.add_signal_handler: a handler that was set with it before could not be restored.
    loop = asyncio.get_running_loop()
    count = 0

    def handle(number: int, frame: FrameType | None) -> None:
        nonlocal count
        previous = before.get(signal.Signals(number))
        count += previous is not signal.SIG_IGN  # as of a process in the background of a shell
        is_of_others = callable(previous) and not _ends_the_program(previous)
        if count >= ENDS_PROCESS_AT and not is_of_others and previous is not signal.SIG_IGN:
            signal.signal(number, signal.SIG_DFL)
            signal.raise_signal(number)
        loop.call_soon_threadsafe(_deliver, signal.Signals(number))
        if callable(previous) and is_of_others:
            previous(number, frame)  # a server's, in whose event loop the workers run

    for number in _SIGNALS:
        before[number] = signal.signal(number, handle)


def _ends_the_program(handler: Any) -> bool:
    """The handler is Python's own, or that of ``asyncio.run``: these would end the program at once."""
    function = getattr(handler, "func", handler)  # asyncio's is a partial
    return function is signal.default_int_handler or getattr(function, "__module__", "") == "asyncio.runners"


def _restore(before: dict[signal.Signals, Any]) -> None:
    for number, previous in before.items():
        signal.signal(number, previous if previous is not None else signal.SIG_DFL)
    before.clear()

"""An async context manager that stays entered while jobs come and go."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from contextvars import Context
from typing import Any

from ..cancellation import shielded_if


class Resource:
    """An async context manager that is entered and left in an asyncio task of its own.

    A context manager that holds a task group has to be left in the task that entered it, and jobs end
    earlier. The end of the event loop cancels this task too. The task holds on: jobs still need the value.
    """

    def __init__(
        self,
        name: str,
        manager: AbstractAsyncContextManager[Any],
        on_open: Callable[[Resource], None],
        context: Context | None,
    ) -> None:
        self.name: str = name
        self.is_open: bool = False
        """The context manager was entered; it may be left by now."""
        self.error: BaseException | None = None
        """What the context manager has raised."""
        self._manager = manager
        self._on_open = on_open
        self._value: Any = None
        self._is_ready = asyncio.Event()
        self._may_end = asyncio.Event()
        self._task: asyncio.Task[None] = asyncio.Task(
            self._live(), loop=asyncio.get_running_loop(), context=context, name=f"aiospinach {name}"
        )

    @property
    def has_failed(self) -> bool:
        """The context manager could not be entered."""
        return self.error is not None and not self.is_open

    @property
    def has_ended(self) -> bool:
        """The context manager was left, or could not be entered."""
        return self._task.done()

    async def value(self) -> Any:
        """Wait until the context manager is entered. Returns its value, and raises its error.

        If the wait is cancelled, the context manager is entered all the same.
        """
        if not self.is_open:
            await self._is_ready.wait()
        if self.error is not None and not self.is_open:
            raise self.error
        return self._value

    async def close(self) -> None:
        """Leave the context manager, and wait for that; cancel it if it is not entered yet.

        If the wait is cancelled, the context manager is left all the same.
        """
        self._may_end.set()
        if not self.is_open:
            self._task.cancel()
        if not self._task.done():
            await asyncio.wait([self._task])

    async def _live(self) -> None:
        try:
            async with self._manager as self._value:
                self.is_open = True
                self._on_open(self)
                self._is_ready.set()
                await self._hold()
        except GeneratorExit:
            raise  # the event loop has ended
        except BaseException as error:
            self.error = error
        finally:
            self._is_ready.set()

    async def _hold(self) -> None:
        was_cancelled = False
        while not self._may_end.is_set():
            try:
                with shielded_if(was_cancelled):
                    await self._may_end.wait()
            except asyncio.CancelledError:
                was_cancelled = True

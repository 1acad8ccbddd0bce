"""Receivers that an integration connects for one engine, and their end."""

from __future__ import annotations

from collections.abc import Callable
from types import TracebackType
from typing import Any, Self

from aiospinach import Engine, InvalidValue
from aiospinach.signals import SafeNamedSignal

_instrumented: set[tuple[str, str]] = set()
"""Integrations and the namespaces that they are connected to."""


class Connections:
    """The receivers of one integration for the namespace of one engine.

    A namespace is instrumented once: two receivers would count each job twice. Raises InvalidValue.
    """

    def __init__(self, integration: str, engine: Engine) -> None:
        if not isinstance(engine, Engine):
            raise InvalidValue(f"{integration}.instrument() takes an Engine, not {type(engine).__name__}")
        self._key = integration, engine.namespace
        if self._key in _instrumented:
            raise InvalidValue(
                f"{integration}.instrument() was called for the namespace {engine.namespace!r} before: call"
                " the function that it returned, and then instrument again"
            )
        self._namespace = engine.namespace
        self._on_undo: list[Callable[[], None]] = []
        self._is_undone = False
        _instrumented.add(self._key)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Undo the integration if it could not be set up."""
        if kind is not None:
            self.undo()

    def add(self, signal: SafeNamedSignal, receiver: Callable[..., Any]) -> None:
        """Connect a receiver to a signal of the engine."""
        signal.connect(receiver, self._namespace)
        self.on_undo(lambda: signal.disconnect(receiver, self._namespace))

    def on_undo(self, call: Callable[[], None]) -> None:
        """Call a function when the integration is undone."""
        self._on_undo.append(call)

    def undo(self) -> None:
        """Disconnect all receivers. A second call does nothing."""
        if self._is_undone:
            return
        self._is_undone = True
        _instrumented.discard(self._key)
        for call in reversed(self._on_undo):
            call()

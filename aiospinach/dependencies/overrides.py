"""Other factories in the place of some, for tests."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

from ..exceptions import InvalidValue
from .tree import check_tree


class Overrides:
    """The factories of one engine that are replaced now."""

    def __init__(self) -> None:
        self._entries: list[tuple[Callable[..., Any], Callable[..., Any]]] = []
        self.active: dict[Callable[..., Any], Callable[..., Any]] = {}
        """The replacement of each factory that has one: the latest."""

    def replacing(
        self, factory: Callable[..., Any], replacement: Callable[..., Any]
    ) -> AbstractContextManager[None]:
        """A context in which the replacement is called in the place of the factory.

        Raises InvalidValue or UnsupportedType for what cannot be called in a job.
        """
        for value in (factory, replacement):
            if not callable(value):
                raise InvalidValue(
                    "override() takes a factory and a function that replaces it, and not"
                    f" {type(value).__name__}: pass a function that returns the value"
                )
        check_tree(replacement, "override(): the replacement")
        return self._replaced(factory, replacement)

    @contextmanager
    def _replaced(self, factory: Callable[..., Any], replacement: Callable[..., Any]) -> Iterator[None]:
        entry = (factory, replacement)
        self._entries.append(entry)
        self.active = dict(self._entries)
        try:
            yield
        finally:
            self._entries.remove(entry)
            self.active = dict(self._entries)

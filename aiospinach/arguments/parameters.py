"""The parameters of a function: which of them takes each argument of a call."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import Any

from ..exceptions import InvalidArguments, UnsupportedType
from ..functions import parameters_of


class Parameters:
    """The parameters of one function, but for those that are ``injected``, which take no arguments.

    Raises UnsupportedType if Python does not know them.
    """

    def __init__(self, function: Callable[..., Any], name: str, injected: Collection[str]) -> None:
        self._name = name
        self._injected = injected
        try:
            signature = inspect.signature(function)
        except (TypeError, ValueError):
            raise UnsupportedType(
                f"{name}(): Python does not know the parameters of this callable; wrap it in a function"
            ) from None
        if injected:
            left = [each for each in signature.parameters.values() if each.name not in injected]
            signature = signature.replace(parameters=left)
        self._signature = signature

    def __iter__(self) -> Iterator[str]:
        return iter(self._signature.parameters)

    def signature_with(self, hints: Mapping[str, Any]) -> inspect.Signature:
        """The signature of these parameters, with these type hints."""
        parameters = self._signature.parameters.values()
        return self._signature.replace(
            parameters=[each.replace(annotation=hints[each.name]) for each in parameters]
        )

    def taking(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> tuple[str, ...]:
        """The parameter that takes each argument. Raises InvalidArguments if the call does not fit."""
        for name in self._injected:
            if name in kwargs:
                raise InvalidArguments(
                    f"{self._name}(): parameter '{name}' is injected by the worker, and is no argument of a"
                    " job: leave it out"
                )
        try:
            self._signature.bind(*range(len(args)), **dict.fromkeys(kwargs))
        except TypeError as error:
            hint = f"; injected, and no arguments: {', '.join(sorted(self._injected))}"
            raise InvalidArguments(
                f"{self._name}{parameters_of(self._signature)}: {error}{hint if self._injected else ''}"
            ) from None
        return (*self._positional(len(args)), *(self._keyword(name) for name in kwargs))

    def _positional(self, count: int) -> Iterator[str]:
        parameters = [p for p in self._signature.parameters.values() if p.kind <= p.VAR_POSITIONAL]
        for index in range(count):
            yield parameters[min(index, len(parameters) - 1)].name

    def _keyword(self, keyword: str) -> str:
        parameters = self._signature.parameters
        found = parameters.get(keyword)
        if found is not None and found.kind in (found.POSITIONAL_OR_KEYWORD, found.KEYWORD_ONLY):
            return keyword
        return next(p.name for p in parameters.values() if p.kind is p.VAR_KEYWORD)

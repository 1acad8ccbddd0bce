"""Shapes of calls: what the codec computes once for all calls with the same number and names of arguments."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from .zones import write_zones

Reader = Callable[[bytes], Any]


class CallShape:
    """One way to call a function: which parameter takes each argument, and how the values are read."""

    __slots__ = ("comparisons", "is_plain", "keeps_zones", "names", "read")

    def __init__(self, names: tuple[str, ...], *, is_plain: bool) -> None:
        self.names: tuple[str, ...] = names
        self.is_plain: bool = is_plain
        """The call has no keyword arguments."""
        self.comparisons: list[Callable[[Any, Any], bool]] | None = None
        """For each argument, the comparison of a value with its copy; None until hints are resolved."""
        self.keeps_zones: list[bool] | None = None
        """For each argument, whether the zones of its datetimes are written; None if no zones are."""
        self.read: Reader | None = None
        """Reads a whole body at once; None for calls with keywords or many arguments."""


def with_zones(
    shape: CallShape, args: tuple[Any, ...], kwargs: Mapping[str, Any]
) -> tuple[Sequence[Any], Mapping[str, Any]]:
    """The arguments with the zones of datetimes written out, if these can be read back."""
    keeps = shape.keeps_zones or ()
    if not kwargs:
        return [write_zones(value) if keeps[place] else value for place, value in enumerate(args)], kwargs
    values = (*args, *kwargs.values())
    new = [write_zones(value) if keeps[place] else value for place, value in enumerate(values)]
    return new[: len(args)], dict(zip(kwargs, new[len(args) :], strict=True))

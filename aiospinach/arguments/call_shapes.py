"""The ways in which a function is called, and what is known of the arguments of each."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from .zones import write_zones

Reader = Callable[[bytes], Any]


class CallShape:
    """One way to call a function: which parameter takes each argument, and how their values are proved."""

    __slots__ = ("comparisons", "is_plain", "keeps_zones", "names", "read")

    def __init__(self, names: tuple[str, ...], *, is_plain: bool) -> None:
        self.names: tuple[str, ...] = names
        self.is_plain: bool = is_plain
        """It has no keywords."""
        self.comparisons: list[Callable[[Any, Any], bool]] | None = None
        """For each argument, whether a copy is what a value was; None until the hints are resolved."""
        self.keeps_zones: list[bool] | None = None
        """For each argument, whether the zones of its datetimes are written; None if no one's are."""
        self.read: Reader | None = None
        """Reads a whole body at once, where that works: there are few arguments, and no keywords."""


def with_zones(
    shape: CallShape, args: tuple[Any, ...], kwargs: Mapping[str, Any]
) -> tuple[Sequence[Any], Mapping[str, Any]]:
    """The arguments with the zones of datetimes written out, where they can be read back."""
    keeps = shape.keeps_zones or ()
    if not kwargs:
        return [write_zones(value) if keeps[place] else value for place, value in enumerate(args)], kwargs
    values = (*args, *kwargs.values())
    new = [write_zones(value) if keeps[place] else value for place, value in enumerate(values)]
    return new[: len(args)], dict(zip(kwargs, new[len(args) :], strict=True))

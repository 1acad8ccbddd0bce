"""Type hints with others in some places, and classes that stand in for what msgspec cannot read by itself."""

from __future__ import annotations

import functools
import operator
import types
import typing
from collections.abc import Callable, Mapping
from typing import Annotated, Any, Literal, Union


class StandIn(type):
    """The class of classes that msgspec takes for foreign, and has read by their function ``read``.

    What that returns counts as an instance, whatever it is.
    """

    read: Callable[[Any], Any]

    def __instancecheck__(cls, instance: object) -> bool:
        return True


def stand_in(name: str, read: Callable[[Any], Any]) -> StandIn:
    """A class whose values this function reads from plain data."""
    return StandIn(name, (), {"read": staticmethod(read)})


def members_of(hint: Any) -> tuple[Any, ...]:
    """The members of a union; none of anything else."""
    return typing.get_args(hint) if typing.get_origin(hint) in (Union, types.UnionType) else ()


def without_metadata(hint: Any) -> Any:
    """The hint without what it is annotated with, and without another name."""
    while True:
        if typing.get_origin(hint) is Annotated:
            hint = typing.get_args(hint)[0]
        elif type(hint).__name__ == "TypeAliasType":
            hint = hint.__value__
        else:
            return hint


def rewrite_hint(hint: Any, change: Callable[[Any], Any]) -> Any:
    """The hint with what ``change`` gives in the place of each part of it, None being no change. Keys of
    mappings, and the fields of classes, stay as they are."""
    if (changed := change(hint)) is not None:
        return changed
    if type(hint).__name__ == "TypeAliasType":
        return rewrite_hint(hint.__value__, change)
    origin, parts = typing.get_origin(hint), typing.get_args(hint)
    if origin is None or origin is Literal:
        return hint
    if origin is Annotated:
        inner = rewrite_hint(parts[0], change)
        return hint if inner is parts[0] else Annotated[(inner, *hint.__metadata__)]
    is_mapping = isinstance(origin, type) and issubclass(origin, Mapping)
    new = tuple(
        part if is_mapping and not place else rewrite_hint(part, change) for place, part in enumerate(parts)
    )
    if all(after is before for before, after in zip(parts, new, strict=True)):
        return hint
    return functools.reduce(operator.or_, new) if members_of(hint) else origin[new]

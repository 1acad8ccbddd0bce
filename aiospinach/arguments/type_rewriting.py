"""Rewriting of type hints: replaces parts that msgspec cannot read by classes that stand in for them."""

from __future__ import annotations

import functools
import operator
import types
import typing
from collections.abc import Callable, Mapping
from typing import Annotated, Any, Literal, Union


class StandIn(type):
    """The metaclass of stand-ins: msgspec has their values read by the function ``read``.

    Every object counts as an instance, so that msgspec accepts whatever ``read`` returns.
    """

    read: Callable[[Any], Any]

    def __instancecheck__(cls, instance: object) -> bool:
        return True


def stand_in(name: str, read: Callable[[Any], Any]) -> StandIn:
    """A class of this name, whose values ``read`` makes from plain data."""
    return StandIn(name, (), {"read": staticmethod(read)})


def members_of(hint: Any) -> tuple[Any, ...]:
    """The members of a union; empty for any other hint."""
    return typing.get_args(hint) if typing.get_origin(hint) in (Union, types.UnionType) else ()


def without_metadata(hint: Any) -> Any:
    """The hint without ``Annotated`` and without type aliases."""
    while True:
        if typing.get_origin(hint) is Annotated:
            hint = typing.get_args(hint)[0]
        elif type(hint).__name__ == "TypeAliasType":
            hint = hint.__value__
        else:
            return hint


def rewrite_hint(hint: Any, change: Callable[[Any], Any]) -> Any:
    """The hint with each part replaced by ``change(part)``, unless that is None.

    Keys of mappings and fields of classes are not replaced. Returns the same object if nothing changed.
    """
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

"""The result of a function: written as JSON, read as its return annotation, and proved to arrive equal."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any

from ..exceptions import InvalidResult, UnsupportedType
from .depth import DEPTH_LIMIT, is_too_deep
from .differences import find_lost_part
from .hints import ParameterHint, reason_of, result_hint_of, type_of, write
from .zones import write_zones

RESULT_LIMIT = 256 * 1024


class Result:
    """The result of one function. A function without a return annotation returns any plain data.

    The annotation is resolved by ``resolve()``, or else at the first use, as those of arguments are.
    """

    def __init__(self, function: Callable[..., Any], name: str) -> None:
        self._function = function
        self._name = name
        self._hint: ParameterHint | None = None

    def resolve(self) -> ParameterHint:
        """Read the return annotation. Returns it, and raises NameError or UnsupportedType."""
        if self._hint is None:
            what = f"{self._name}(): the result"
            try:
                hint = result_hint_of(self._function)
            except NameError:
                raise
            except Exception as error:
                raise UnsupportedType(f"{what}: its type hint cannot be read: {error}") from None
            self._hint = ParameterHint(hint, what)
        return self._hint

    def resolve_if_possible(self) -> None:
        """Resolve the annotation now, unless it names something that is not defined yet."""
        with contextlib.suppress(NameError):
            self.resolve()

    def check(self) -> ParameterHint:
        """Resolve the annotation. Returns it, and raises UnsupportedType, also for an undefined name."""
        try:
            return self.resolve()
        except NameError as error:
            raise UnsupportedType(
                f"{self._name}(): the type hint of the result names something that is not defined in the"
                f" module of the function: {error}; define it there, also at run time, since result_ttl= has"
                " results stored and read by it"
            ) from None

    def encode(self, value: Any) -> bytes:
        """The result as JSON, proved to be read back equal.

        Raises InvalidResult, whatever classes of users raise meanwhile.
        """
        try:
            body, why = self._written(value)
        except UnsupportedType as error:
            body, why = b"", str(error)
        except BaseException as error:  # classes of users may raise anything
            body, why = b"", f"storing it raised {type(error).__name__}"
        if why:  # not in the handler: the error there may hold the value, and would be the __context__
            raise InvalidResult(f"{self._name}(): the result ({type_of(value)}) cannot be kept: {why}")
        return body

    def decode(self, body: bytes) -> Any:
        """The result that was stored, typed by the return annotation.

        Raises InvalidResult if it does not fit the annotation as it is now, and UnsupportedType.
        """
        hint = self.check()
        try:
            return hint.read(body)
        except BaseException as error:  # classes of users may raise anything
            why = reason_of(error)
        raise InvalidResult(
            f"{self._name}(): the stored result is not what the return annotation allows here: {why}; the job"
            " was run by another version of the task"
        )

    def _written(self, value: Any) -> tuple[bytes, str]:
        """The result as JSON, and why it cannot be kept; empty if it can."""
        hint = self.check()
        try:
            body = write(write_zones(value) if hint.keeps_zones else value)
        except RecursionError:
            return b"", _TOO_DEEP
        except UnicodeEncodeError:
            return b"", "it holds a lone surrogate, which is not text; repair it, or return bytes"
        except Exception:
            return b"", "it cannot be written as JSON; return plain data, or an identifier of the thing"
        if len(body) > RESULT_LIMIT:
            return b"", (
                f"it takes {len(body):,} bytes as JSON, and {RESULT_LIMIT:,} is the limit; store the data"
                " elsewhere and return a reference to it"
            )
        if is_too_deep(body):
            return b"", _TOO_DEEP
        try:
            copy = hint.read(body)
        except Exception as error:
            lost = find_lost_part(value)
            return b"", f"it is not what the return annotation allows: {lost or reason_of(error)}"
        if copy is not value and not hint.is_same(value, copy):
            lost = find_lost_part(value, copy)
            return b"", f"it would not arrive equal: {lost or _ANOTHER.format(type_of(copy))}"
        return body, ""


_TOO_DEEP = f"it is nested deeper than {DEPTH_LIMIT} levels, or contains itself; return something flatter"
_ANOTHER = (
    "it would come back as another value ({}). NaN and infinity have no JSON; a tuple, set, date, Decimal or"
    " object needs a return annotation of exactly that type"
)

"""The result of a body, as the settlement stores it."""

from __future__ import annotations

from typing import Any

from ..exceptions import InvalidResult
from ..task import Task


def stored_result(task: Task[..., Any] | None, result: Any) -> tuple[bytes, InvalidResult | None]:
    """Return the result as JSON, or the error for which it cannot be kept: then the job has failed."""
    assert task is not None
    try:
        return task._result.encode(result), None
    except InvalidResult as error:
        return b"", error

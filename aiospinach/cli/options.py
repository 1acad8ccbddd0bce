"""Options that several commands share."""

from __future__ import annotations

from typing import Annotated

from cyclopts import Parameter

Json = Annotated[bool, Parameter(name="--json", negative="", help="Print JSON.")]
Queue = Annotated[str | None, Parameter(name=["--queue", "-q"], help="The queue; by default every queue.")]
PausedQueue = Annotated[
    str | None,
    Parameter(
        name=["--queue", "-q"],
        help="The whole queue; or with --task, that of a task the engine does not have.",
    ),
]
Task = Annotated[str | None, Parameter(name=["--task", "-t"], help="The name of a task.")]
Yes = Annotated[bool, Parameter(name=["--yes", "-y"], negative="", help="Do not ask.")]

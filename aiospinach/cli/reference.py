"""Writes the reference of the command line, from the code: ``python -m aiospinach.cli.reference PAGE``.

It replaces what stands below the mark in the page; without a page it prints the reference.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import get_args, get_origin, get_type_hints

import msgspec

from aiospinach import Finding, Progress, WorkerInfo

from .application import make_app
from .rows import Death, JobReport, JobRow, JobsPage, PingReport, QueueRow

MARK = "<!-- python -m aiospinach.cli.reference docs/command-line.md writes all below this line. -->\n"
SHAPES: tuple[tuple[str, type[msgspec.Struct]], ...] = (
    ("each element of the list that `counts --json` prints", QueueRow),
    ("what `jobs --json` prints", JobsPage),
    ("an element of `jobs`", JobRow),
    ("the element `progress` of a running job", Progress),
    ("what `job --json` prints", JobReport),
    ("the element `death` of a dead job", Death),
    ("each element of the list that `workers --json` prints", WorkerInfo),
    ("what `ping --json` prints", PingReport),
    ("each element of the list that `check --json` prints", Finding),
)


def reference() -> str:
    """Return the reference in Markdown."""
    return "\n".join([*_commands(), *_shapes()])


def _commands() -> Iterator[str]:
    """Return the sections of all commands, without the options that each command has."""
    text = make_app().generate_docs(output_format="markdown", include_hidden=False)
    _, *parts = re.split(r"^## aiospinach (.+)$", text, flags=re.MULTILINE)
    yield "## Commands\n"
    for name, part in zip(parts[::2], parts[1::2], strict=True):
        if not name.startswith("-"):
            yield f"### aiospinach {name}\n"
            lines = part.partition("**Engine**")[0].strip().splitlines()
            yield from (line.rstrip() for line in lines[lines.index("```") + 2 :])
            yield ""


def _shapes() -> Iterator[str]:
    yield "## The shapes of JSON\n"
    yield "Moments are texts in ISO 8601, in UTC. A field with a question mark may be null.\n"
    for what, struct in SHAPES:
        fields = (f"`{name}` {_named(hint)}" for name, hint in get_type_hints(struct).items())
        yield f"- **{what}**: {', '.join(fields)}."


def _named(hint: object) -> str:
    """Return the name of a type, as it is in JSON."""
    plain = [each for each in get_args(hint) if each is not type(None)]
    if type(None) in get_args(hint):
        return f"{_named(plain[0])}?"
    if get_origin(hint) is not None:
        return f"list of {_named(plain[0])}"
    if isinstance(hint, type) and issubclass(hint, msgspec.Struct):
        return "object"
    return {"str": "text", "int": "number", "float": "number", "bool": "true or false", "datetime": "moment"}[
        getattr(hint, "__name__", "")
    ]


def main() -> None:
    """Write the reference into the page that the command line names, or print it."""
    if len(sys.argv) == 1:
        print(reference())
        return
    page = Path(sys.argv[1])
    own, _, _ = page.read_text("utf-8").partition(MARK)
    page.write_text(f"{own}{MARK}\n{reference()}\n", "utf-8")


if __name__ == "__main__":
    main()

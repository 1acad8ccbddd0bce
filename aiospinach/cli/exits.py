"""How a command ends: its exit code, and one sentence for people if something is wrong."""

from __future__ import annotations

import os
import re
import sys
import traceback

from aiospinach import AiospinachError, BrokerError, InvalidValue, UnknownQueue, UnknownTask

WELL = 0
NOT = 1
"""The command has done nothing: no such job, or an answer of no."""
USAGE = 2
UNREACHABLE = 3
"""The store does not answer, or refuses the call."""
INTERRUPTED = 130
_LOGIN = re.compile(r"://\S*@")


class WrongUsage(Exception):
    """The command line is wrong. The message is a sentence with the remedy."""


class Refused(Exception):
    """The command cannot do what it was asked to. The message is a sentence that says why."""


def say(sentence: object) -> None:
    """Write a sentence to standard error. A URL in it loses its password, wherever it was typed."""
    print(f"aiospinach: {_LOGIN.sub('://...@', str(sentence))}", file=sys.stderr)


def exit_code_of(error: BaseException, *, debug: bool) -> int:
    """Report an error, with its traceback if asked for. Returns the exit code."""
    if debug and not isinstance(error, KeyboardInterrupt):
        traceback.print_exception(error)
    if isinstance(error, KeyboardInterrupt):
        return INTERRUPTED
    if isinstance(error, BrokenPipeError):  # the reader of the output has ended, such as head
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115  # or Python would report the pipe at its end
        return WELL
    if isinstance(error, (WrongUsage, Refused, AiospinachError)):
        say(error)
    else:
        say(f"{type(error).__name__}: {error}; --debug prints the traceback")
    if isinstance(error, BrokerError):
        return UNREACHABLE
    return USAGE if isinstance(error, (WrongUsage, InvalidValue, UnknownQueue, UnknownTask)) else NOT

"""The commands, put together."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from cyclopts import App, CycloptsError, Group, Parameter

from aiospinach import __version__

from . import checking, dev, looking, steering, watching, worker
from .exits import USAGE, exit_code_of, say

RUN = Group("Run", sort_key=0)
LOOK = Group("Look", sort_key=1)
STEER = Group("Steer", sort_key=2)


COMMANDS: Mapping[Group, Sequence[Callable[..., int]]] = {
    RUN: (worker.worker, dev.dev),
    LOOK: (
        *(watching.top, looking.counts, looking.jobs, looking.job, looking.workers, looking.ping),
        checking.check,
    ),
    STEER: (
        *(steering.cancel, steering.requeue, steering.discard, steering.run_now, steering.reschedule),
        *(steering.pause, steering.resume, steering.purge),
    ),
}


def make_app() -> App:
    """Return the application with all of its commands."""
    app = App(
        name="aiospinach",
        help=(
            "Runs workers, looks into queues, and steers jobs.\n\nEach command takes the engine of a program,"
            " as in `aiospinach counts shop:engine`, or a store, as in `--url redis://localhost:6379/0"
            " --namespace shop`."
        ),
        help_format="markdown",
        default_parameter=Parameter(negative=(), show_default=False),
        version=__version__,
        version_flags=["--version"],
    )
    for group, commands in COMMANDS.items():
        for command in commands:
            app.command(command, group=group)
    app.register_install_completion_command()
    return app


def run(arguments: Sequence[str]) -> int:
    """Run a command. Returns its exit code."""
    try:
        code = make_app()(
            list(arguments), exit_on_error=False, print_error=False, result_action="return_value"
        )
    except CycloptsError as error:
        say(f"{_without_full_stop(str(error))}; --help shows the usage")
        return USAGE
    except (Exception, KeyboardInterrupt) as error:
        return exit_code_of(error, debug=False)
    return code if isinstance(code, int) else 0


def _without_full_stop(sentence: str) -> str:
    return sentence if sentence.endswith("...") else sentence.removesuffix(".")

"""The command for a developer: workers, the web view and a server, all with one command."""

from __future__ import annotations

import asyncio
import importlib.util
import os
import socket
from typing import Annotated

from cyclopts import Parameter

from .dev_process import MOMENT, DevShare
from .dev_session import DevSession
from .exits import Refused, WrongUsage, exit_code_of
from .log_setup import set_up_logging
from .own_server import USUAL_PORT, OwnServer
from .queue_options import read_queues
from .target import (
    URL_VARIABLE,
    Target,
    find_modules_here,
    name_of_program,
    no_module,
    split_name,
)

NEEDED = ("starlette", "jinja2", "uvicorn")


def dev(
    target: Target | None = None,
    *,
    number: Annotated[int, Parameter(name=["--number", "-n"], show_default=True)] = 5,
    queue: Annotated[list[str] | None, Parameter(name=["--queue", "-q"])] = None,
    port: Annotated[int, Parameter(show_default=True)] = 8765,
    server_port: int | None = None,
    shutdown_timeout: Annotated[float, Parameter(show_default=True)] = 5.0,
) -> int:
    """Run workers that reload, the web view, and a server if the program names none: all for development.

    ```console
    aiospinach dev shop:engine
    ```

    It needs the extra `dev`. SIGTERM or SIGINT ends all of it, with the exit code 0.

    Parameters
    ----------
    number
        How many jobs run at once.
    queue
        A queue; repeat it for several, of which earlier ones come first. With shares, as in -q critical=6
        -q default=3, each gets its part of the jobs that start. By default all queues of the tasks.
    port
        The port of 127.0.0.1 at which the web view is served; 0 for any free one.
    server_port
        The port of the server for a program with `RedisBroker()`, by default 6379. It is started unless one
        is there already, or $AIOSPINACH_URL names one.
    shutdown_timeout
        Seconds that running jobs have after a signal or a change, before they are cancelled.
    """
    debug = target is not None and target.debug
    try:
        name = name_of_program(target, "dev")
        _check(name, port, server_port)
        listening = _listen(port)
        with listening:
            own = None if os.environ.get(URL_VARIABLE) else OwnServer(server_port or USUAL_PORT)
            share = DevShare(
                engine=name,
                number=number,
                queues=read_queues(queue),
                shutdown_timeout=shutdown_timeout,
                url=None if own is None else own.url,
                listening=listening.fileno(),
                debug=debug,
            )
            set_up_logging(moment=MOMENT)
            return asyncio.run(_run(share, listening, own))
    except (Exception, KeyboardInterrupt) as error:
        return exit_code_of(error, debug=debug)


async def _run(share: DevShare, listening: socket.socket, own: OwnServer | None) -> int:
    return await DevSession(share, listening, own).run()


def _check(name: str, port: int, server_port: int | None) -> None:
    """Raise WrongUsage for what no change of a file can mend."""
    if lacking := [each for each in NEEDED if importlib.util.find_spec(each) is None]:
        raise WrongUsage(f"dev needs more packages ({', '.join(lacking)}): pip install 'aiospinach[dev]'")
    if not 0 <= port < 65536:
        raise WrongUsage(f"--port takes a port from 0 to 65535, not {port}")
    if server_port is not None and not 0 < server_port < 65536:
        raise WrongUsage(f"--server-port takes a port from 1 to 65535, not {server_port}")
    if server_port is not None and os.environ.get(URL_VARIABLE):
        raise WrongUsage(f"--server-port is for a server of dev, and ${URL_VARIABLE} names another: unset it")
    module, _ = split_name(name)
    first = module.partition(".")[0]
    find_modules_here()
    if importlib.util.find_spec(first) is None:
        raise no_module(first)


def _listen(port: int) -> socket.socket:
    """Return a socket that listens. Requests between two processes wait in it. Raises Refused."""
    _open_standard_files()
    try:
        return socket.create_server(("127.0.0.1", port))
    except OSError as error:
        raise Refused(
            f"the web view cannot listen at 127.0.0.1:{port} ({error.strerror or error}): give another"
            " --port, or 0 for any free one"
        ) from error


def _open_standard_files() -> None:
    """Open those of the first three files that are closed: a socket with the number of one would be replaced
    by it in another process."""
    while (number := os.open(os.devnull, os.O_RDWR)) < 3:
        pass
    os.close(number)

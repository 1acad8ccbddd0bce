"""The command that runs workers."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Sequence
from typing import Annotated

from cyclopts import Parameter

from .address import Address, address_of
from .all_probes import AllProbes
from .exits import WrongUsage, exit_code_of
from .line import VARIABLE
from .log_setup import set_up_logging
from .probe_server import probes_at
from .process import python
from .queue_options import queue_options, read_queues
from .reloading import reload_on_changes
from .serving import Share, serve
from .supervisor import Supervisor
from .target import Target, import_engine, name_of_program

MOST_PROCESSES = 1000


def worker(
    target: Target | None = None,
    *,
    number: Annotated[int, Parameter(name=["--number", "-n"], show_default=True)] = 5,
    queue: Annotated[list[str] | None, Parameter(name=["--queue", "-q"])] = None,
    processes: Annotated[int, Parameter(name=["--processes", "-p"], show_default=True)] = 1,
    health: str | None = None,
    recycle_after: int | None = None,
    shutdown_timeout: Annotated[float, Parameter(show_default=True)] = 25.0,
    reload: Annotated[bool, Parameter(negative="")] = False,
) -> int:
    """Run jobs until SIGTERM or SIGINT, which lets running jobs end.

    ```console
    aiospinach worker shop:engine -n 20 -q critical -q default --processes 2 --health 127.0.0.1:8081
    ```

    A second signal cancels running jobs, and a third ends the process at once. The log goes to standard
    error, unless the program has set up logging. The exit code is 0 after a signal, 2 if the engine cannot be
    imported, and 3 if the store does not answer at the start.

    Parameters
    ----------
    number
        How many jobs each process runs at once.
    queue
        A queue; repeat it for several, of which earlier ones come first. With shares, as in -q critical=6
        -q default=3, each gets its part of the jobs that start. By default all queues of the tasks.
    processes
        How many processes run jobs. A process that ends is started again, with growing pauses.
    health
        HOST:PORT at which /live, /ready and /metrics are answered, for all processes together.
    recycle_after
        Start each process anew after so many jobs, or up to a tenth more: against leaks of memory.
    shutdown_timeout
        Seconds that running jobs have after the first signal, before they are cancelled.
    reload
        Start anew when a Python file of the current directory changes. For development, with one process.
    """
    debug = target is not None and target.debug
    try:
        name = name_of_program(target, "a worker")
        share = Share(
            number=number,
            queues=read_queues(queue),
            shutdown_timeout=shutdown_timeout,
            health=None if health is None else address_of(health),
            recycle_after=recycle_after,
        )
        _check(processes, share, reload=reload)
        if processes > 1 or reload or (recycle_after is not None and VARIABLE not in os.environ):
            set_up_logging()
            command = _command(name, share, debug=debug)
            return asyncio.run(_supervise(command, processes, share.health, reload=reload))
        engine = import_engine(name)
        set_up_logging()
        return asyncio.run(serve(engine, share))
    except (Exception, KeyboardInterrupt) as error:
        return exit_code_of(error, debug=debug)


def _check(processes: int, share: Share, *, reload: bool) -> None:
    if not 1 <= processes <= MOST_PROCESSES:
        raise WrongUsage(f"--processes takes a number from 1 to {MOST_PROCESSES:,}, not {processes}")
    if share.recycle_after is not None and share.recycle_after < 1:
        raise WrongUsage(f"--recycle-after takes a number of jobs, 1 or more, not {share.recycle_after}")
    if reload and processes > 1:
        raise WrongUsage("--reload is for one process: leave --processes out")


def _command(name: str, share: Share, *, debug: bool) -> list[str]:
    """Return the command of one process of a supervisor."""
    options = ["--number", str(share.number), "--shutdown-timeout", str(share.shutdown_timeout)]
    options += queue_options(share.queues)
    if share.health is not None:
        options += ["--health", str(share.health)]
    if debug:
        options.append("--debug")
    if share.recycle_after is not None:
        options += ["--recycle-after", str(share.recycle_after)]
    return python("aiospinach.cli", "worker", name, *options)


async def _supervise(command: Sequence[str], processes: int, health: Address | None, *, reload: bool) -> int:
    supervisor = Supervisor(command, processes, waits_for_changes=reload)
    async with probes_at(health, AllProbes(supervisor).answer):
        watching = asyncio.create_task(reload_on_changes(supervisor)) if reload else None
        try:
            return await supervisor.run()
        finally:
            if watching is not None:
                await asyncio.wait([watching])

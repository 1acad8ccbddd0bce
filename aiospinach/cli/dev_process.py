"""The process of ``dev`` that has the program: it runs the workers, and serves the web view."""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import sys
from typing import Any

import msgspec

from aiospinach import Engine, Job, signals

from .exits import WELL, exit_code_of
from .line import VARIABLE
from .log_setup import set_up_logging
from .probes import Probes
from .queue_options import Queues
from .serving import supervised
from .store import until_answered
from .target import URL_VARIABLE, import_engine

logger: logging.Logger = logging.getLogger("aiospinach.cli")

MOMENT = "%H:%M:%S"


class DevShare(msgspec.Struct, frozen=True, kw_only=True):
    """What the process runs."""

    engine: str
    """module:attribute."""
    number: int
    queues: Queues | None
    shutdown_timeout: float
    url: str | None
    """The URL for a broker that has none; None if the environment has it."""
    listening: int
    """The file of the socket at which the web view is served."""
    debug: bool


async def serve(engine: Engine, share: DevShare) -> int:
    """Run workers and the web view until a signal, or until the supervisor has ended. Returns the exit
    code."""
    from aiospinach.contrib.web.local import local_view

    from .view_server import served

    signals.job_finished.connect(log_success, engine.namespace)
    async with supervised(engine, Probes(engine, with_metrics=False)) as line:
        if not await until_answered(engine, line, has_own_server=share.url is not None):
            return WELL
        async with engine:
            await engine.find_queues()
            view = local_view(engine, title=share.engine)
            async with served(view, socket.socket(fileno=share.listening)):
                if not line.is_closed:  # nothing would stop workers that start later
                    await engine.start_workers(
                        share.number, share.queues, shutdown_timeout=share.shutdown_timeout
                    )
    return WELL


def log_success(
    namespace: str, job: Job, err: BaseException | None, duration: float | None, **kwargs: Any
) -> None:
    """Log a job that has succeeded. The workers log the others."""
    if err is None:
        logger.info("%s %s succeeded in %.3f s", job.task_name, job.id, duration or 0.0)


def main() -> int:
    """Serve the share in the first argument, as JSON. Returns the exit code."""
    share = msgspec.json.decode(sys.argv[1], type=DevShare)
    del os.environ[VARIABLE]  # not for processes that jobs start
    os.set_inheritable(share.listening, False)  # they would hold the port
    if share.url is not None:
        os.environ[URL_VARIABLE] = share.url
    try:
        engine = import_engine(share.engine)
        set_up_logging(moment=MOMENT)
        return asyncio.run(serve(engine, share))
    except (Exception, KeyboardInterrupt) as error:
        return exit_code_of(error, debug=share.debug)


if __name__ == "__main__":
    sys.exit(main())

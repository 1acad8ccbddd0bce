"""The log of the processes that a command starts, on standard error."""

from __future__ import annotations

import logging

FORMAT = "%(asctime)s %(levelname)s %(message)s"


def set_up_logging(*, moment: str | None = None) -> None:
    """Log to standard error, unless the program has set up logging.

    ``moment`` is the format of moments in strftime's words; by default they have a date and milliseconds.
    """
    if not logging.root.handlers:
        logging.basicConfig(level=logging.INFO, format=FORMAT, datefmt=moment)

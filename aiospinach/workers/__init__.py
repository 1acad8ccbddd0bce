"""The workers: the only concurrency in the package.

A ``Pool`` owns the slots. Its services outlive the jobs: a ``Consumer`` for each queue exchanges what ended
for what is next, a ``Maintenance`` renews leases and fires what is due, and a listener sleeps at the broker.
Each job is a ``Run``: a value that flows down one function, in one asyncio task of its own."""

from .health import STOPPED, Health
from .os_signals import OSSignals
from .pool import Pool, current_pool
from .threads import Threads

__all__ = ["STOPPED", "Health", "OSSignals", "Pool", "Threads", "current_pool"]

"""The workers: pools that lease jobs from a broker and run these jobs. All concurrency of the package is
here.

A ``Pool`` has slots, in which jobs run, and services. For each queue a ``Consumer`` settles jobs that have
ended and leases new ones, and a ``Maintenance`` ticks when something is due. One ``Heartbeat`` renews all
leases. A ``Listener`` waits for wake-ups while there is nothing to run. A ``Sweeper`` looks at all queues
every few seconds. Each leased job is a ``Run``, in an asyncio task of its own.
"""

from .current_run import progress, should_stop
from .health import STOPPED, Health
from .os_signals import OSSignals
from .pool import Pool, current_pool
from .threads import Threads

__all__ = ["STOPPED", "Health", "OSSignals", "Pool", "Threads", "current_pool", "progress", "should_stop"]

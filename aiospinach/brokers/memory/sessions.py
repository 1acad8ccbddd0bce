"""The sessions of event loops, in memory."""

from __future__ import annotations

import asyncio
import itertools
from weakref import WeakKeyDictionary


class Sessions:
    """Names of event loops, by which a lease and a report are known to be of one worker."""

    def __init__(self) -> None:
        self._names: WeakKeyDictionary[asyncio.AbstractEventLoop, str] = WeakKeyDictionary()
        self._numbers = itertools.count(1)

    def here(self) -> str:
        """Return the name of the running event loop."""
        loop = asyncio.get_running_loop()
        name = self._names.get(loop)
        if name is None:
            name = self._names[loop] = f"loop-{next(self._numbers)}"
        return name

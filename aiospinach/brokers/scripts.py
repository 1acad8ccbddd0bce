"""The scripts, as the server gets them."""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Callable, Sequence
from importlib.resources import files
from typing import Any

from redis.exceptions import NoScriptError

Send = Callable[..., Awaitable[Any]]

_LUA = files(__package__) / "lua"
_PRELUDE = (_LUA / "prelude.lua").read_text("utf-8")


class Script:
    """A Lua script: its source, unless it is given, stands in a file of its name, after the prelude."""

    def __init__(self, name: str, source: str | None = None) -> None:
        self.name = name
        if source is None:
            shebang, _, text = (_LUA / f"{name}.lua").read_text("utf-8").partition("\n")
            source = f"{shebang}\n{_PRELUDE}\n{text}"
        self.source = source
        self.sha: str = hashlib.sha1(self.source.encode(), usedforsecurity=False).hexdigest()

    async def run(self, send: Send, keys: Sequence[str], arguments: Sequence[Any]) -> Any:
        """Run it; a server that does not know it, or forgot it, is sent the source."""
        try:
            return await send("EVALSHA", self.sha, len(keys), *keys, *arguments)
        except NoScriptError:
            return await send("EVAL", self.source, len(keys), *keys, *arguments)


ENQUEUE = Script("enqueue")
EXCHANGE = Script("exchange")
RENEW = Script("renew")
TICK = Script("tick")
FIRE = Script("fire")
REGISTER = Script("register")
RING = Script("ring")
CANCEL = Script("cancel")
DEAD = Script("dead")
BURY = Script("bury")
COUNTS = Script("counts")

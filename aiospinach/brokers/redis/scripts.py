"""Builds the Lua scripts from their files, and runs them."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Awaitable, Callable, Sequence
from importlib.resources import files
from typing import Any

from redis.exceptions import NoScriptError

Send = Callable[..., Awaitable[Any]]

_LUA = files(__package__) / "lua"


def _text(name: str) -> str:
    return (_LUA / f"{name}.lua").read_text("utf-8")


def _listed(text: str, what: str) -> list[str]:
    """Return the words after ``-- KEYS`` or ``-- needs`` in a script's head."""
    found = re.search(rf"^-- {what} +(.*)$", text, re.MULTILINE)
    return found[1].split() if found else []


def _rare(parts: Sequence[str]) -> str:
    """Return a function that makes the functions of these files when it is first called, and returns them in
    a table."""
    texts = [_text(part) for part in parts]
    names = [name for text in texts for name in re.findall(r"^local function (\w+)", text, re.MULTILINE)]
    made = ", ".join(f"{name} = {name}" for name in names)
    head = ["local rare_functions", "local function rare()", "if not rare_functions then"]
    return "\n".join([*head, *texts, f"rare_functions = {{{made}}}", "end", "return rare_functions", "end"])


class Script:
    """A Lua script, from the file of its name. The head of the file names the keys, and the files whose
    functions the script needs: only these precede it, since each call makes them anew, which takes some 700
    instructions a function. ``rare`` among them stands for files in a line of its own: their
    functions are made if the script calls ``rare()``, and ``rare().park`` is the function ``park``. Keys of
    single jobs follow the FIXED_KEYS of the head. A script without a line of keys reads KEYS itself, and is
    for several queues.

    ``source``: a text to run in place of the file's; the keys stay.
    """

    def __init__(self, name: str, source: str | None = None) -> None:
        self.name = name
        shebang, _, text = _text(name).partition("\n")
        self.keys: tuple[str, ...] = tuple(_listed(text, "KEYS"))
        variables = ", ".join(key.replace(":", "") for key in self.keys)
        count = len(self.keys)
        unpacked = f"local FIXED_KEYS, {variables} = {count}, unpack(KEYS, 1, {count})" if self.keys else ""
        # Within one function: functions take over its variables faster than those of the script.
        rare = _rare(_listed(text, "rare"))
        needed = [rare if part == "rare" else _text(part) for part in _listed(text, "needs")]
        body = [_text("prelude"), "local function main()", *needed, text, "end", "return main()"]
        self.source: str = source or "\n".join([shebang, unpacked, *body])
        self.sha: str = hashlib.sha1(self.source.encode(), usedforsecurity=False).hexdigest()

    async def run(self, send: Send, keys: Sequence[str], arguments: Sequence[Any]) -> Any:
        """Run the script. Returns its answer. A server that does not have the script gets its source."""
        try:
            return await send("EVALSHA", self.sha, len(keys), *keys, *arguments)
        except NoScriptError:
            return await send("EVAL", self.source, len(keys), *keys, *arguments)


ENQUEUE = Script("enqueue")
EXCHANGE = Script("exchange")
RENEW = Script("renew")
TICK = Script("tick")
FIRE = Script("fire")
SKIP = Script("skip")
REGISTER = Script("register")
ADOPT = Script("adopt")
WAKE_ANOTHER = Script("wake_another")
SWEEP = Script("sweep")
ORPHANS = Script("orphans")
NUDGE = Script("nudge")
LOOK = Script("look")
STEER = Script("steer")
RESULTS = Script("results")
PAUSE = Script("pause")
RESCHEDULE = Script("reschedule")
CANCEL_ALL = Script("cancel_all")
BULK_DEAD = Script("bulk_dead")
WORKERS = Script("workers")
LISTING = Script("listing")
FACTS = Script("facts")
CHECK = Script("check")
DEAD_GROUPS = Script("dead_groups")
OVERVIEW = Script("overview")
READ_EVENTS = Script("read_events")
LATEST_EVENTS = Script("latest_events")
PROGRESS = Script("progress")

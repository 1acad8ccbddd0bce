"""The command that looks for damage in the store."""

from __future__ import annotations

from aiospinach import Engine
from aiospinach.views.text import printable

from .exits import NOT, WELL
from .options import Json, Queue
from .output import print_json
from .target import Target, ask


def check(target: Target | None = None, *, queue: Queue = None, json: Json = False) -> int:
    """Look whether the stored parts of each queue fit together. It only reads.

    Nothing is found unless somebody has deleted or written keys of a queue by hand, or the server has dropped
    some. Of each kind a thousand findings are listed.

    ```console
    aiospinach check shop:engine
    ```

    The exit code is 1 if something does not fit.
    """

    async def look(engine: Engine) -> int:
        findings = await engine.check(queue=queue)
        if json:
            print_json(findings)
            return NOT if findings else WELL
        for finding in findings:
            print(f"queue {finding.queue}: {printable(finding.sentence)}")
        if not findings:
            queues = list(await engine.counts(queue=queue))
            where = f"queue {queues[0]}" if len(queues) == 1 else f"{len(queues)} queues"
            print(f"all fits together in {where}")
        return NOT if findings else WELL

    return ask(target, look)

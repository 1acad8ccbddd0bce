"""Whether the stored parts of an engine's queues fit together."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from ..brokers.base import Broker
from ..brokers.findings import FindingKind, Found, LookFindings

_SENTENCES = {
    FindingKind.NO_JOB: "job {item} is in a line or has a lease, and is not stored",
    FindingKind.NO_PLACE: "job {item} is stored, and is in no line and has no lease: workers find such jobs"
    " within two leases, while a queue has less than 10,000 jobs in line",
    FindingKind.TWO_PLACES: "job {item} is in more than one place, and may run twice",
    FindingKind.SLOT_WITHOUT_LEASE: "a slot of task {task} is taken by lease {lease}, which has ended",
    FindingKind.LEASE_WITHOUT_SLOT: "lease {item} is of a task with max_concurrency, and has no slot of it",
    FindingKind.CLOSED_GATE: "jobs of task {item} are held back, although its limit has room",
    FindingKind.UNRECORDED: "the queue has {item}, and it is not recorded that it has some",
    FindingKind.DEAD_WITHOUT_RECORD: "dead job {item} has no record, or its record has no dead job",
    FindingKind.STRAY_MARK: "job {item} is marked as cancelled or moved, and is in no line and has no lease",
}


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """Something in the store that does not fit: somebody has deleted or written a part of a queue."""

    queue: str
    kind: str
    """A few words, the same for all findings of a kind."""
    item: str
    """The id of a job, a lease, the name of a task or of a part."""
    sentence: str
    """What is wrong, for people."""


async def check_queues(broker: Broker, namespace: str, queues: Sequence[str]) -> list[Finding]:
    """Return what does not fit together in these queues, in their order."""
    await broker.open_in_time(namespace)
    return [_finding(queue, found) for queue in queues for found in await broker.look(queue, LookFindings())]


def _finding(queue: str, found: Found) -> Finding:
    task, _, lease = found.item.partition("\n")
    sentence = _SENTENCES[found.kind].format(item=found.item, task=task, lease=lease)
    return Finding(queue=queue, kind=found.kind.value, item=found.item, sentence=sentence)

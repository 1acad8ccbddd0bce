"""A broker on Redis or Valkey: one server, a master that Sentinels name, or a Cluster."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Collection, Mapping, Sequence
from functools import partial
from typing import Any

from ..exceptions import BrokerError, InvalidValue
from ..job import JobStatus
from ..timing import to_seconds
from . import scripts, wire
from .base import (
    DEFAULT_ENQUEUE_TIMEOUT,
    DEFAULT_LEASE,
    SHORTEST_ENQUEUE_TIMEOUT,
    SHORTEST_LEASE,
    Broker,
    Cancelled,
    Counts,
    DeadJob,
    Envelope,
    Exchanged,
    Fired,
    Firing,
    Lease,
    Renewed,
    Settlement,
    Swept,
    Ticked,
)
from .failures import StoreFull
from .links import Link
from .loop_session import LoopSession
from .loops import Loops
from .places import place_of
from .redis_queue import KnownQueue, Settling, Unanswered
from .scripts import Script
from .tickets import Desk
from .trips import Trip, Trips
from .wire import milliseconds

EXPIRED_AT_ONCE = 100
SWEPT_AT_ONCE = 250
"""How many queues one call looks at."""
END_OF_WAIT = 1.0
"""Seconds that a wait may take to end after it was nudged."""
SHORTEST_PATIENCE = 2.0
FIRED_AT_ONCE = 500
RENEWED_AT_ONCE = 1000
LISTED_AT_ONCE = 100
LEASES_AT_ONCE = 1000


class RedisBroker(Broker):
    """Keeps jobs in Redis 7.0 or newer, or Valkey.

    ``url_or_client`` is ``redis://``, ``rediss://`` (TLS), ``unix://``,
    ``redis+sentinel://host:port,host:port/service`` or ``redis+cluster://host:port,host:port``, or a client
    of redis.asyncio, of which only the settings are read. ``lease`` is after how many seconds of silence a
    worker's jobs are given to others. ``enqueue_timeout`` is how many seconds each ``schedule`` tries to
    reach Redis. Nothing connects before it is used.
    """

    def __init__(
        self,
        url_or_client: object = "redis://localhost:6379/0",
        *,
        lease: float = DEFAULT_LEASE,
        enqueue_timeout: float = DEFAULT_ENQUEUE_TIMEOUT,
    ) -> None:
        self.lease: float = to_seconds(lease, what="RedisBroker(lease=)", least=SHORTEST_LEASE)
        self.enqueue_timeout: float = to_seconds(
            enqueue_timeout, what="RedisBroker(enqueue_timeout=)", least=SHORTEST_ENQUEUE_TIMEOUT
        )
        self._place = place_of(url_or_client)
        self._namespace = ""
        self._loops: Loops[LoopSession] = Loops(self._session, LoopSession.aclose, LoopSession.let_go)
        self._here = self._loops.here
        self._desk = Desk()
        self._clock: float | None = None  # Redis' clock less ours, in seconds

    def __repr__(self) -> str:
        return f"RedisBroker({str(self._place)!r})"

    async def open(self, namespace: str, *, until: float | None = None) -> None:
        if self._namespace not in ("", namespace):
            raise InvalidValue(f"this RedisBroker serves the namespace {self._namespace!r} already")
        self._namespace = namespace
        here = self._here()
        if not here.is_checked:
            clock = await here.check(str(self._place), until)
            self._clock = self._clock if clock is None else clock

    async def aclose(self) -> None:
        here = self._loops.get()
        if here is not None:
            for trips in list(here.trips.values()):
                await trips.aclose()
            # The session stays: workers that still drain go on with it, and repeat what was not answered.
            link, here.link, here.is_checked = here.link, self._link(), False
            await link.aclose()

    def now(self) -> int:
        return int((time.time() if self._clock is None else time.monotonic() + self._clock) * 1000)

    async def register(self, queue: str, limits: Mapping[str, int], periodic: Mapping[str, int]) -> None:
        state = self._queue(queue)
        state.periodic.update(periodic)
        if state.is_forgotten or state.is_unsure:
            limits = {**state.registered, **limits}
        state.is_forgotten = not await self._register(state, limits, periodic)

    async def _register(
        self, state: KnownQueue, limits: Mapping[str, int], periodic: Mapping[str, int]
    ) -> bool:
        """Whether the server had all that was registered before."""
        arguments = state.register_arguments(limits, periodic)
        was_unsure, state.is_unsure = state.is_unsure, True
        now, epoch, was_lost, adopted = await self._work(scripts.REGISTER, state, arguments)
        state.note_registered(limits, now, epoch)
        state.is_unsure = False
        if adopted:
            await self._adopt(state, adopted)
        if was_lost and len(state.limits) > len(limits):  # guard: limits registered before
            await self._register(state, state.registered, {})
        return not (was_lost or was_unsure)

    async def _adopt(self, state: KnownQueue, tasks: Sequence[bytes]) -> None:
        """Have the jobs counted that ran before these tasks had a limit."""
        cursor = b"0"
        while True:
            _, cursor = await self._work(scripts.ADOPT, state, [cursor, *tasks])
            if cursor == b"0":
                return

    async def enqueue(
        self,
        queue: str,
        jobs: Sequence[Envelope],
        *,
        token: str | None = None,
        until: float | None = None,
    ) -> list[bool]:
        here, state = self._here(), self._queue(queue)
        trips = here.trips.get(queue)
        if trips is None:

            async def send(trip: Trip) -> list[Any]:
                produce = partial(here.link.produce, until=trip.until)
                keys = state.keys.of(scripts.ENQUEUE)
                answer: list[Any] = await self._run(scripts.ENQUEUE, produce, keys, trip.arguments)
                return answer

            trips = Trips(queue, send, self._desk.of(queue), within=self.enqueue_timeout)
            here.trips[queue] = trips
        return await trips.store(jobs, token, until=until or time.monotonic() + self.enqueue_timeout)

    async def exchange(self, queue: str, settled: Sequence[Settlement], want: int) -> Exchanged:
        state = self._queue(queue)
        if state.settling.settled is not settled:
            state.settling = Settling(settled)
        settling = state.settling
        while True:
            some = settling.next()
            is_last = settling.done + len(some) == len(settled)
            asked = (settling, settling.done, want if is_last else 0)
            call = state.unanswered
            if call is None or call[:3] != asked:
                state.seq += 1
                arguments = state.exchange_arguments(some, asked[2], self.lease)
                call = state.unanswered = Unanswered(*asked, arguments, time.monotonic())
            answer = await self._work(scripts.EXCHANGE, state, call.arguments)
            _, fenced, cancelled, leased, epoch, is_something_left = answer
            state.unanswered = None
            settling.note(len(some), fenced, cancelled)
            if state.is_lost(epoch) and not leased:
                await self._register(state, state.registered, {})
            elif is_last:
                break
        state.settling = Settling(())
        trusted_until = call.sent_at + self.lease - self.margin
        suffix = f":{state.session}.{call.arguments[1]}"
        leases = []
        for job_id, envelope in wire.pairs(leased):
            job = wire.read(job_id, envelope)
            leases.append(Lease(job.id + suffix, job, trusted_until))
        is_due_sooner, state.is_due_sooner = state.is_due_sooner, False
        return Exchanged(leases, settling.fenced, settling.cancelled, bool(is_something_left), is_due_sooner)

    async def renew(self, queue: str, leases: Collection[str]) -> Renewed:
        state, names = self._queue(queue), list(leases)
        sent_at = time.monotonic()
        lost: list[bytes] = []
        cancelled: list[bytes] = []
        for first in range(0, len(names), RENEWED_AT_ONCE):
            some = names[first : first + RENEWED_AT_ONCE]
            _, gone, unwanted = await self._work(scripts.RENEW, state, [milliseconds(self.lease), *some])
            lost += gone
            cancelled += unwanted
        return Renewed(
            lost=[lease.decode() for lease in lost],
            cancelled=[lease.decode() for lease in cancelled],
            trusted_until=sent_at + self.lease - self.margin,
        )

    async def tick(self, queue: str) -> Ticked:
        state = self._queue(queue)
        state.ticks += 1
        sent_at = time.monotonic()
        now, next_due, lost, ticks = await self._work(
            scripts.TICK,
            state,
            [
                state.session,
                state.ticks,
                milliseconds(self.lease),
                milliseconds(self.grace),
                EXPIRED_AT_ONCE,
                *state.periodic,
            ],
        )
        trusted_until = sent_at + self.lease - self.margin
        return Ticked(
            next_due=None if next_due < 0 else next_due / 1000,
            expired=[
                Lease(name.decode(), wire.read(name.rpartition(b":")[0], envelope), trusted_until)
                for name, envelope in wire.pairs(lost)
            ],
            periodic=[(task.decode(), int(due)) for task, due in wire.pairs(ticks)],
            now=now,
            is_forgetful=state.is_forgotten,
        )

    async def fire(self, queue: str, firings: Sequence[Firing]) -> list[Fired]:
        fired: list[Fired] = []
        for first in range(0, len(firings), FIRED_AT_ONCE):
            fired += await self._fire(self._queue(queue), firings[first : first + FIRED_AT_ONCE])
        return fired

    async def _fire(self, state: KnownQueue, firings: Sequence[Firing]) -> list[Fired]:
        try:
            _, moved = await self._work(scripts.FIRE, state, wire.firings(firings))
            return [Fired.MOVED if is_moved else Fired.TAKEN for is_moved in moved]
        except StoreFull:
            dues = [field for each in firings for field in (each.task, each.due, each.next_due)]
            _, moved = await self._work(scripts.SKIP, state, dues)
            skipped = [Fired.MOVED if each.job is None else Fired.REFUSED for each in firings]
            return [how if is_moved else Fired.TAKEN for how, is_moved in zip(skipped, moved, strict=True)]

    def spans(self, queues: Sequence[str]) -> list[tuple[str, ...]]:
        return [tuple(queues)] if self._place.spans_queues else [(queue,) for queue in queues]

    async def sweep(self, queues: Sequence[str]) -> list[Swept]:
        swept: list[Swept] = []
        for first in range(0, len(queues), SWEPT_AT_ONCE):
            swept += await self._sweep(
                [self._queue(queue) for queue in queues[first : first + SWEPT_AT_ONCE]]
            )
        return swept

    async def _sweep(self, states: Sequence[KnownQueue]) -> list[Swept]:
        keys: list[str] = []
        arguments: list[Any] = [milliseconds(self.lease), milliseconds(self.grace)]
        for state in states:
            keys += state.keys.of_sweep()
            arguments += (len(state.periodic), *state.periodic)
        _, *answer = await self._run(scripts.SWEEP, self._here().link.work, keys, arguments)
        looks = zip(states, answer[::3], answer[1::3], answer[2::3], strict=True)
        return [state.swept(bool(ready), due, epoch) for state, ready, due, epoch in looks]

    async def wait(self, queues: Sequence[str], timeout: float) -> str | None:
        here, first = self._here(), self._queue(queues[0])
        first.is_nudged = False
        if here.waits_for is not queues:
            here.waits_for = queues
            here.by_wake_key = {self._queue(queue).keys.wake: queue for queue in queues}
        by_key = here.by_wake_key
        until = time.monotonic() + timeout
        while True:
            left = max(0.0, until - time.monotonic())
            popping = asyncio.ensure_future(here.link.pop([first.keys.nudge, *by_key], left))
            try:
                popped = await asyncio.shield(popping)
            except asyncio.CancelledError:
                await self._end_wait(queues, by_key, popping)
                raise
            if popped is None or popped[0] in by_key or first.is_nudged:
                return self._woken(by_key, popped)
            # It was nudged by a nudge that was meant for an earlier wait.

    def _woken(self, by_key: Mapping[str, str], popped: tuple[str, bytes] | None) -> str | None:
        queue = None if popped is None else by_key.get(popped[0])
        if popped is not None and queue is not None and popped[1] != b"run":
            self._queue(queue).is_due_sooner = True
        return queue

    async def _end_wait(
        self, queues: Sequence[str], by_key: Mapping[str, str], popping: asyncio.Future[Any]
    ) -> None:
        """End a wait that was cancelled, and pass on the wake-up that may have come meanwhile.

        Breaking it would lose one: the server may give it to the connection that is being closed.
        """
        try:
            async with asyncio.timeout(END_OF_WAIT):
                if not popping.done():
                    await self.nudge(queues)
                queue = self._woken(by_key, await asyncio.shield(popping))
                if queue is not None:
                    state = self._queue(queue)
                    await self._work(scripts.RING, state, [])
        except (BrokerError, TimeoutError, asyncio.CancelledError):
            popping.cancel()

    async def nudge(self, queues: Sequence[str]) -> None:
        state = self._queue(queues[0])
        state.is_nudged = True
        await self._work(scripts.NUDGE, state, [])

    async def cancel(self, queue: str, job_id: str) -> Cancelled:
        state = self._queue(queue)
        _, where, envelope = await self._produce(scripts.CANCEL, state, [job_id, 0])
        if where == b"marked":
            if await self._is_leased(state, job_id):
                where = b"running"
            else:  # it lies in a line, where nobody leases it any more, or it has ended meanwhile
                _, where, _ = await self._produce(scripts.CANCEL, state, [job_id, 1])
        status = JobStatus(where.decode())
        if status is JobStatus.NOT_SET:
            return Cancelled(status)
        return Cancelled(status, wire.read(job_id.encode(), envelope) if envelope else None)

    async def _is_leased(self, state: KnownQueue, job_id: str) -> bool:
        """Look through all leases, a thousand a call."""
        cursor = b"0"
        while True:
            found: list[bytes]
            cursor, found = await self._here().link.produce(
                "ZSCAN", state.keys.leases, cursor, "MATCH", f"{job_id}:*", "COUNT", LEASES_AT_ONCE
            )
            if any(lease.rpartition(b":")[0] == job_id.encode() for lease in found[::2]):
                return True
            if cursor == b"0":
                return False

    async def dead(self, queue: str, *, offset: int = 0, limit: int = 100) -> list[DeadJob]:
        state = self._queue(queue)
        records: list[DeadJob] = []
        while (count := min(limit - len(records), LISTED_AT_ONCE)) > 0:
            first = offset
            _, offset, flat = await self._produce(scripts.DEAD, state, [first, count])
            records += [wire.read_dead(job_id, record) for job_id, record in wire.pairs(flat)]
            if offset - first < count:  # no more follow; a look at many that cannot be read may find nothing
                break
        return records

    async def requeue(self, queue: str, job_id: str) -> bool:
        _, done = await self._produce(scripts.BURY, self._queue(queue), ["requeue", job_id])
        return bool(done)

    async def discard(self, queue: str, job_id: str) -> bool:
        _, done = await self._produce(scripts.BURY, self._queue(queue), ["discard", job_id])
        return bool(done)

    async def counts(self, queue: str) -> Counts:
        _, ready, running, waiting, dead = await self._work(scripts.COUNTS, self._queue(queue), [])
        return Counts(ready=ready, running=running, waiting=waiting, dead=dead)

    async def flush(self, queue: str) -> None:
        state = self._queue(queue)
        state.limits.clear()
        if (trips := self._here().trips.get(queue)) is not None:
            trips.forget_tokens()
        await self._here().link.produce("UNLINK", *state.keys.all())

    # Within.

    def _queue(self, queue: str) -> KnownQueue:
        here = self._here()
        state = here.queues.get(queue)
        if state is None:
            keys = wire.Keys(self._namespace, queue, here.session, self._desk.session)
            state = here.queues[queue] = KnownQueue(keys, here.session)
        return state

    async def _work(self, script: Script, state: KnownQueue, arguments: Sequence[Any]) -> Any:
        return await self._run(script, self._here().link.work, state.keys.of(script), arguments)

    async def _produce(self, script: Script, state: KnownQueue, arguments: Sequence[Any]) -> Any:
        return await self._run(script, self._here().link.produce, state.keys.of(script), arguments)

    async def _run(
        self, script: Script, send: scripts.Send, keys: Sequence[str], arguments: Sequence[Any]
    ) -> Any:
        answer = await script.run(send, keys, arguments)
        self._clock = answer[0] / 1000 - time.monotonic()
        return answer

    def _session(self) -> LoopSession:
        return LoopSession(self._link())

    def _link(self) -> Link:
        return self._place.link(max(SHORTEST_PATIENCE, self.lease / 6))

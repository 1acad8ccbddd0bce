"""The broker on Redis or Valkey: one server, a master that Sentinels name, or a Cluster."""

from __future__ import annotations

import time
from collections.abc import Collection, Mapping, Sequence
from datetime import timedelta
from functools import partial
from typing import Any, TypeVar

from ...timing import to_seconds
from ...validation import check_number
from ..base import (
    DEFAULT_ENQUEUE_TIMEOUT,
    DEFAULT_LEASE,
    MOST_EVENTS,
    SHORTEST_ENQUEUE_TIMEOUT,
    SHORTEST_LEASE,
    Broker,
)
from ..events import EventPlace
from ..overview import QueueSeen
from ..progress import Step, encode_step
from ..questions import Act, Question
from ..records import (
    NO_PARKING,
    Envelope,
    ExchangeResult,
    Fired,
    Firing,
    Lease,
    Parking,
    RenewResult,
    Settlement,
    StoreInfo,
    SweepResult,
    TickResult,
)
from ..reports import NO_REPORTS, QueueReport, WorkerReport
from ..subscriptions import Subscription
from . import schema, scripts
from .batching import EnqueueBatcher, RoundTrip
from .calls import ScriptCalls
from .endpoints import FROM_ENVIRONMENT, endpoint_of
from .errors import StoreFull
from .event_reads import wait_for_events
from .handshake import read_server
from .inspection import Inspection
from .orphans import find_orphans
from .overview import read_overview
from .queue_names import QueueNames
from .queue_session import QueueSession
from .registration import Registration
from .schema import milliseconds
from .steering import Steering
from .subscriptions import RedisSubscription
from .sweeps import Sweeps
from .transports import first_try_until
from .wake_ups import WakeUps

T = TypeVar("T")

EXPIRED_AT_ONCE = 100
SWEPT_AT_ONCE = 250  # queues
FIRED_AT_ONCE = 500
RENEWED_AT_ONCE = 1000


class RedisBroker(Broker):
    """Keeps jobs in Redis 7.0 or newer, or Valkey.

    ``url_or_client``: a URL ``redis://``, ``rediss://`` (TLS), ``unix://``,
    ``redis+sentinel://host:port,host:port/service`` or ``redis+cluster://host:port,host:port``, or a client
    of redis.asyncio, of which only the settings are read. By default it is the URL in ``$AIOSPINACH_URL``, or
    else ``redis://localhost:6379/0``. ``lease``: seconds after which the lease of a job ends, unless it is
    renewed. ``enqueue_timeout``: seconds for which ``schedule``, ``cancel`` and questions about queues try to
    reach Redis, unless ``options(enqueue_timeout=)`` sets another time. ``events``: how many rows of events
    each queue keeps, such as 10,000; a row has the events of one call, of a hundred jobs at most. All
    programs of a namespace give the same number; 0 keeps no events.
    Raises InvalidValue for a wrong argument. The broker connects when it is used first.
    """

    def __init__(
        self,
        url_or_client: object = FROM_ENVIRONMENT,
        *,
        lease: float = DEFAULT_LEASE,
        enqueue_timeout: float | timedelta = DEFAULT_ENQUEUE_TIMEOUT,
        events: int = 0,
    ) -> None:
        self.lease: float = to_seconds(lease, what="RedisBroker(lease=)", least=SHORTEST_LEASE)
        self.enqueue_timeout: float = to_seconds(
            enqueue_timeout, what="RedisBroker(enqueue_timeout=)", least=SHORTEST_ENQUEUE_TIMEOUT
        )
        self.events: int = check_number(events, what="RedisBroker(events=)", least=0, most=MOST_EVENTS)
        self._calls = ScriptCalls(endpoint_of(url_or_client), self.lease, self.enqueue_timeout, self.events)
        self._waits = WakeUps(self._calls)
        self._registration = Registration(self._calls)
        self._inspection = Inspection(self._calls)
        self._steering = Steering(self._calls)
        self._names = QueueNames(self._calls)
        self._sweeps = Sweeps(self._calls, self.grace)
        self._queue = self._calls.queue
        self._work = self._calls.work

    def __repr__(self) -> str:
        return f"RedisBroker({str(self._calls.endpoint)!r})"

    async def open(self, namespace: str, *, until: float | None = None) -> None:
        await self._calls.open(namespace, until)

    async def aclose(self) -> None:
        await self._calls.aclose()

    def now(self) -> int:
        return self._calls.now()

    async def ping(self) -> StoreInfo:
        server, version, _ = await read_server(self._calls.ask)
        seconds, microseconds = await self._calls.ask("TIME")
        return StoreInfo(server, version, int(seconds) * 1000 + int(microseconds) // 1000)

    async def queues(self) -> list[str]:
        return await self._names.all()

    async def register(
        self, queue: str, limits: Mapping[str, int], periodic: Mapping[str, int], worker: str = "-"
    ) -> Mapping[str, int]:
        self._names.add(queue)
        return await self._registration.register(self._queue(queue), limits, periodic, worker)

    async def enqueue(
        self,
        queue: str,
        jobs: Sequence[Envelope],
        *,
        token: str | None = None,
        until: float | None = None,
    ) -> list[bool]:
        batcher = self._calls.here().batchers.get(queue) or self._new_batcher(queue)
        return await batcher.store(jobs, token, until=until or time.monotonic() + self.enqueue_timeout)

    def _new_batcher(self, queue: str) -> EnqueueBatcher:
        here, state = self._calls.here(), self._queue(queue)
        self._names.add(queue)

        async def send(round_trip: RoundTrip) -> list[Any]:
            until = round_trip.until if round_trip.was_sent else first_try_until(round_trip.until)
            produce = partial(here.transport.producer_call, until=until)
            keys, arguments = state.keys.of(scripts.ENQUEUE), round_trip.arguments(self.events)
            answer: list[Any] = await self._calls.run(scripts.ENQUEUE, produce, keys, arguments)
            return answer

        numbers = self._calls.producer_session.of(queue)
        batcher = here.batchers[queue] = EnqueueBatcher(queue, send, numbers, within=self.enqueue_timeout)
        return batcher

    async def exchange(
        self, queue: str, settled: Sequence[Settlement], want: int, parking: Parking = NO_PARKING
    ) -> ExchangeResult:
        state = self._queue(queue)
        pending = state.pending_exchange(settled)
        is_last = False
        while not is_last:
            call = state.next_call(pending, want, self.lease, parking, self.now(), self.events)
            answer = await self._work(scripts.EXCHANGE, state, call.arguments, call.job_keys)
            _, fenced, cancelled, leased, epoch, is_something_left = answer
            is_last = pending.note_answer(call, fenced, cancelled)
            if state.is_lost(epoch) and not leased:
                await self._registration.renew(state, state.registered, {})
                is_last = False  # nothing was leased: the next call asks again
        state.end_exchange()
        trusted_until = call.sent_at + self.lease - self.margin
        suffix = f":{state.session}.{call.arguments[1]}"
        leases = schema.decode_leased(leased, suffix, trusted_until)
        has_earlier_due, state.has_earlier_due = state.has_earlier_due, False
        return ExchangeResult(
            leases, pending.fenced, pending.cancelled, bool(is_something_left), has_earlier_due
        )

    async def renew(self, queue: str, leases: Collection[str]) -> RenewResult:
        state, names = self._queue(queue), list(leases)
        sent_at = time.monotonic()
        lost: list[bytes] = []
        cancelled: list[bytes] = []
        for first in range(0, len(names), RENEWED_AT_ONCE):
            some = names[first : first + RENEWED_AT_ONCE]
            _, gone, unwanted = await self._work(scripts.RENEW, state, [milliseconds(self.lease), *some])
            lost += gone
            if gone:
                state.reported.difference_update(lease.decode() for lease in gone)
            cancelled += unwanted
        return RenewResult(
            lost=[lease.decode() for lease in lost],
            cancelled=[lease.decode() for lease in cancelled],
            trusted_until=sent_at + self.lease - self.margin,
        )

    async def tick(self, queue: str) -> TickResult:
        state = self._queue(queue)
        if state.has_orphans:
            await find_orphans(self._calls, state, self.lease)
        state.ticks += 1
        sent_at = time.monotonic()
        spans = milliseconds(self.lease), milliseconds(self.grace)
        arguments = [state.session, state.ticks, *spans, EXPIRED_AT_ONCE, *state.periodic]
        now, next_due, lost, ticks = await self._work(scripts.TICK, state, arguments)
        trusted_until = sent_at + self.lease - self.margin
        return TickResult(
            next_due=None if next_due < 0 else next_due / 1000,
            expired=[
                Lease(name.decode(), schema.decode(name.rpartition(b":")[0], envelope), trusted_until)
                for name, envelope in schema.pairs(lost)
            ],
            periodic=[(task.decode(), int(due)) for task, due in schema.pairs(ticks)],
            now=now,
            is_forgetful=state.has_lost_dues,
        )

    async def fire(self, queue: str, firings: Sequence[Firing]) -> list[Fired]:
        fired: list[Fired] = []
        for first in range(0, len(firings), FIRED_AT_ONCE):
            fired += await self._fire(self._queue(queue), firings[first : first + FIRED_AT_ONCE])
        return fired

    async def _fire(self, state: QueueSession, firings: Sequence[Firing]) -> list[Fired]:
        try:
            _, moved = await self._work(scripts.FIRE, state, [self.events, *schema.encode_firings(firings)])
            return [(Fired.TAKEN, Fired.MOVED, Fired.OVERLAPPING, Fired.PAUSED)[how] for how in moved]
        except StoreFull:
            dues = [field for each in firings for field in (each.task, each.due, each.next_due)]
            _, moved = await self._work(scripts.SKIP, state, dues)
            skipped = [Fired.MOVED if each.job is None else Fired.REFUSED for each in firings]
            return [how if is_moved else Fired.TAKEN for how, is_moved in zip(skipped, moved, strict=True)]

    def spans(self, queues: Sequence[str]) -> list[tuple[str, ...]]:
        return [tuple(queues)] if self._calls.endpoint.spans_queues else [(queue,) for queue in queues]

    async def sweep(
        self,
        queues: Sequence[str],
        worker: WorkerReport,
        reports: Mapping[str, QueueReport] = NO_REPORTS,
        *,
        is_last: bool = False,
    ) -> list[SweepResult]:
        swept: list[SweepResult] = []
        for first in range(0, len(queues), SWEPT_AT_ONCE):
            some = queues[first : first + SWEPT_AT_ONCE]
            swept += await self._sweeps.sweep(some, worker, reports, is_last=is_last)
        return swept

    async def wait(self, queues: Sequence[str], timeout: float) -> str | None:
        return await self._waits.wait(queues, timeout)

    async def nudge(self, queues: Sequence[str]) -> None:
        await self._waits.nudge(queues)

    async def note_progress(self, queue: str, steps: Mapping[str, tuple[str, Step]]) -> None:
        state = self._queue(queue)
        state.reported.update(steps)
        arguments: list[Any] = [int(self.events > 0), state.worker]
        for lease, (task, step) in steps.items():
            arguments += (lease, task, encode_step(step))
        await self._work(scripts.PROGRESS, state, arguments)

    async def wait_for_events(self, places: Mapping[str, EventPlace], timeout: float) -> None:
        await wait_for_events(self._calls, places, timeout)

    def subscribe(self, queue: str) -> Subscription:
        return RedisSubscription(self._calls.subscriptions(), self._queue(queue).keys.prefix)

    async def publish(self, queue: str, channel: str, data: bytes) -> None:
        await self._calls.ask("SPUBLISH", self._queue(queue).keys.prefix + channel, data)

    async def look(self, queue: str, question: Question[T]) -> T:
        answer: T = await self._inspection.look(queue, question)
        return answer

    async def overview(self, queues: Sequence[str], minutes: Sequence[int] = ()) -> list[QueueSeen]:
        return await read_overview(self._calls, self.spans(queues), minutes)

    async def steer(self, queue: str, act: Act[T]) -> T:
        result: T = await self._steering.steer(queue, act)
        return result

    async def flush(self, queue: str) -> None:
        state = self._queue(queue)
        state.limits.clear()
        if (batcher := self._calls.here().batchers.get(queue)) is not None:
            batcher.forget_tokens()
        await self._names.remove(queue)
        await self._calls.here().transport.producer_call("UNLINK", *state.keys.all(self.now()))

"""Random sequences of calls by workers, zombies and users keep the invariants of a broker.

The results are compared with a model, which knows the state of each job; on Redis the keys are checked too.
Events are read by cursor, and equal the transitions that the model has made.
"""

from __future__ import annotations

import asyncio
import itertools
import math
import os
import time
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Coroutine, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

import msgspec
import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from aiospinach import MemoryBroker, RedisBroker
from aiospinach.brokers.base import REMEMBERED_FOR, Broker
from aiospinach.brokers.pauses import WHOLE_QUEUE
from aiospinach.brokers.places import LookJobFacts, LookPlace, Place, PlacePage
from aiospinach.brokers.questions import Counts
from aiospinach.brokers.records import NO_PARKING, Envelope, Fired, Firing, Lease, Parking, Settlement
from aiospinach.brokers.redis import broker as redis_broker
from aiospinach.brokers.redis import calls, orphans, queue_session, scripts, sweeps
from aiospinach.brokers.redis.scripts import Script, Send
from aiospinach.brokers.reports import WorkerReport
from aiospinach.brokers.results import EndRecord, EndState, created_of
from aiospinach.job import JobStatus
from aiospinach.outcome import Action

from .. import asking
from ..servers import Server
from .event_ledger import ROWS, EventLedger
from .raw_keys import Header, RawKeys

T = TypeVar("T")

NAMESPACE, QUEUE = "invariants", "mail"
LEASE = 12.0
"""Its margin of 1 s and grace of 2 s are exact in binary, so that model and broker agree at boundaries."""
PLAIN = ("plain", "other")
LIMITED = ("one", "two")
USER_IDS = tuple(f"order-{number}" for number in range(4))
"""Ids given by users, which are remembered after the job has ended."""
OWN_IDS = tuple(f"own-{number}" for number in range(10))
WORKERS_IN_ALL = 3
WORKERS = st.integers(0, WORKERS_IN_ALL - 1)
IDS = st.one_of(st.just(""), st.just(""), st.sampled_from(USER_IDS + OWN_IDS))
"""An empty id stands for a new one."""
BODIES = st.one_of(st.binary(max_size=40), st.sampled_from([b"", b"\n", b"[]", bytes(range(256))]))
DELAYS = st.sampled_from([0.0, 0.0, 0.0, 0.125, 1.0, 30.0])
WANT = st.sampled_from([10, 3, 2, 1, 0])
PAUSABLE = st.sampled_from((WHOLE_QUEUE, *PLAIN, *LIMITED))
RESULT_TTL = 600_000
RESULT_TTLS = st.sampled_from([0, RESULT_TTL])
UNSURE = 60_000
"""Milliseconds before the end of a stored result in which it may be gone: Redis counts real time as well."""
CRASHES_AT_MOST = 3
SAME_ANSWER = {"enqueue", "exchange", "renew", "look", "listing", "facts", "wake_another", "results"}
"""Scripts that return the same for a repeated call. The other scripts return the work that is due now."""


class BrokerUnderTest(ABC):
    """A broker, and what the state machine needs of its kind: control of time, and checks of its state."""

    brokers: Sequence[Broker]
    """One for each worker; the first is also used by the users."""

    @abstractmethod
    def run(self, call: Coroutine[Any, Any, T]) -> T:
        """Run a call. No time passes for the broker meanwhile."""

    @abstractmethod
    def pass_time(self, seconds: float) -> None:
        """Advance the broker's clocks by ``seconds``, a multiple of 1/8."""

    @abstractmethod
    def monotonic(self) -> float:
        """The broker's ``time.monotonic()``."""

    @abstractmethod
    def check(self, live: Mapping[str, Known], most: Mapping[str, int]) -> None:
        """Assert that each live job is in its state, and limited tasks run up to ``most`` jobs."""

    @abstractmethod
    def has_queue_entry(self, job_id: str) -> bool:
        """Whether the id of this cancelled job is still in the queue."""

    @abstractmethod
    def is_parked(self, job_id: str) -> bool:
        """Whether this job is parked."""

    @abstractmethod
    def is_waiting(self, job_id: str) -> bool:
        """Whether this job waits to be due, and is in no line."""

    @abstractmethod
    def look_for_orphans(self, number: int) -> None:
        """Have a worker look for orphans, of which there are none."""

    @abstractmethod
    def forget_results(self) -> None:
        """Remove stored results, which may outlive a flush."""

    @abstractmethod
    def check_drained(self) -> None:
        """Assert that no data of jobs is left."""

    @abstractmethod
    def close(self) -> None:
        """Close broker and clients."""


class Clock:
    """A replacement for the module ``time``."""

    def __init__(self, start: int = 1_700_000_000) -> None:
        self.start = start
        self.begin = int(time.monotonic())  # near the real one, which limits calls; an integer, to be exact
        self.passed = 0.0

    def time(self) -> float:
        return self.start + self.passed

    def monotonic(self) -> float:
        return self.begin + self.passed


class MemoryUnderTest(BrokerUnderTest):
    def __init__(self) -> None:
        self._clock = Clock()
        self._runner = asyncio.Runner()
        self.broker = MemoryBroker(lease=LEASE, events=ROWS, clock=self._clock)
        self.brokers = [self.broker] * WORKERS_IN_ALL
        self.run(self.broker.open(NAMESPACE))

    def run(self, call: Coroutine[Any, Any, T]) -> T:
        return self._runner.run(call)

    def pass_time(self, seconds: float) -> None:
        self._clock.passed += seconds

    def monotonic(self) -> float:
        return self._clock.monotonic()

    def check(self, live: Mapping[str, Known], most: Mapping[str, int]) -> None:
        pass

    def has_queue_entry(self, job_id: str) -> bool:
        return job_id in self.broker._queues[QUEUE].gone

    def is_parked(self, job_id: str) -> bool:
        return any(job_id in parked.dues for parked in self.broker._queues[QUEUE].parked.values())

    def is_waiting(self, job_id: str) -> bool:
        return job_id in self.broker._queues[QUEUE].waiting.dues

    def look_for_orphans(self, number: int) -> None:
        pass

    def forget_results(self) -> None:
        pass

    def check_drained(self) -> None:
        pass

    def close(self) -> None:
        self.run(self.broker.aclose())
        self._runner.close()


class RedisUnderTest(BrokerUnderTest):
    """A broker with its own session for each worker, on one server.

    The scripts are patched to read the time from a key, so that only the test advances it. Every third call
    is sent twice, as after a lost answer. After every fifth call a copy of an earlier enqueue arrives.
    """

    def __init__(self, server: Server) -> None:
        self._clock = Clock(int(time.time()) + 3600)  # in the future, so that no key expires by itself
        self._client = server.client()
        self._client.flushdb()
        self._keys = RawKeys(self._client, NAMESPACE, QUEUE)
        self._calls = 0
        self._earlier: deque[tuple[Script, Send, Sequence[str], Sequence[Any]]] = deque(maxlen=8)
        self._patch = pytest.MonkeyPatch()
        for module in (redis_broker, calls, queue_session, sweeps):
            self._patch.setattr(module, "time", self._clock)
        for name, script in vars(scripts).items():
            if isinstance(script, Script):
                before, line, after = script.source.partition("call('TIME')")
                assert line
                text = f"{before}call('LRANGE', 'clock', 0, 1){after}"
                self._patch.setattr(scripts, name, Script(script.name, text))
        self._patch.setattr(Script, "run", self._sometimes_twice(Script.run))
        self.pass_time(0)
        self._runner = asyncio.Runner()
        self.brokers: list[RedisBroker] = [
            RedisBroker(server.unix_url, lease=LEASE, enqueue_timeout=3600, events=ROWS)
            for _ in range(WORKERS_IN_ALL)
        ]
        for broker in self.brokers:
            self.run(broker.open(NAMESPACE))

    def _sometimes_twice(self, run: Callable[..., Coroutine[Any, Any, Any]]) -> Callable[..., Any]:
        async def sometimes_twice(
            script: Script, send: Send, keys: Sequence[str], arguments: Sequence[Any]
        ) -> Any:
            answer = await run(script, send, keys, arguments)
            self._calls += 1
            if script.name == "enqueue":
                self._earlier.append((script, send, keys, arguments))
            if self._earlier and self._calls % 5 == 0:
                earlier = self._earlier[0]
                [answers] = [name for name in earlier[2] if ":answers:" in name]
                if self._client.exists(answers):  # a flush removes them
                    before = self._keys.read()
                    await run(*earlier)
                    assert self._keys.read() == before, "I6: a late copy changes nothing"
            if self._calls % 3 == 0:
                before = self._keys.read()
                again = await run(script, send, keys, arguments)
                assert self._keys.read() == before, f"I6: {script.name} changes nothing when repeated"
                if script.name in SAME_ANSWER:
                    assert again == answer, f"I6: {script.name} answers the same when repeated"
            return answer

        return sometimes_twice

    def run(self, call: Coroutine[Any, Any, T]) -> T:
        return self._runner.run(call)

    def pass_time(self, seconds: float) -> None:
        self._clock.passed += seconds
        now = self._clock.time()
        self._client.delete("clock")
        self._client.rpush("clock", int(now), int(now % 1 * 1_000_000))
        for number in range(2):
            name = f"{self._keys.prefix}dedup:{number}"
            if 0 < self._client.pexpiretime(name) <= now * 1000:
                self._client.delete(name)
        for kind in ("sess", "answers", "result"):
            for own in self._client.keys(f"{self._keys.prefix}{kind}:*"):
                self._client.pexpire(own, self._client.pttl(own) - int(seconds * 1000))

    def monotonic(self) -> float:
        return self._clock.monotonic()

    def check(self, live: Mapping[str, Known], most: Mapping[str, int]) -> None:
        seen = self._keys.check(most)
        ids_by_state = self._keys.ids_by_state(seen)
        jobs = {key.decode(): value for key, value in seen.get("jobs", {}).items()}
        of_status = {JobStatus.QUEUED: "queued", JobStatus.WAITING: "waiting", JobStatus.RUNNING: "leased"}
        assert set(jobs) == set(live), "I1"
        expiries = {lease.decode(): score for lease, score in seen.get("leases", [])}
        assert len(expiries) == len(ids_by_state["leased"])
        start = self._clock.time() - self._clock.monotonic()
        for job_id, known in live.items():
            assert job_id in ids_by_state["parked" if known.is_parked else of_status[known.status]]
            if known.lease is not None:
                assert expiries[known.lease] == (start + known.expiry) * 1000
            job = known.job
            header = Header.read(jobs[job_id])
            assert header is not None
            assert header.body == job.body, "I8: body out = body in"
            assert (header.retries, header.max_retries, header.crashes, header.parked_at, header.task) == (
                job.retries,
                job.max_retries,
                job.crashes,
                job.parked_at,
                job.task,
            )

    def has_queue_entry(self, job_id: str) -> bool:
        return bool(self._client.hexists(self._keys.prefix + "cancels", job_id))

    def is_parked(self, job_id: str) -> bool:
        return job_id in self._keys.ids_by_state()["parked"]

    def is_waiting(self, job_id: str) -> bool:
        return job_id in self._keys.ids_by_state()["waiting"]

    def forget_results(self) -> None:
        for name in self._client.keys(f"{self._keys.prefix}result:*"):
            self._client.delete(name)

    def look_for_orphans(self, number: int) -> None:
        async def look() -> None:
            await orphans.find_orphans(broker._calls, broker._queue(QUEUE), broker.lease)

        broker, before = self.brokers[number], self._keys.read()
        self.run(look())
        assert self._keys.read() == before, "without orphans, looking for them changes nothing"

    def check_drained(self) -> None:
        self._keys.check_drained()

    def close(self) -> None:
        for broker in self.brokers:
            self.run(broker.aclose())
        self._runner.close()
        self._client.close()
        self._patch.undo()


@dataclass
class Known:
    """The model of one live job."""

    job: Envelope
    status: JobStatus
    had_queue_entry: bool = False
    """Whether the id was still in the queue, of a cancelled job, when this one was stored."""
    rank: int = 0
    """Its position among queued jobs; jobs queued by one tick share one."""
    is_parked: bool = False
    """Whether it is parked; its status is then WAITING."""
    is_moved: bool = False
    """Whether it was moved to a later moment while it was queued."""
    lease: str | None = None
    is_judged: bool = False
    """Whether its lease is for recovery: the worker that ran it was lost."""
    expiry: float = 0.0
    cancel_wanted: bool = False
    """Whether it was cancelled while it ran."""
    starts: int = 0
    allowed: int = 0
    """The number of releases and parkings, which allow as many additional starts."""

    def matches(self, seen: Envelope) -> bool:
        return msgspec.structs.replace(seen, at=0, named=False) == msgspec.structs.replace(
            self.job, at=0, named=False
        )


@dataclass
class Held:
    """A lease that a worker believes to hold, and a copy of its job as it was leased."""

    lease: Lease
    job: Envelope
    is_recovery: bool = False


@dataclass
class Worker:
    broker: Broker
    held: list[Held] = field(default_factory=list)
    lives: bool = True


class Promises(RuleBasedStateMachine):
    """Workers that disappear and return as zombies, users, and the passing of time."""

    make: Callable[[], BrokerUnderTest]

    def __init__(self) -> None:
        super().__init__()
        self.under_test = self.make()
        self.broker = self.under_test.brokers[0]
        self.workers = [Worker(broker) for broker in self.under_test.brokers]
        self.forget()
        self.flushes = 0
        self.durations = itertools.count()
        self.settled_leases: list[str] = []

    def forget(self) -> None:
        self.events = EventLedger(NAMESPACE, QUEUE)
        self.live: dict[str, Known] = {}
        self.dead: dict[str, tuple[Envelope, bytes]] = {}
        self.cancelled_in_queue: dict[str, Known] = {}
        """Jobs cancelled in the queue. The next job of such an id takes over its position."""
        self.named: dict[str, int] = {}
        self.calls: list[tuple[str, list[Envelope], list[bool], int]] = []
        self.limits: dict[str, int] = {}
        self.most: dict[str, int] = {}
        self.positions: dict[Place, str] = {}
        """Where a lister goes on, which reads a page now and then."""
        self.periodic: dict[str, int] = {}
        self.ends: dict[str, EndRecord] = {}
        self.fired: set[str] = set()
        self.ticks: dict[str, str] = {}
        self.paused: dict[str, int] = {}
        self.had_pauses = False
        self.first = self.last = 0
        self.looked_at = math.inf
        self.pause_left = 0.0
        self.stored = self.succeeded = self.cancelled = self.discarded = self.replaced = 0

    # The model.

    def now(self) -> int:
        return self.broker.now()

    def queued(self) -> list[Known]:
        return [known for known in self.live.values() if known.status is JobStatus.QUEUED]

    def running(self, task: str) -> int:
        return sum(
            known.job.task == task and known.status is JobStatus.RUNNING for known in self.live.values()
        )

    def is_paused(self, task: str) -> bool:
        return task in self.paused or WHOLE_QUEUE in self.paused

    def pause_task(self, task: str, until: int) -> None:
        self.paused[task] = until
        self.had_pauses = True

    def room(self, task: str) -> int:
        if self.is_paused(task):
            return 0
        limit = self.limits.get(task, 0)
        return max(0, limit - self.running(task)) if limit else len(self.live)

    def queued_plain(self) -> list[Known]:
        return [known for known in self.queued() if known.job.task in PLAIN]

    def runnable(self, some: Sequence[Known] | None = None) -> int:
        """The number of jobs that could be leased now, of all queued ones or of ``some``."""
        some = self.queued() if some is None else some
        some = [known for known in some if known.job.at <= self.now() and not self.is_paused(known.job.task)]
        plain = sum(known.job.task in PLAIN for known in some)
        return plain + sum(
            min(self.room(task), sum(known.job.task == task for known in some)) for task in LIMITED
        )

    def append(self, known: Known) -> None:
        self.last += 1
        known.status, known.rank = JobStatus.QUEUED, self.last

    def put_off(self, known: Known, due: int) -> None:
        known.job = msgspec.structs.replace(known.job, at=due)
        if due <= self.now():
            self.append(known)
        else:
            known.status = JobStatus.WAITING

    def store(self, job: Envelope, *, had_queue_entry: bool = False) -> None:
        self.stored += 1
        # A copy, which the broker cannot change.
        known = self.live[job.id] = Known(msgspec.structs.replace(job), JobStatus.WAITING, had_queue_entry)
        self.events.note("job_scheduled", job.id, job.task)
        self.put_off(known, job.at)
        self.take_over(known)

    def take_over(self, known: Known) -> None:
        """Give a queued job the position of the cancelled one of its id."""
        cancelled = self.cancelled_in_queue.pop(known.job.id, None)
        if cancelled is not None and known.had_queue_entry:
            known.rank = cancelled.rank

    def expected(self, job: Envelope) -> bool | None:
        """Whether a new job is stored; None if the broker may have forgotten its id or not."""
        if job.id in self.live:
            return False
        if not job.named or job.id not in self.named:
            return True
        age = self.now() - self.named[job.id]
        if age < REMEMBERED_FOR * 1000:
            return False
        return True if age >= 2 * REMEMBERED_FOR * 1000 else None

    def forget_live(self, known: Known) -> None:
        del self.live[known.job.id]

    def forget_cancelled(self, known: Known) -> None:
        """Forget a job that was cancelled before it ran, and its id."""
        self.named.pop(known.job.id, None)
        self.forget_live(known)
        self.note_end(known.job, EndState.CANCELLED)
        self.events.note("job_cancelled", known.job.id, known.job.task)
        self.cancelled += 1

    def worker(self, number: int) -> Worker:
        """That worker, or the first one, which never dies, if it is dead."""
        return self.workers[number if self.workers[number].lives else 0]

    # Calls of the broker, and checks of their results.

    def lease(self, known: Known, lease: Lease, worker: Worker, *, is_recovery: bool = False) -> None:
        trust = self.under_test.monotonic() + LEASE - self.broker.margin
        assert lease.trusted_until == trust
        assert known.matches(lease.job), "I8: a leased job equals the stored one"
        assert lease.id not in {held.lease.id for each in self.workers for held in each.held}
        known.status, known.lease, known.is_judged = JobStatus.RUNNING, lease.id, is_recovery
        known.is_parked = known.is_moved = False
        assert is_recovery or not known.cancel_wanted, "a cancelled job does not run again"
        known.expiry = self.under_test.monotonic() + LEASE
        worker.held.append(Held(lease, msgspec.structs.replace(lease.job), is_recovery))

    def exchange(
        self,
        worker: Worker,
        back: list[tuple[Held, Action, float]],
        want: int,
        parking: Parking = NO_PARKING,
        *,
        has_successors: bool = False,
        is_pausing: bool = False,
    ) -> None:
        successors = {
            held.lease.job.id: Envelope(
                held.lease.job.id,
                held.job.task,
                b"[[2],{}]",
                self.now() + int(delay * 1000),
                1,
                result_ttl=held.job.result_ttl,
            )
            for held, _, delay in back
            if has_successors
        }
        durations = {held.lease.id: self.duration(held, action) for held, action, _ in back}
        settled = [
            Settlement(
                held.lease,
                action,
                delay,
                b"why",
                duration=durations[held.lease.id],
                successor=successors.get(held.lease.job.id),
                pause="web-1 429" if is_pausing else None,
                result=held.lease.id.encode() if action is Action.DONE else b"",
            )
            for held, action, delay in back
        ]
        exchanged = self.under_test.run(worker.broker.exchange(QUEUE, settled, want, parking))
        fenced = []
        cancelled = []
        self.first -= len(back)
        self.released = self.first
        for held, action, delay in back:
            known = self.live.get(held.lease.job.id)
            if known is None or known.lease != held.lease.id:
                fenced.append(held.lease.id)
                continue
            if is_pausing:
                end, before = self.now() + int(delay * 1000), self.paused.get(known.job.task)
                if before is None or 0 < before < end:
                    self.pause_task(known.job.task, end)
            if known.cancel_wanted and action in (Action.RETRY, Action.RELEASE, Action.PARK):
                cancelled.append(held.lease.id)
                action = Action.CANCELLED
            self.events.note_settled(known.job.id, known.job.task, action, durations[held.lease.id])
            self.settle(known, action, delay, is_pausing=is_pausing)
            successor = successors.get(known.job.id)
            if successor is not None and known.job.id not in self.live and not known.cancel_wanted:
                self.store(successor)
        assert list(exchanged.fenced) == fenced, "I5: a lost lease changes nothing"
        assert list(exchanged.cancelled) == cancelled, "a job cancelled while running is not requeued"
        for held, _, _ in back:
            assert held.lease.job == held.job, "the job of a lease does not change"
            worker.held.remove(held)
            self.settled_leases.append(held.lease.id)
        room = {task: self.room(task) for task in LIMITED}
        queued = self.queued()
        offered = [
            known for known in queued if known.job.task not in parking.unknown and known.job.at <= self.now()
        ]
        parked = [known for known in self.live.values() if known.is_parked]
        wanted = [known for known in parked if known.job.task in parking.wanted]
        assert len(exchanged.leases) == min(want, self.runnable(offered + wanted)), (
            "all runnable jobs are leased"
        )
        taken = []
        for lease in exchanged.leases:
            known = self.live[lease.job.id]
            assert known in offered or known in wanted, "I2, I7: only queued jobs are leased, and once"
            assert known.job.at <= self.now(), "I7: no job starts before it is due"
            self.lease(known, lease, worker)
            known.starts += 1
            self.events.note("job_started", known.job.id, known.job.task)
            assert known.starts <= 1 + known.job.max_retries + known.allowed, "I4"
            taken.append(known)
        for task in LIMITED:
            assert sum(known.job.task == task for known in taken) <= room[task], "I3: within the limit"
        self.check_order(offered, [known for known in taken if known in offered])
        for task in parking.wanted:
            came = [known.job.parked_at for known in taken if known in wanted and known.job.task == task]
            ranks = sorted(known.job.parked_at for known in wanted if known.job.task == task)
            assert came == ranks[: len(came)], "jobs parked first are leased first"
        for known in queued:
            if known.job.task in parking.unknown and self.under_test.is_parked(known.job.id):
                self.park(known)
        for known in queued:
            if (
                known.is_moved
                and known.status is JobStatus.QUEUED
                and self.under_test.is_waiting(known.job.id)
            ):
                known.status, known.is_moved = JobStatus.WAITING, False
        if len(taken) < want:
            assert not exchanged.is_something_left, "all jobs were considered"
            assert not any(
                known.job.task in (*parking.unknown,)
                for known in self.queued_plain()
                if known.job.at <= self.now() and not self.is_paused(known.job.task)
            )
        elif self.runnable([*self.queued(), *(known for known in wanted if known.is_parked)]):
            assert exchanged.is_something_left

    def duration(self, held: Held, action: Action) -> float:
        """How long a body took: each another time; negative if none has run, as of a lost job."""
        has_run = action is Action.DONE or not (held.is_recovery or action is Action.PARK)
        return next(self.durations) / 8 if has_run else -1.0

    def check_order(self, queued: list[Known], taken: list[Known]) -> None:
        """I10: for all tasks without a limit together, and for each limited one."""
        plain = [(task,) for task in PLAIN] if self.had_pauses else [PLAIN]
        for tasks in (*plain, *((task,) for task in LIMITED)):
            ranks = sorted(known.rank for known in queued if known.job.task in tasks)
            came = [known.rank for known in taken if known.job.task in tasks]
            assert came == ranks[: len(came)], "I10: first in, first out"

    def note_end(self, job: Envelope, state: EndState | None, result: bytes = b"") -> None:
        """Note the stored end of a job that keeps its result; ``state`` is None if it failed."""
        if job.result_ttl and state is None:
            self.ends.pop(job.id, None)
        elif job.result_ttl and state is not None:
            self.ends[job.id] = EndRecord(state, self.now(), created_of(job), job.task, result)

    def settle(self, known: Known, action: Action, delay: float, *, is_pausing: bool = False) -> None:
        lease, known.lease = known.lease or "", None
        if action is Action.DONE:
            self.note_end(known.job, EndState.DONE, lease.encode())
        elif not action.puts_back:
            self.note_end(known.job, EndState.CANCELLED if action is Action.CANCELLED else None)
        if action is Action.DONE:
            self.forget_live(known)
            self.succeeded += 1
        elif action is Action.CANCELLED:
            self.forget_live(known)
            self.cancelled += 1
        elif action is Action.FAIL:
            self.forget_live(known)
            self.replaced += self.dead.pop(known.job.id, None) is not None
            self.dead[known.job.id] = (known.job, b"why")
        elif action is Action.RELEASE:
            self.released += 1
            known.status, known.rank = JobStatus.QUEUED, self.released
            known.allowed += 1
        elif action is Action.PARK:
            known.allowed += 1
            self.park(known)
        elif is_pausing:
            self.released += 1
            retries = known.job.retries + 1
            known.job = known.job.due_at(self.now(), retries=retries, parked_at=0, error="why")
            known.status, known.rank = JobStatus.QUEUED, self.released
        else:
            retries = known.job.retries + 1
            known.job = known.job.due_at(known.job.at, retries=retries, parked_at=0, error="why")
            self.put_off(known, self.now() + int(delay * 1000))

    def park(self, known: Known) -> None:
        known.status, known.is_parked = JobStatus.WAITING, True
        known.job = msgspec.structs.replace(known.job, parked_at=known.job.parked_at or self.now())

    def look(self) -> bool:
        """Record a tick or sweep. Returns whether the rescue is paused, after a time without any."""
        now = self.under_test.monotonic()
        passed = max(0.0, now - self.looked_at)
        if self.pause_left > 0:
            self.pause_left = max(0.0, self.pause_left - min(passed, LEASE / 12))
        elif passed > LEASE / 4:
            self.pause_left = LEASE / 4
        self.looked_at = now
        return self.pause_left > 0

    def tick(self, worker: Worker) -> None:
        is_paused = self.look()
        ticked = self.under_test.run(worker.broker.tick(QUEUE))
        due = [
            known
            for known in self.live.values()
            if known.status is JobStatus.WAITING and not known.is_parked and known.job.at <= self.now()
        ]
        for moment in sorted({known.job.at for known in due}):
            self.last += 1
            for known in due:
                if known.job.at == moment:
                    known.status, known.rank = JobStatus.QUEUED, self.last
        self.paused = {name: until for name, until in self.paused.items() if not until or until > self.now()}
        monotonic = self.under_test.monotonic()
        expired = {
            known.job.id
            for known in self.live.values()
            if known.status is JobStatus.RUNNING and known.expiry + self.broker.grace <= monotonic
        }
        expired = set() if is_paused else expired
        assert sorted(lease.job.id for lease in ticked.expired) == sorted(expired)
        for lease in ticked.expired:
            known = self.live[lease.job.id]
            if not known.is_judged:
                known.job = msgspec.structs.replace(known.job, crashes=known.job.crashes + 1)
            self.lease(known, lease, worker, is_recovery=True)
        assert dict(ticked.periodic) == {
            task: due for task, due in self.periodic.items() if due <= self.now()
        }
        dues = [*self.periodic.values(), *filter(None, self.paused.values())]
        dues += [
            known.job.at
            for known in self.live.values()
            if known.status is JobStatus.WAITING and not known.is_parked
        ]
        if dues:
            assert ticked.next_due == max(0.0, (min(dues) - self.now()) / 1000)
        else:
            assert ticked.next_due is None

    def renew(self, worker: Worker) -> None:
        leases = [held.lease.id for held in worker.held] + self.settled_leases[-5:]
        renewed = self.under_test.run(worker.broker.renew(QUEUE, leases))
        live = {known.lease: known for known in self.live.values() if known.lease is not None}
        assert sorted(renewed.lost) == sorted(lease for lease in leases if lease not in live)
        assert sorted(renewed.cancelled) == sorted(
            lease for lease in leases if lease in live and live[lease].cancel_wanted
        )
        assert renewed.trusted_until == self.under_test.monotonic() + LEASE - self.broker.margin
        for lease in leases:
            if lease in live:
                live[lease].expiry = self.under_test.monotonic() + LEASE

    def actions(self, held: Held) -> list[Action]:
        """The actions that a worker may choose for a job."""
        job = held.job
        if held.is_recovery:
            again = job.max_retries > job.retries and job.crashes < CRASHES_AT_MOST
            return [Action.RETRY] if again else [Action.FAIL]
        actions = [Action.DONE, Action.FAIL, Action.CANCELLED, Action.PARK]
        if job.max_retries:
            actions.append(Action.RELEASE)
        if job.retries < job.max_retries:
            actions.append(Action.RETRY)
        return actions

    def draw_back(self, data: st.DataObject, worker: Worker) -> list[tuple[Held, Action, float]]:
        """Some leases of a worker, with actions and delays."""
        if not worker.held:
            return []
        some = data.draw(st.lists(st.sampled_from(range(len(worker.held))), unique=True, max_size=4))
        back = [worker.held[index] for index in some]
        return [(held, data.draw(st.sampled_from(self.actions(held))), data.draw(DELAYS)) for held in back]

    # Actions of users and workers.

    @initialize(limits=st.fixed_dictionaries({task: st.integers(0, 2) for task in LIMITED}))
    def begin(self, limits: dict[str, int]) -> None:
        self.register(limits)

    @rule(limits=st.dictionaries(st.sampled_from(LIMITED), st.integers(0, 3)))
    def register(self, limits: dict[str, int]) -> None:
        for _ in range(2):
            self.under_test.run(self.broker.register(QUEUE, limits, {}))
        self.limits |= limits
        self.most |= {task: max(limit, self.running(task)) for task, limit in limits.items()}

    @precondition(lambda self: any(self.running(task) for task in LIMITED))
    @rule(limit=st.integers(0, 2))
    def limit_what_runs(self, limit: int) -> None:
        self.register({task: limit for task in LIMITED if self.running(task)})

    @rule(task=st.sampled_from(PLAIN), delay=DELAYS)
    def register_periodic(self, task: str, delay: float) -> None:
        due = self.now() + int(delay * 1000) + 1  # a calendar returns moments after now
        for broker in self.under_test.brokers:  # a tick returns tasks that its caller has registered
            self.under_test.run(broker.register(QUEUE, {}, {task: due}))
        self.periodic[task] = min(due, self.periodic.get(task, due))

    @rule(
        wanted=st.lists(
            st.tuples(
                IDS,
                st.sampled_from(PLAIN + LIMITED),
                BODIES,
                st.integers(0, 3),
                DELAYS,
                RESULT_TTLS,
            ),
            min_size=2,
            max_size=8,
        ),
        with_token=st.booleans(),
    )
    def enqueue(self, wanted: list[tuple[str, str, bytes, int, float, int]], with_token: bool) -> None:
        now = self.now()
        cancelled = self.cancelled_in_queue
        # The new job has the task of the cancelled one: one of another task would wait in its position.
        jobs = [
            Envelope(
                job_id or f"new-{self.stored}-{index}",
                cancelled[job_id].job.task if job_id in cancelled else task,
                body,
                now + (0 if job_id in cancelled else int(delay * 1000)),
                max_retries,
                named=job_id in USER_IDS,
                result_ttl=result_ttl,
            )
            for index, (job_id, task, body, max_retries, delay, result_ttl) in enumerate(wanted)
        ]
        token = f"call-{self.flushes}-{len(self.calls)}" if with_token else None
        with_entry = {job.id for job in jobs if self.under_test.has_queue_entry(job.id)}
        answer = self.under_test.run(self.broker.enqueue(QUEUE, jobs, token=token))
        assert len(answer) == len(jobs)
        for job, stored in zip(jobs, answer, strict=True):
            assert self.expected(job) in (stored, None)
            if stored:
                if job.named:
                    self.named[job.id] = now
                self.store(job, had_queue_entry=job.id in with_entry)
        if token is not None:
            self.calls.append((token, jobs, answer, now))

    @precondition(lambda self: self.calls)
    @rule(data=st.data())
    def enqueue_again(self, data: st.DataObject) -> None:
        token, jobs, answer, at = data.draw(st.sampled_from(self.calls))
        if self.now() - at < REMEMBERED_FOR * 1000:
            assert self.under_test.run(self.broker.enqueue(QUEUE, jobs, token=token)) == answer, "I6"

    @rule(number=WORKERS, data=st.data(), want=WANT, again=st.booleans(), has_successors=st.booleans())
    def exchange_some(
        self, number: int, data: st.DataObject, want: int, again: bool, has_successors: bool
    ) -> None:
        worker = self.worker(number)
        back = self.draw_back(data, worker)
        self.exchange(worker, back, want, has_successors=has_successors)
        if again:  # I6: a repeated settlement is fenced
            settled = [Settlement(held.lease, action, delay) for held, action, delay in back]
            exchanged = self.under_test.run(worker.broker.exchange(QUEUE, settled, 0))
            assert list(exchanged.fenced) == [held.lease.id for held, _, _ in back]
            assert list(exchanged.leases) == []

    @rule(
        number=WORKERS,
        data=st.data(),
        want=WANT,
        unknown=st.sets(st.sampled_from(PLAIN + LIMITED)),
        wanted=st.sets(st.sampled_from(PLAIN + LIMITED)),
    )
    def exchange_without_some(
        self, number: int, data: st.DataObject, want: int, unknown: set[str], wanted: set[str]
    ) -> None:
        """Exchange as a worker to which some tasks are unknown, and which wants parked jobs of others."""
        worker = self.worker(number)
        parking = Parking(sorted(unknown), sorted(wanted - unknown))
        self.exchange(worker, self.draw_back(data, worker), want, parking)

    @rule(number=WORKERS)
    def sweep(self, number: int) -> None:
        self.look()
        [swept] = self.under_test.run(
            self.worker(number).broker.sweep([QUEUE], WorkerReport(f"worker-{number}"))
        )
        parked: dict[str, int] = {}
        for known in self.live.values():
            if known.is_parked:
                task, since = known.job.task, known.job.parked_at
                parked[task] = min(since, parked.get(task, since))
        assert {task: jobs.since for task, jobs in swept.parked.items()} == parked
        assert sum(jobs.count for jobs in swept.parked.values()) == sum(
            known.is_parked for known in self.live.values()
        )
        assert swept.is_something_to_run >= bool(self.runnable())

    @rule(number=WORKERS, data=st.data(), want=WANT)
    def sleep_and_work(self, number: int, data: st.DataObject, want: int) -> None:
        """A waiter is woken at once if a job is runnable."""
        worker = self.worker(number)
        woken = self.under_test.run(worker.broker.wait([QUEUE], 0.001))
        # No worker is woken when the moment of a moved job comes in line: the next sweep sees it.
        others = [known for known in self.queued() if not known.is_moved]
        assert woken == QUEUE or (woken is None and not self.runnable(others))
        if woken is not None:
            self.exchange(worker, self.draw_back(data, worker), want)
        if not self.runnable():  # consume a pending wake-up, so that the next one is for new work
            self.under_test.run(worker.broker.wait([QUEUE], 0.001))

    @rule(number=WORKERS, action=st.sampled_from(Action), want=WANT)
    def give_all_back(self, number: int, action: Action, want: int) -> None:
        worker = self.worker(number)
        back = [(held, action, 0.0) for held in worker.held if action in self.actions(held)]
        self.exchange(worker, back, want)

    @rule(number=WORKERS)
    def renew_some(self, number: int) -> None:
        self.renew(self.worker(number))

    @rule(number=WORKERS)
    def look_for_orphans(self, number: int) -> None:
        self.under_test.look_for_orphans(number)

    @rule(number=WORKERS)
    def tick_some(self, number: int) -> None:
        self.tick(self.worker(number))

    @rule(number=st.integers(1, 2))
    def die(self, number: int) -> None:
        self.workers[number].lives = False

    @precondition(lambda self: not all(worker.lives for worker in self.workers))
    @rule()
    def come_back(self) -> None:
        for worker in self.workers:
            worker.lives = True

    @rule(
        seconds=st.sampled_from([0.125, 1.0, 2.0, 4.0, 10.0, 12.0, 13.0, 14.0, 14.125, 60.0, 650.0, 1300.0]),
        renewing=st.booleans(),
        looking=st.booleans(),
        number=WORKERS,
    )
    def pass_time(self, seconds: float, renewing: bool, looking: bool, number: int) -> None:
        """Advance the time, and tick. Meanwhile live workers may renew their leases, and one may tick."""
        while (renewing or looking) and 2.0 < seconds <= 60:
            self.under_test.pass_time(2.0)
            seconds -= 2.0
            if renewing:
                for worker in self.workers:
                    if worker.lives:
                        self.renew(worker)
            if looking:
                self.tick(self.worker(number))
        self.under_test.pass_time(seconds)
        self.tick(self.worker(number))

    @precondition(lambda self: self.periodic)
    @rule(
        data=st.data(),
        off=st.sampled_from([0, 0, 0, 1, -1]),
        delay=DELAYS,
        with_job=st.booleans(),
        may_overlap=st.booleans(),
    )
    def fire(self, data: st.DataObject, off: int, delay: float, with_job: bool, may_overlap: bool) -> None:
        task = data.draw(st.sampled_from(sorted(self.periodic)))
        due = self.periodic[task] + off
        if due > self.now():
            return
        next_due = self.now() + int(delay * 1000) + 1
        job = Envelope(f"{task}@{due}", task, b"[[],{}]", due)
        given = job if with_job else None
        firing = Firing(task, due, next_due, given, may_overlap)
        fired = []
        is_skipped = with_job and not may_overlap and self.ticks.get(task) in self.live
        for broker in self.under_test.brokers:
            fired += self.under_test.run(broker.fire(QUEUE, [firing]))
        is_paused = with_job and self.is_paused(task)
        is_skipped = is_skipped and not is_paused
        first = Fired.OVERLAPPING if is_skipped else Fired.PAUSED if is_paused else Fired.MOVED
        first = Fired.TAKEN if off else first
        assert fired == [first, Fired.TAKEN, Fired.TAKEN], "I7: one job a tick"
        if off == 0:
            self.periodic[task] = next_due
            if with_job and not is_skipped and not is_paused:
                self.ticks[task] = job.id
                assert job.id not in self.fired
                self.fired.add(job.id)
                self.store(job)

    @rule(data=st.data())
    def cancel(self, data: st.DataObject) -> None:
        job_id = data.draw(st.sampled_from([*USER_IDS, *OWN_IDS, *self.live]))
        cancelled = self.under_test.run(asking.cancel(self.broker, QUEUE, job_id))
        known = self.live.get(job_id)
        if known is None:
            assert (cancelled.status, cancelled.job) == (JobStatus.NOT_SET, None)
            return
        assert cancelled.status is known.status
        assert cancelled.job is not None
        assert known.matches(cancelled.job)
        if known.status is JobStatus.RUNNING:
            known.cancel_wanted = True
            return
        if known.status is JobStatus.QUEUED:
            self.cancelled_in_queue[job_id] = known
        self.forget_cancelled(known)
        assert self.under_test.run(asking.cancel(self.broker, QUEUE, job_id)).status is JobStatus.NOT_SET

    @rule(name=PAUSABLE, delay=DELAYS, again=st.booleans())
    def pause(self, name: str, delay: float, again: bool) -> None:
        for _ in range(1 + again):
            until = self.now() + int(delay * 1000) if delay else 0
            self.under_test.run(asking.pause(self.broker, QUEUE, name, until=until))
            self.pause_task(name, until)

    @rule(name=PAUSABLE)
    def resume(self, name: str) -> None:
        was_paused = self.paused.pop(name, None) is not None
        assert self.under_test.run(asking.resume(self.broker, QUEUE, name)) is was_paused

    @precondition(lambda self: self.paused)
    @rule()
    def resume_all(self) -> None:
        for name in list(self.paused):
            self.resume(name)

    @rule(number=WORKERS, data=st.data(), want=WANT, delay=DELAYS)
    def pause_for_a_job(self, number: int, data: st.DataObject, want: int, delay: float) -> None:
        """A job asks for a pause of its task, and is tried again, or fails."""
        worker = self.worker(number)
        able = [held for held in worker.held if {Action.RETRY, Action.FAIL} & {*self.actions(held)}]
        if able:
            held = data.draw(st.sampled_from(able))
            action = Action.RETRY if Action.RETRY in self.actions(held) else Action.FAIL
            self.exchange(worker, [(held, action, delay)], want, is_pausing=True)

    @rule(data=st.data(), delay=DELAYS)
    def reschedule(self, data: st.DataObject, delay: float) -> None:
        job_id = data.draw(st.sampled_from([*OWN_IDS[:2], *self.live, *self.dead]))
        at = self.now() + int(delay * 1000)
        status = self.under_test.run(asking.reschedule(self.broker, QUEUE, job_id, at if delay else 0))
        known = self.live.get(job_id)
        if known is None:
            assert status is (JobStatus.FAILED if job_id in self.dead else JobStatus.NOT_SET)
            return
        assert status is known.status
        if status is JobStatus.WAITING:
            known.is_parked = False
            known.job = known.job.due_at(at, parked_at=0)
            self.put_off(known, at)
        elif status is JobStatus.QUEUED:
            if at > self.now() or known.job.at > self.now():
                known.job = known.job.due_at(at)
            known.is_moved = at > self.now()

    @rule(task=st.sampled_from(("", *PLAIN, *LIMITED)))
    def cancel_all(self, task: str) -> None:
        counts = self.under_test.run(asking.cancel_all(self.broker, QUEUE, task))
        chosen = [
            known
            for known in self.live.values()
            if known.status is not JobStatus.RUNNING and task in ("", known.job.task)
        ]
        assert sum(counts) == len(chosen)
        for known in chosen:
            if known.status is JobStatus.QUEUED:
                self.cancelled_in_queue[known.job.id] = known
            self.forget_cancelled(known)

    @precondition(lambda self: self.dead)
    @rule(task=st.sampled_from(("", *PLAIN, *LIMITED)), is_to_run=st.booleans())
    def steer_dead(self, task: str, is_to_run: bool) -> None:
        chosen = [job for job, _ in self.dead.values() if task in ("", job.task)]
        if is_to_run:
            chosen = [job for job in chosen if job.id not in self.live]
            cancelled = self.cancelled_in_queue
            if any(job.id in cancelled and cancelled[job.id].job.task != job.task for job in chosen):
                return  # one would wait in the position of a job of another task
        with_entry = {job.id for job in chosen if self.under_test.has_queue_entry(job.id)}
        results = self.under_test.run(asking.steer_dead(self.broker, QUEUE, is_to_run=is_to_run, task=task))
        assert sum(result.count for result in results) == len(chosen)
        for job in chosen:
            del self.dead[job.id]
            if is_to_run:
                fresh = job.due_at(0, retries=0, crashes=0, parked_at=0, error="")
                known = self.live[job.id] = Known(fresh, JobStatus.QUEUED, job.id in with_entry)
                self.append(known)
                self.take_over(known)
            else:
                self.discarded += 1

    @precondition(lambda self: self.dead)
    @rule(data=st.data())
    def enqueue_what_is_dead(self, data: st.DataObject) -> None:
        job_id = data.draw(st.sampled_from(sorted(self.dead)))
        if job_id not in USER_IDS:
            self.enqueue([(job_id, "plain", b"another", 1, 0.0, RESULT_TTL)], with_token=False)
            assert not self.under_test.run(asking.requeue(self.broker, QUEUE, job_id)), "its id is in use"

    @rule(data=st.data())
    def requeue(self, data: st.DataObject) -> None:
        job_id = data.draw(st.sampled_from([*OWN_IDS[:2], *self.dead]))
        cancelled = self.cancelled_in_queue.get(job_id)
        if job_id in self.dead and cancelled and cancelled.job.task != self.dead[job_id][0].task:
            return  # it would wait in the position of a job of another task
        had_queue_entry = self.under_test.has_queue_entry(job_id)
        requeued = self.under_test.run(asking.requeue(self.broker, QUEUE, job_id))
        if job_id not in self.dead or job_id in self.live:
            assert not requeued
        else:
            assert requeued
            job, _ = self.dead.pop(job_id)
            fresh = job.due_at(0, retries=0, crashes=0, parked_at=0, error="")
            known = self.live[job_id] = Known(fresh, JobStatus.QUEUED, had_queue_entry)
            self.append(known)
            self.take_over(known)
            assert not self.under_test.run(asking.requeue(self.broker, QUEUE, job_id))

    @precondition(lambda self: self.dead)
    @rule(data=st.data())
    def discard(self, data: st.DataObject) -> None:
        job_id = data.draw(st.sampled_from(sorted(self.dead)))
        for expected in (True, False):
            assert self.under_test.run(asking.discard(self.broker, QUEUE, job_id)) is expected
        del self.dead[job_id]
        self.discarded += 1

    def place_of(self, job_id: str) -> Place | None:
        """Where the job is; lanes count as the line."""
        known = self.live.get(job_id)
        if known is None:
            return Place.DEAD if job_id in self.dead else None
        if known.is_parked:
            return Place.PARKED
        of_status = {
            JobStatus.QUEUED: Place.READY,
            JobStatus.WAITING: Place.FUTURE,
            JobStatus.RUNNING: Place.LEASES,
        }
        return of_status[known.status]

    def page_of(self, place: Place, position: str, limit: int) -> PlacePage:
        """A page, whose jobs are what the model knows."""
        page = self.under_test.run(self.broker.look(QUEUE, LookPlace(place, position, limit, limit)))
        for seen in page.jobs:
            known = self.live.get(seen.job.id)
            if place is Place.DEAD:
                job, _ = self.dead[seen.job.id]
                known = Known(job, JobStatus.FAILED)
            assert known is not None, "no job is invented"
            assert known.status is seen.place.status
            assert known.matches(seen.job)
            if known.lease is not None and not known.is_judged:
                assert seen.lease is not None
                assert seen.lease.started > 0
        return page

    @rule(limit=st.integers(1, 4))
    def list_everything(self, limit: int) -> None:
        found: dict[Place, list[str]] = {}
        for place in Place:
            found[place] = []
            position: str | None = ""
            while position is not None:
                page = self.page_of(place, position, limit)
                found[place] += [seen.job.id for seen in page.jobs]
                assert len(found[place]) <= len(self.live) + len(self.dead), "no job is listed twice"
                position = page.position
        found[Place.READY] += found.pop(Place.LANES)
        for place, listed in found.items():
            known = [job_id for job_id in {**self.live, **self.dead} if self.is_in(job_id, place)]
            assert sorted(listed) == sorted(known), place

    def is_in(self, job_id: str, place: Place) -> bool:
        """A live job may have the id of a dead one."""
        is_dead = job_id in self.dead
        return is_dead if place is Place.DEAD else job_id in self.live and self.place_of(job_id) is place

    @rule(place=st.sampled_from(Place), limit=st.integers(1, 3))
    def list_a_page(self, place: Place, limit: int) -> None:
        """Go on with a listing, after all that has happened since its last page."""
        page = self.page_of(place, self.positions.get(place, ""), limit)
        if page.position is None:
            self.positions.pop(place, None)
        else:
            self.positions[place] = page.position

    @rule(data=st.data(), is_brief=st.booleans())
    def look_at_one(self, data: st.DataObject, is_brief: bool) -> None:
        job_id = data.draw(st.sampled_from([*USER_IDS, *OWN_IDS, *self.live]))
        facts = self.under_test.run(self.broker.look(QUEUE, LookJobFacts(job_id, is_brief)))
        place = self.place_of(job_id)
        if place is None:
            assert facts.seen is None
            return
        assert facts.seen is not None
        assert facts.seen.place.status is place.status
        known = self.live.get(job_id)
        if known is not None and not is_brief:
            assert facts.is_cancelled == known.cancel_wanted
            if known.status is JobStatus.QUEUED:
                assert facts.ahead is not None
                assert facts.ahead < len(self.queued())
            assert facts.limit == (self.limits.get(known.job.task) or 0)

    @precondition(lambda self: len(self.live) > 8)
    @rule()
    def flush(self) -> None:
        """Leases from before the flush remain with the workers."""
        for worker in self.workers:  # otherwise a worker that had registered limits would register them again
            self.under_test.run(worker.broker.flush(QUEUE))
        self.flushes += 1
        self.forget()
        self.under_test.forget_results()

    @precondition(lambda self: self.events.unread)
    @rule(count=st.integers(1, 30), number=WORKERS)
    def read_some_events(self, count: int, number: int) -> None:
        """A reader goes on from its cursor, and is cut again."""
        broker, count = self.workers[number].broker, min(count, self.events.unread)
        self.under_test.run(self.events.read(broker, count))

    # Invariants.

    @invariant()
    def every_job_is_in_one_place(self) -> None:
        """I1 and I2."""
        counts = self.under_test.run(asking.counts(self.broker, QUEUE))
        due = [known for known in self.live.values() if known.job.at <= self.now()]
        running = sum(known.status is JobStatus.RUNNING for known in self.live.values())
        waiting = sum(
            known.status is JobStatus.WAITING and not known.is_parked and known.job.at > self.now()
            for known in self.live.values()
        )
        parked = sum(known.is_parked for known in self.live.values())
        assert len(due) >= running
        ready = len(self.live) - running - waiting - parked
        names = {name for name, until in self.paused.items() if not until or until > self.now()}
        tasks, paused = tuple(sorted(names - {WHOLE_QUEUE})), WHOLE_QUEUE in names
        assert counts == Counts(ready, running, waiting, len(self.dead), parked, paused, tasks)
        ended = self.succeeded + self.cancelled + self.discarded + self.replaced
        assert self.stored == len(self.live) + len(self.dead) + ended, "I1"
        self.under_test.check(self.live, self.most)

    @invariant()
    def the_dead_are_kept_as_they_died(self) -> None:
        dead = self.under_test.run(asking.dead(self.broker, QUEUE))
        assert {one.job.id for one in dead} == set(self.dead)
        for one in dead:
            job, detail = self.dead[one.job.id]
            assert Known(job, JobStatus.FAILED).matches(one.job)
            assert one.detail == detail
        assert [one.died_at for one in dead] == sorted((one.died_at for one in dead), reverse=True)

    @invariant()
    def a_job_has_its_own_result(self) -> None:
        job_ids = sorted({*USER_IDS, *self.ends, *self.live, *self.dead})
        found = self.under_test.run(asking.results(self.broker, QUEUE, job_ids))
        for job_id, each in zip(job_ids, found, strict=True):
            known, end = self.live.get(job_id), self.ends.get(job_id)
            assert (each.live is not None) == (known is not None)
            if known is not None:
                assert each.live is not None
                assert created_of(each.live) == created_of(known.job)
            assert (each.dead is not None) == (job_id in self.dead)
            if each.dead is not None:
                assert each.dead.detail == b"why"
            left = 0 if end is None else end.ended_at + RESULT_TTL - self.now()
            if left > UNSURE:
                assert each.record == end
            else:
                assert each.record is None or (left > 0 and each.record == end)

    def teardown(self) -> None:
        try:
            self.drain()
        finally:
            self.under_test.close()

    def drain(self) -> None:
        """I9: in the end every job can be leased, and no data is left that affects new jobs."""
        self.under_test.run(self.broker.register(QUEUE, dict.fromkeys(LIMITED, 0), {}))
        self.limits = {}
        self.resume_all()
        last = Worker(self.broker)
        for seconds in (60, *[2] * 8, 60, *[2] * 8):  # until the rescue pause is over
            self.under_test.pass_time(seconds)
            self.tick(last)
            while True:
                back = [(held, Action.DONE, 0.0) for held in list(last.held)]
                self.exchange(last, back, 5, Parking(wanted=PLAIN + LIMITED))
                if not last.held:
                    break
        assert self.live == {}
        for worker in self.workers:  # settle the leases of zombies
            self.exchange(worker, [(held, Action.RELEASE, 0.0) for held in list(worker.held)], 5)
            assert worker.held == []
        self.every_job_is_in_one_place()
        self.under_test.run(self.events.read_all(self.broker))
        self.under_test.check_drained()
        again = [Envelope(job_id, "plain", b"") for job_id in OWN_IDS]
        assert self.under_test.run(self.broker.enqueue(QUEUE, again)) == [True] * len(again)


class MemoryPromises(Promises):
    make = MemoryUnderTest


CHAOS = os.environ.get("AIOSPINACH_CHAOS") == "1"
SETTINGS = settings(
    max_examples=400 if CHAOS else 100,
    stateful_step_count=60,
    deadline=None,
    database=None,
    print_blob=True,
    phases=[Phase.explicit, Phase.generate, Phase.target, Phase.shrink],
    suppress_health_check=list(HealthCheck),
)


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    """A server that no other test uses."""
    server = Server().start()
    yield server
    server.close()


@pytest.mark.large
def test_the_memory_broker_keeps_its_invariants() -> None:
    run_state_machine_as_test(MemoryPromises, settings=SETTINGS)


@pytest.mark.large
def test_the_redis_broker_keeps_its_invariants(server: Server) -> None:
    class RedisPromises(Promises):
        make = staticmethod(lambda: RedisUnderTest(server))

    run_state_machine_as_test(RedisPromises, settings=settings(SETTINGS, max_examples=60 if CHAOS else 15))

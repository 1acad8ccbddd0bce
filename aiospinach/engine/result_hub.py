"""The waits for results in one queue and event loop: they share a subscription and reads."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Collection, Sequence

from ..brokers.base import Broker
from ..brokers.records import DeadRecord, Envelope
from ..brokers.results import EndRecord, FoundJob, LookResults, channel_of, created_of, decode_record
from ..brokers.subscriptions import Message, Subscription
from ..exceptions import BrokerError, BrokerUnavailable
from ..logs import Log

logger: Log = Log("aiospinach")

READ_EVERY = 4.0
"""Seconds between two reads of all jobs: a lost message delays a result by little more."""
READ_WITHIN = 1.0
"""Seconds after which a read without an answer is made again."""
SUBSCRIBE_WITHIN = 1.0
"""Seconds that a first read waits for the subscription. It is made again when the subscription is there."""
PAUSE = 0.1
"""Seconds between a read that failed and the next."""
READ_AT_ONCE = 100
LISTEN_FOR = 60.0

End = EndRecord | DeadRecord | Envelope | None
"""The end of a job; None if nobody knows the job; an envelope if it lives, and its result is not kept."""


class Wait:
    """One wait for the end of a job. ``created`` is the moment when it was scheduled, if that is known."""

    __slots__ = ("created", "end", "is_read", "job_id", "read_until")

    def __init__(self, job_id: str, created: int | None, read_until: float) -> None:
        self.job_id: str = job_id
        self.created: int | None = created
        """An id may be used again. The first read sets it, so that the wait is for one job."""
        self.read_until: float = read_until
        """Until when the first read may take, by the clock of the loop."""
        self.is_read: bool = False
        """The job was seen alive."""
        self.end: asyncio.Future[End] = asyncio.get_running_loop().create_future()


class ResultHub:
    """Subscribes to the channels of the jobs, then reads the store, and then waits for messages.

    A message carries the end of its job; if it does not, the job is read. All jobs are read again after
    messages may have been lost, and every ``READ_EVERY`` seconds. A task runs while somebody waits.
    """

    def __init__(self, broker: Broker, queue: str, namespace: str) -> None:
        self._broker = broker
        self._queue = queue
        self._namespace = namespace
        self._loop = asyncio.get_running_loop()
        self._waits: dict[str, list[Wait]] = {}
        self._subscribed: set[str] = set()
        self._unread: dict[str, None] = {}
        """Jobs to be read, in their order."""
        self._left: list[str] = []
        """Jobs that nobody waits for any more."""
        self._news = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._adding: set[asyncio.Task[None]] = set()
        """Subscriptions to channels that the store has not confirmed."""
        self._is_failing = False
        """The last read had no answer."""

    def wait_for(self, job_id: str, created: int | None) -> Wait:
        """Begin a wait. The caller awaits ``end``, and always calls ``give_up``."""
        wait = Wait(job_id, created, self._loop.time() + self._broker.enqueue_timeout)
        self._waits.setdefault(job_id, []).append(wait)
        self._read_soon((job_id,))
        if self._task is None:
            self._task = self._loop.create_task(self._main())
        return wait

    def give_up(self, wait: Wait) -> None:
        """End a wait."""
        waits = self._waits.get(wait.job_id, [])
        if wait in waits:
            waits.remove(wait)
            if not waits:
                del self._waits[wait.job_id]
                self._left.append(wait.job_id)
                self._news.set()

    async def aclose(self) -> None:
        """End all waits: they raise BrokerUnavailable."""
        self._fail_all(BrokerUnavailable("the engine was left while the result of a job was awaited"))
        task = self._task
        if task is not None:
            task.cancel()
            await asyncio.wait([task])

    # Within.

    async def _main(self) -> None:
        try:
            async with self._broker.subscribe(self._queue) as subscription, asyncio.TaskGroup() as group:
                listening = group.create_task(self._listen(subscription))
                try:
                    await self._read_while_waited(subscription, group)
                finally:
                    for task in (listening, *self._adding):
                        task.cancel()
        except Exception as error:
            errors = error.exceptions if isinstance(error, ExceptionGroup) else (error,)
            self._fail_all(errors[0])
        finally:
            self._task = None
            self._subscribed.clear()
            self._left.clear()
            if self._waits and not self._loop.is_closed():  # guard: waits that came as it ended
                self._task = self._loop.create_task(self._main())

    async def _listen(self, subscription: Subscription) -> None:
        while True:
            message = await subscription.next(LISTEN_FOR)
            if message is None:
                self._read_soon(self._waits)  # guard: loss of the message of an end
            else:
                self._on_message(message)

    def _on_message(self, message: Message) -> None:
        job_id = message.channel.removeprefix(channel_of(""))
        record = decode_record(message.data)
        for wait in self._waits_for([job_id]):
            if record is not None and wait.is_read and record.created == wait.created:
                self._end(wait, record)
            else:  # it carries no end, or that of another job of this id, or comes before the first read
                self._read_soon((job_id,))  # guard: message before its read

    async def _read_while_waited(self, subscription: Subscription, group: asyncio.TaskGroup) -> None:
        """Read jobs when there is news, and all of them from time to time."""
        read_all_at = self._loop.time() + READ_EVERY
        while self._waits:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout_at(read_all_at):
                    await self._news.wait()
            self._news.clear()
            if self._loop.time() >= read_all_at:
                read_all_at = self._loop.time() + READ_EVERY
                self._read_soon(self._waits)  # guard: silent loss of a message
            await asyncio.sleep(0)  # so that waits that begin together are read together
            await self._subscribe(subscription, group)
            await self._read()

    async def _read(self) -> None:
        """Read all jobs that are subscribed to. Others came meanwhile, and are read when they are."""
        waited = [job_id for job_id in self._unread if job_id in self._waits]
        ready = [job_id for job_id in waited if job_id in self._subscribed]
        self._unread = dict.fromkeys(job_id for job_id in waited if job_id not in self._subscribed)
        first = 0
        while first < len(ready):
            some = [job_id for job_id in ready[first : first + READ_AT_ONCE] if job_id in self._waits]
            count = await self._look(some) if some else None
            if count == 0:
                self._read_soon(ready[first:])
                await asyncio.sleep(PAUSE)
                return
            # The answer ends early if the results are large.
            first = ready.index(some[count - 1], first) + 1 if count else first + READ_AT_ONCE

    async def _subscribe(self, subscription: Subscription, group: asyncio.TaskGroup) -> None:
        """Subscribe to the channels of new jobs, and end the subscription to those that nobody waits for."""
        left = [job_id for job_id in self._left if job_id not in self._waits and job_id in self._subscribed]
        self._left.clear()
        if left:
            self._subscribed.difference_update(left)
            await subscription.remove(list(map(channel_of, left)))
        new = [job_id for job_id in self._unread if job_id not in self._subscribed and job_id in self._waits]
        if new:
            self._subscribed.update(new)
            adding = group.create_task(self._add(subscription, new))
            self._adding.add(adding)
            adding.add_done_callback(self._adding.discard)
            await asyncio.wait([adding], timeout=SUBSCRIBE_WITHIN)
            if not adding.done():
                adding.add_done_callback(lambda _: self._read_soon(new))  # guard: late subscription

    async def _add(self, subscription: Subscription, job_ids: Collection[str]) -> None:
        try:
            await subscription.add(list(map(channel_of, job_ids)))
        except BrokerUnavailable:
            pass  # ``next`` returns None once it has subscribed, and reads find the results meanwhile
        except BrokerError as error:  # the store refuses
            self._subscribed.difference_update(job_ids)
            self._fail_all(error, job_ids)

    async def _look(self, job_ids: Sequence[str]) -> int:
        """Read these jobs. Returns how many were read; 0 if that has to be done again."""
        try:
            async with asyncio.timeout(READ_WITHIN):
                found = await self._broker.look(self._queue, LookResults(job_ids))
        except TimeoutError:
            self._on_failure(job_ids, BrokerUnavailable("the store did not answer in time"))
            return 0
        except BrokerUnavailable as error:
            self._on_failure(job_ids, error)
            return 0
        except BrokerError as error:  # the store refuses
            self._fail_all(error, job_ids)
            return len(job_ids)
        self._is_failing = False
        for job_id, each in zip(job_ids, found, strict=False):
            self._on_found(job_id, each)
        return len(found)

    def _on_found(self, job_id: str, found: FoundJob) -> None:
        for wait in self._waits_for([job_id]):
            state = found.of(wait.created)
            if isinstance(state, Envelope) and state.result_ttl:
                wait.created, wait.is_read = created_of(state), True
            else:
                self._end(wait, state)

    def _on_failure(self, job_ids: Sequence[str], error: BrokerUnavailable) -> None:
        """The store does not answer: waits that were never read fail in time, and the others go on."""
        now = self._loop.time()
        for wait in self._waits_for(job_ids):
            if not wait.is_read and now >= wait.read_until:
                self._fail(wait, error)
        if not self._is_failing and self._waits:
            self._is_failing = True
            logger.warning(
                "queue %s: results cannot be read, and those that wait for them go on: %s",
                self._queue,
                error,
                fields={"namespace": self._namespace, "queue": self._queue},
            )

    def _read_soon(self, job_ids: Collection[str]) -> None:
        self._unread.update(dict.fromkeys(job_ids))
        self._news.set()

    def _end(self, wait: Wait, end: End) -> None:
        self.give_up(wait)
        if not wait.end.done():
            wait.end.set_result(end)

    def _fail(self, wait: Wait, error: BaseException) -> None:
        self.give_up(wait)
        if not wait.end.done():
            wait.end.set_exception(error)
            wait.end.exception()  # the caller may read only the first error: asyncio would log the others

    def _fail_all(self, error: BaseException, job_ids: Collection[str] | None = None) -> None:
        """End all waits, or those for some jobs, with an error."""
        for wait in self._waits_for(self._waits if job_ids is None else job_ids):
            self._fail(wait, error)

    def _waits_for(self, job_ids: Collection[str]) -> list[Wait]:
        """The waits for these jobs, in a list that stays as it is when some of them end."""
        return [wait for job_id in job_ids for wait in self._waits.get(job_id, ())]

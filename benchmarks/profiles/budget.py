"""How many microseconds each part of a no-op job takes: ``python -m benchmarks.profiles.budget``.

Each part runs alone, again and again, and the least of several runs counts. Figures are CPU of this process,
and the statistics of a server about its calls and about the commands in the script of an exchange. The whole
stands beside the sum of the parts. No part explains the difference: the steps between parts, the garbage
collector, colder caches.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import math
import time
import timeit
from collections.abc import Awaitable, Callable, Iterator, Sequence
from typing import Any, NamedTuple

import hiredis
import redis.asyncio

from aiospinach import Batch, Broker, Engine, Job, MemoryBroker, RedisBroker, Task, signals
from aiospinach.brokers.records import NO_PARKING, Envelope, ExchangeResult, Lease, Settlement
from aiospinach.brokers.redis import schema, scripts
from aiospinach.brokers.redis.settlements import encode_settlements
from aiospinach.engine import request
from aiospinach.engine.request import new_ids
from aiospinach.job import JobStatus, running_job
from aiospinach.outcome import SUCCESS
from aiospinach.signals.receivers import share_context
from aiospinach.workers.outbox import Settler
from aiospinach.workers.run import Run
from benchmarks.ledger import send
from benchmarks.program import BATCH, run
from benchmarks.report import table
from benchmarks.server import Server, find_binary

NUMBER, JOBS, CALLS, REPEATS = 32, 20_000, 10_000, 7
BODY, SUFFIX = b"[[12345],{}]", f":{'5' * 32}.1000"
Call = Callable[[], Awaitable[object]]


class Part(NamedTuple):
    """Microseconds of CPU per job, with each broker; 0: there is no such part."""

    title: str
    memory: float
    redis: float


class Served(NamedTuple):
    """Microseconds that a server needs for a call: for the command, and in total of CPU."""

    title: str
    jobs: int
    command: float
    cpu: float

    @property
    def all_microseconds(self) -> tuple[float, float, float, float]:
        return self.command, self.cpu, self.command / self.jobs, self.cpu / self.jobs


class Stage(NamedTuple):
    """Microseconds of the server in an exchange, and how often it runs this command there."""

    title: str
    calls: float
    microseconds: float


class Empty(Run):
    """A run that ends at its first step."""

    __slots__ = ()

    async def _main(self) -> None:
        pass


def best(part: Callable[[], object], *, jobs: int = 1) -> float:
    """Microseconds per job of a call that is for so many jobs."""
    took = min(timeit.repeat(part, number=CALLS // jobs, repeat=REPEATS, timer=time.process_time))
    return took / (CALLS // jobs * jobs) * 1e6


async def best_awaited(part: Call, *, jobs: int = 1) -> float:
    """The same for a function that is awaited."""
    took = []
    for _ in range(REPEATS):
        began = time.process_time()
        for _ in range(CALLS // jobs):
            await part()
        took.append(time.process_time() - began)
    return min(took) / (CALLS // jobs * jobs) * 1e6


def engine_on(broker: Broker) -> tuple[Engine, Task[[int], Any]]:
    engine = Engine(broker, "bench")

    @engine.task(name="job")
    async def job(n: int) -> None:
        pass

    return engine, job


def envelopes(count: int) -> list[Envelope]:
    return [Envelope(job_id, "job", BODY, 1_700_000_000_000) for job_id in new_ids(count)]


def batch_of(task: Task[[int], Any]) -> Batch:
    batch = Batch()
    for n in range(BATCH):
        batch.schedule(task, n)
    return batch


def exchanging(broker: Broker) -> Call:
    """An exchange, which settles what the one before it leased."""
    leases: Sequence[Lease] = ()

    async def exchange() -> None:
        nonlocal leases
        settled = [Settlement(lease, SUCCESS.action) for lease in leases]
        leases = (await broker.exchange("default", settled, NUMBER)).leases

    return exchange


async def exchanges(broker: RedisBroker) -> list[Part]:
    """The costs of settling 32 jobs and leasing 32."""
    memory, state, reader = MemoryBroker(), broker._queue("default"), hiredis.Reader()
    await memory.enqueue("default", envelopes(CALLS * REPEATS))
    stored = [part for job in envelopes(NUMBER) for part in (job.id.encode(), schema.encode(job))]
    answer = b"*6\r\n:1\r\n*0\r\n*0\r\n" + hiredis.pack_command(tuple[Any](stored)) + b":0\r\n:1\r\n"

    def parse() -> None:
        reader.feed(answer)
        reader.gets()

    def read() -> list[Lease]:
        return schema.decode_leased(stored, SUFFIX, 0.0)

    def arguments() -> list[Any]:
        part = encode_settlements(settled, state.keys)
        return state.exchange_arguments(part, NUMBER, broker.lease, NO_PARKING, broker.events)

    settled = [Settlement(lease, SUCCESS.action) for lease in read()]
    keys = state.keys.of(scripts.EXCHANGE)
    command = ("EVALSHA", scripts.EXCHANGE.sha, len(keys), *keys, *arguments())
    trip = await best_awaited(lambda: broker.exchange("default", [], 0), jobs=NUMBER)
    return [
        Part("the MemoryBroker's exchange", await best_awaited(exchanging(memory), jobs=NUMBER), 0),
        Part("a trip: an exchange of nothing", 0, trip),
        Part("arguments of the exchange", 0, best(arguments, jobs=NUMBER)),
        Part("pack them", 0, best(lambda: hiredis.pack_command(command), jobs=NUMBER)),
        Part("parse the answer", 0, best(parse, jobs=NUMBER)),
        Part("read envelopes, records of the leases", 0, best(read, jobs=NUMBER)),
    ]


async def runs() -> list[Part]:
    """The costs of a job in a worker, from its lease to the broker's answer."""
    engine, task = engine_on(MemoryBroker())
    await engine.start_workers(NUMBER, block=False)
    pool = engine._workers.pool
    assert pool is not None
    state, consumer = pool.state, pool.consumers[0]
    outbox, lease = consumer._outbox, Lease("5" * 32 + SUFFIX, envelopes(1)[0], math.inf)

    async def nothing() -> None:
        pass

    async def stepped(make: Callable[[], object]) -> None:
        _made = [make() for _ in range(NUMBER)]
        await asyncio.sleep(0)

    def bare() -> object:
        return asyncio.Task(nothing(), loop=pool.loop, context=state.context.copy())

    def send() -> bool:
        return not signals.job_started.receivers and not signals.job_finished.receivers

    def share() -> None:
        share_context(one.task, one.context)

    def conclude() -> None:
        for ended in some:
            ended.holds_slot = True
            pool.runs._runs[ended] = ended
            pool.slots.start()
            pool.runs.body_ended(ended)
        outbox._sent = sent
        outbox.on_answer(nothing_new)

    floor = await best_awaited(lambda: stepped(bare), jobs=NUMBER)
    made = await best_awaited(lambda: stepped(lambda: Empty(pool.runs, state, outbox, lease)), jobs=NUMBER)
    other, *some = (Empty(pool.runs, state, outbox, lease) for _ in range(NUMBER + 1))
    for each in some:
        each.is_settled = True
    one, nothing_new = some[0], ExchangeResult([], [])
    job = one._snapshot(JobStatus.RUNNING, (1,), {})
    costs = {
        "a task in a copy of the context, and its step": floor,
        "records of the run and its body": made - floor,
        "share the context with receivers": best(share),
        "decode the arguments": best(lambda: task._arguments.decode(BODY)),
        "the Job that people see": best(lambda: running_job.set(one._snapshot(JobStatus.RUNNING, (1,), {}))),
        "two signals without a receiver": best(send),
        "call the body": await best_awaited(lambda: one.body.run(job)),
        "record of the settlement": best(lambda: outbox.settle(Settlement(lease, SUCCESS.action), one)),
    }
    outbox._waiting.clear()
    sent: list[tuple[Settlement, Settler | None]] = [
        (Settlement(lease, SUCCESS.action), each) for each in some
    ]
    pool.runs._runs[other] = other  # as while other jobs run, and more may be in the queue
    consumer._join_turns()
    costs["count slots, hear the broker's answer"] = best(conclude, jobs=NUMBER)
    pool.runs.ended(other)
    await engine.stop_workers()
    return [Part(title, cost, cost) for title, cost in costs.items()]


async def batches() -> list[Part]:
    """The costs of a job of a batch of 1,000 in the process that schedules."""
    _, task = engine_on(MemoryBroker())
    jobs = envelopes(BATCH)

    def make() -> Job:
        made = request.request_of("5" * 32, 1, task, None, (12345,), {}, BODY)
        return made.as_job("bench", is_new=True)

    written = tuple(schema.encode_rows(jobs))
    encode = best(lambda: task._arguments.encode((12345,), {}))
    add = best(lambda: batch_of(task), jobs=BATCH) - encode
    ids = best(lambda: new_ids(BATCH), jobs=BATCH)
    made = best(make)
    store = await best_awaited(lambda: MemoryBroker().enqueue("default", jobs), jobs=BATCH)
    return [
        Part("encode the arguments, with proof", encode, encode),
        Part("add them to the batch", add, add),
        Part("ids", ids, ids),
        Part("Envelope and Job", made, made),
        Part("the MemoryBroker's enqueue", store, 0),
        Part(
            "write envelopes, arguments of the script", 0, best(lambda: schema.encode_rows(jobs), jobs=BATCH)
        ),
        Part("pack them", 0, best(lambda: hiredis.pack_command(written), jobs=BATCH)),
    ]


async def whole(broker: Broker) -> tuple[float, float]:
    """The costs of a whole drain, and of scheduling in batches of 1,000."""
    engine, task = engine_on(broker)
    drained, scheduled = [], []
    async with engine:
        for _ in range(REPEATS):
            began = time.process_time()
            for _ in range(JOBS // BATCH):
                await engine.schedule_batch(batch_of(task))
            stored = time.process_time()
            await engine.start_workers(NUMBER, stop_when_queue_empty=True)
            scheduled.append(stored - began)
            drained.append(time.process_time() - stored)
    return min(drained) / JOBS * 1e6, min(scheduled) / JOBS * 1e6


async def served(broker: RedisBroker, url: str) -> tuple[list[Served], list[Stage]]:
    """The costs of each kind of call in a server, and of the parts of the script of an exchange."""
    plain: Any = redis.asyncio.Redis.from_url(url)
    calls: list[tuple[str, str, int, Call]] = [
        ("`PING`", "ping", 1, lambda: plain.execute_command("PING")),
        ("`TIME`", "time", 1, lambda: plain.execute_command("TIME")),
        ("`enqueue`, 1 job", "evalsha", 1, lambda: broker.enqueue("default", envelopes(1))),
        ("`enqueue`, 1,000 jobs", "evalsha", BATCH, lambda: broker.enqueue("default", envelopes(BATCH))),
        ("`exchange`, settles 32, leases 32", "evalsha", NUMBER, exchanging(broker)),
    ]
    found: list[Served] = []
    with redis.Redis.from_url(url) as client:
        for title, name, jobs, call in calls:
            watches = await watched(client, call, count=max(20, 2_000 // jobs))
            command = min(stats[name].microseconds for stats, _ in watches)
            found.append(Served(title, jobs, command, min(cpu for _, cpu in watches)))
    await plain.aclose()
    exchange, cpu = min(watches, key=lambda watch: watch[0]["evalsha"].microseconds)  # they came last
    return found, within(exchange, cpu)


def within(exchange: dict[str, Stage], cpu: float) -> list[Stage]:
    """The commands in the script of an exchange, and the rest: Lua and the call itself."""
    script, inner = exchange.pop("evalsha"), sorted(exchange.values(), key=lambda s: -s.microseconds)
    lua = script.microseconds - sum(stage.microseconds for stage in inner)
    return [
        *inner,
        Stage("the script itself, with calling these", 1, lua),
        Stage("around the script: read the call, write the answer", 1, cpu - script.microseconds),
        Stage("**sum**", 1, cpu),
    ]


async def watched(client: redis.Redis, call: Call, *, count: int) -> list[tuple[dict[str, Stage], float]]:
    """The microseconds of each command in a call, and of CPU, by the server's own statistics."""
    await call()  # loads the script
    found = []
    for _ in range(REPEATS):
        client.config_resetstat()
        before: Any = client.info("cpu")
        for _ in range(count):
            await call()
        after: Any = client.info("cpu")
        stats: Any = client.info("commandstats")
        cpu = sum(after[kind] - before[kind] for kind in ("used_cpu_user", "used_cpu_sys"))
        commands = {
            name: Stage(f"`{name.upper()}`", each["calls"] / count, each["usec"] / count)
            for key, each in stats.items()
            if (name := key.removeprefix("cmdstat_")) not in ("info", "config|resetstat")
        }
        found.append((commands, cpu / count * 1e6))
    return found


def summed(title: str, parts: Sequence[Part], memory: float, redis_: float) -> list[Part]:
    """The parts, their sum, the whole, and the difference."""
    sums = sum(part.memory for part in parts), sum(part.redis for part in parts)
    return [
        *parts,
        Part("**sum of the parts**", *sums),
        Part(f"**measured: {title}**", memory, redis_),
        Part("not explained by the parts", memory - sums[0], redis_ - sums[1]),
    ]


def tables_of(
    drain: Sequence[Part], schedule: Sequence[Part], server: Sequence[Served], exchange: Sequence[Stage]
) -> Iterator[str]:
    for title, parts in (("worker", drain), ("scheduling", schedule)):
        rows = [[part.title, *(f"{us:.2f}" if us else "-" for us in part[1:])] for part in parts]
        yield from table([f"{title}, CPU us per job", "MemoryBroker", "RedisBroker"], rows)
    titles = ["server", "us of the command", "us of CPU", "command us per job", "CPU us per job"]
    calls = [
        [call.title, *(f"{us:.{1 if us > 10 else 2}f}" for us in call.all_microseconds)] for call in server
    ]
    yield from table(titles, calls)
    stages = [[title, f"{count:.2f}", f"{us:.1f}", f"{us / NUMBER:.2f}"] for title, count, us in exchange]
    yield from table(["`exchange` in the server", "calls", "us", "us per job"], stages)


async def measure(url: str, *, as_json: bool) -> None:
    broker = RedisBroker(url)
    await broker.open("parts")  # a namespace of its own, whose leases are not waited for
    drain, schedule = [*await exchanges(broker), *await runs()], await batches()
    server, exchange = await served(broker, url)
    await broker.aclose()
    of_memory, of_redis = await whole(MemoryBroker()), await whole(RedisBroker(url))
    drain = summed("a whole drain", drain, of_memory[0], of_redis[0])
    schedule = summed("scheduling", schedule, of_memory[1], of_redis[1])
    if as_json:
        tables: dict[str, Sequence[Part | Served | Stage]] = {
            "worker": drain,
            "scheduling": schedule,
            "server": server,
            "exchange": exchange,
        }
        send({name: [part._asdict() for part in parts] for name, parts in tables.items()})
    else:
        print(*tables_of(drain, schedule, server, exchange), sep="\n")


def main() -> None:
    logging.disable(logging.CRITICAL)
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--json", action="store_true", help="print one line of JSON")
    parser.add_argument("--asyncio", action="store_true", help="run in asyncio's own loop, not in uvloop")
    arguments = parser.parse_args()
    with Server(find_binary()) as server:
        run(measure(server.url, as_json=arguments.json), uvloop=not arguments.asyncio)


if __name__ == "__main__":
    main()

"""Call plain and async functions when something happens to jobs.

    python examples/signals.py

prints these lines for each of two orders. The lines of the two may mix, since they are shipped together:

    [trace-1] shipping order 1
    [trace-1] mail: order 1 is on its way
    [trace-1] ship succeeded: parcel 1
"""

import asyncio
from contextvars import ContextVar
from typing import Any

from aiospinach import Engine, Job, MemoryBroker, signals

engine = Engine(MemoryBroker(), namespace="shop")
order_shipped = signals.SafeNamedSignal("order_shipped")  # an application's own signal
trace: ContextVar[str] = ContextVar("trace", default="no trace")


@engine.task
async def ship(order: int) -> str:
    print(f"[{trace.get()}] shipping order {order}")
    await order_shipped.send_async(engine.namespace, order=order)
    return f"parcel {order}"


@signals.job_started.connect_via(engine.namespace)
async def begin_trace(namespace: str, job: Job, **kwargs: Any) -> None:
    await asyncio.sleep(0.01)  # as if a tracing service were asked
    trace.set(f"trace-{job.args[0]}")  # this job sees the value, and no other job does


@signals.job_finished.connect_via(engine.namespace)
def report(namespace: str, job: Job, err: BaseException | None, result: Any, **kwargs: Any) -> None:
    print(f"[{trace.get()}] {job.task_name} {job.status.value}: {err or result}")


@order_shipped.connect
async def send_mail(namespace: str, order: int, **kwargs: Any) -> None:
    print(f"[{trace.get()}] mail: order {order} is on its way")


async def main() -> None:
    for order in (1, 2):
        await ship.schedule(order)
    await engine.start_workers(stop_when_queue_empty=True)


if __name__ == "__main__":
    asyncio.run(main())

"""Asks the worker of a running job where its body is."""

from __future__ import annotations

import asyncio
import secrets

import msgspec

from ..brokers.base import Broker
from ..brokers.orders import ORDERS, reply_channel, stack_order
from ..exceptions import BrokerError

ANSWER_WITHIN = 2.0


async def stack_of(
    broker: Broker, queue: str, job_id: str, timeout: float = ANSWER_WITHIN
) -> list[str] | None:
    """Return a line ``file:line function`` for each frame of the body of a running job, the outermost first.

    The list is empty if the body has not begun, has ended, or waits for a thread. Returns None without an
    answer within ``timeout`` seconds: no worker runs the job, its event loop is blocked, or messages do not
    arrive.
    """
    token = secrets.token_hex(8)
    try:
        async with asyncio.timeout(timeout), broker.subscribe(queue) as subscription:
            await subscription.add([reply_channel(token)])
            answer = None
            while answer is None:  # again after a loss
                await broker.publish(queue, ORDERS, stack_order(job_id, token))
                answer = await subscription.next(timeout)
            return [msgspec.json.decode(line, type=str) for line in answer.data.splitlines()]
    except (BrokerError, TimeoutError):
        return None

"""Orders: messages of a queue to the workers that run its jobs, and the channel of their answers."""

from __future__ import annotations

ORDERS = "orders"
"""The channel of a queue that its workers subscribe to. Workers ignore orders that they do not know."""
CANCEL = "cancel"
STACK = "stack"


def cancel_order(job_id: str) -> bytes:
    """The order to end the body of a job that was cancelled while it ran. A script sends the same."""
    return f"{CANCEL} {job_id}".encode()


def stack_order(job_id: str, token: str) -> bytes:
    """The order to send the stack of the body of a job to ``reply_channel(token)``."""
    return f"{STACK} {job_id} {token}".encode()


def reply_channel(token: str) -> str:
    """The channel of the answer to an order."""
    return f"reply:{token}"


def words_of(order: bytes) -> list[str]:
    """The words of an order. Ids of jobs and tokens have no spaces."""
    return order.decode(errors="replace").split(" ")

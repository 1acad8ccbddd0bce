"""Answers the probes of HTTP: a few paths, and one request a connection."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from http import HTTPStatus

import msgspec

from .address import Address
from .exits import Refused

HEAD_AT_MOST = 8192
READ_WITHIN = 5.0
"""Seconds in which a request has to arrive, and its answer to leave."""
JSON = "application/json"


class Answer(msgspec.Struct, frozen=True):
    """The answer to a probe."""

    status: int
    body: bytes
    kind: str = JSON


PATHS = ("/live", "/ready", "/metrics")
NOT_FOUND = Answer(404, b'{"error":"this server has /live, /ready and /metrics"}')
BAD_REQUEST = Answer(400, b'{"error":"this is no request of HTTP, or a long one"}')
NOT_ALLOWED = Answer(405, b'{"error":"a probe is a GET"}')

AnswerPath = Callable[[str], Awaitable[Answer]]


@contextlib.asynccontextmanager
async def probes_at(address: Address | None, answer: AnswerPath) -> AsyncIterator[None]:
    """Answer probes at an address while entered; without one, do nothing. Raises Refused if it is in use."""
    if address is None:
        yield
        return

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, TimeoutError):
            try:
                async with asyncio.timeout(READ_WITHIN):
                    await _serve(reader, writer, answer)
            finally:
                writer.close()
                await writer.wait_closed()

    try:
        server = await asyncio.start_server(serve, address.host, address.port, limit=HEAD_AT_MOST)
    except OSError as error:
        raise Refused(f"--health cannot listen at {address}: {error.strerror or error}") from error
    try:
        yield
    finally:
        server.close()


async def _serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, answer: AnswerPath) -> None:
    try:
        head = await reader.readuntil(b"\r\n\r\n")
        method, target, version = head.split(b"\r\n", 1)[0].decode("ascii").split(" ")
    except (ValueError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
        method, target, version = "", "", ""
    path = target.partition("?")[0]
    if not version.startswith("HTTP/1."):
        found = BAD_REQUEST
    elif method not in ("GET", "HEAD"):
        found = NOT_ALLOWED
    else:
        found = await answer(path) if path in PATHS else NOT_FOUND
    head_lines = (
        f"HTTP/1.1 {found.status} {HTTPStatus(found.status).phrase}",
        f"Content-Type: {found.kind}",
        f"Content-Length: {len(found.body)}",
        "Cache-Control: no-store",
        "Connection: close",
    )
    writer.write("\r\n".join((*head_lines, "", "")).encode())
    if method != "HEAD":
        writer.write(found.body)
    await writer.drain()

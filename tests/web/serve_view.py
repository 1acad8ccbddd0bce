"""Serves a view with uvicorn, as a process of its own: ``python -m tests.web.serve_view PORT``."""

from __future__ import annotations

import sys

import uvicorn

from aiospinach import Engine, MemoryBroker
from aiospinach.contrib.web import Access, web_view

engine = Engine(MemoryBroker(events=100))


@engine.task(name="send")
async def send() -> None: ...


if __name__ == "__main__":
    app = web_view(engine, access=lambda request: Access.READ)
    uvicorn.run(app, host="127.0.0.1", port=int(sys.argv[1]), log_level="info")

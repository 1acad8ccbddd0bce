"""A server process for the tests of web applications."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import httpx

from ..waiting import until

ROOT = Path(__file__).parent.parent.parent
_RUNNING = re.compile(r"Uvicorn running on (http://127\.0\.0\.1:\d+)")


class Server:
    """uvicorn on a free port of the loopback; it stops with the ``async with`` block."""

    def __init__(self, app: str, folder: Path, *arguments: str, **environment: str) -> None:
        self._log = folder / "server.log"
        self._http: httpx.Client | None = None
        command = [sys.executable, "-m", "uvicorn", app, "--host=127.0.0.1", "--port=0", "--no-use-colors"]
        with self._log.open("wb") as log:
            self.process = subprocess.Popen(
                [*command, *arguments],
                cwd=ROOT,
                env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
            )

    @property
    def log(self) -> str:
        return self._log.read_text()

    @property
    def has_ended(self) -> bool:
        return self.process.poll() is not None

    async def __aenter__(self) -> Self:
        try:
            await until(
                lambda: self.has_ended or _RUNNING.search(self.log),
                "the server logs its port",
                timeout=30,
                show=lambda: self.log,
            )
            found = _RUNNING.search(self.log)
            assert found is not None, self.log
            # A connection for each request, so that every process of a server gets some.
            limits = httpx.Limits(max_keepalive_connections=0)
            self._http = httpx.Client(base_url=found[1], trust_env=False, timeout=20, limits=limits)
            # With several processes the port is bound and logged before the first of them listens.
            await until(self.listens, "the server answers", timeout=30, show=lambda: self.log)
        except BaseException:
            await self._end()
            raise
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self._end()

    def request(
        self, method: str, path: str, json: Any = None, headers: dict[str, str] | None = None
    ) -> httpx.Response:
        assert self._http is not None
        return self._http.request(method, path, json=json, headers=headers)

    def listens(self) -> bool:
        try:
            self.request("GET", "/")
        except httpx.TransportError:
            return False
        return True

    def terminate(self) -> None:
        self.process.send_signal(signal.SIGTERM)

    async def ended(self) -> int:
        """Wait until the process ends, and return its exit status."""
        await until(lambda: self.has_ended, "the server ends", timeout=30, show=lambda: self.log)
        return self.process.wait()

    async def _end(self) -> None:
        if self._http is not None:
            self._http.close()
        if not self.has_ended:
            self.terminate()
            try:
                await self.ended()
            except AssertionError:
                self.process.kill()
                self.process.wait()
                raise

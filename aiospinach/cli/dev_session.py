"""What the command ``dev`` runs: a process with the program, and a server if the program needs one."""

from __future__ import annotations

import asyncio
import signal
import socket

import msgspec

from .dev_process import DevShare
from .exits import WELL, Refused, exit_code_of
from .own_server import OwnServer
from .process import python
from .reloading import reload_on_changes
from .store import Kind, Store
from .supervisor import Supervisor
from .target import URL_VARIABLE, split_name

MEMORY = (
    "jobs: in the memory of this process, and gone with a reload; RedisBroker() keeps them, and shares them"
    " with other programs"
)
SCHEDULE = "schedule: on the page Schedule of the view"


class DevSession:
    """The life of one ``dev`` command."""

    def __init__(self, share: DevShare, listening: socket.socket, server: OwnServer | None) -> None:
        self._share = share
        self._listening = listening
        self._server = server
        """None if the environment names a store."""
        self._shown: Store | None = None
        self._serving = asyncio.Lock()
        self._starts: set[asyncio.Task[None]] = set()
        self._has_hung_up = False
        command = python("aiospinach.cli.dev_process", msgspec.json.encode(share).decode())
        self._supervisor = Supervisor(
            command, 1, waits_for_changes=True, on_word=self._on_word, pass_fds=[share.listening]
        )

    async def run(self) -> int:
        """Run until a signal. Returns the exit code."""
        host, port = self._listening.getsockname()
        print(f"{self._share.engine} runs, and starts anew when a Python file changes; Ctrl-C ends it")
        print(f"view: http://{host}:{port}/", flush=True)
        if signal.getsignal(signal.SIGHUP) is signal.SIG_DFL:  # nohup ignores it
            asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, self._on_hangup)
        watching = asyncio.create_task(reload_on_changes(self._supervisor))
        try:
            return await self._supervisor.run()
        finally:
            await asyncio.wait([watching, *self._starts])
            if self._server is not None:
                await self._server.stop()

    def _on_hangup(self) -> None:
        """The terminal was closed. A shell reports it as well as the kernel: that cancels no running jobs."""
        if not self._has_hung_up:
            self._has_hung_up = True
            self._supervisor.fail(WELL)

    def _on_word(self, word: bytes) -> None:
        """The process reports where its jobs are, and waits for an answer from there."""
        store = msgspec.json.decode(word, type=Store)
        if store.kind is Kind.UNNAMED and self._server is not None:
            task = asyncio.create_task(self._have_server(self._server, store))
            self._starts.add(task)
            task.add_done_callback(self._starts.discard)
        else:
            self._show(store, None)

    async def _have_server(self, server: OwnServer, store: Store) -> None:
        async with self._serving:
            if not server.is_there:
                try:
                    await server.start()
                except Refused as error:
                    self._supervisor.fail(exit_code_of(error, debug=self._share.debug))
                    return
        self._show(store, server)

    def _show(self, store: Store, server: OwnServer | None) -> None:
        """Print where the jobs are, and how to schedule some, unless that was printed."""
        if store == self._shown:
            return
        self._shown = store
        lines = [MEMORY, SCHEDULE] if store.kind is Kind.MEMORY else self._lines_of(store, server)
        print("\n".join(lines), flush=True)

    def _lines_of(self, store: Store, server: OwnServer | None) -> list[str]:
        module, path = split_name(self._share.engine)
        code = f"import {module}; {module}.{path}.blocking.schedule('TASK', ARGUMENTS)"
        lines = [f"jobs: {store.place}", f'{SCHEDULE}, or anywhere: python -c "{code}"']
        if server is not None and server.is_running:
            lines[0] += f", a server of dev with its data in {server.folder}"
        if server is not None and not server.is_usual:
            lines.append(f"other programs find this server with {URL_VARIABLE}={store.place}")
        return lines

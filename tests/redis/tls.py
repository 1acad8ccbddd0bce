"""TLS in front of a real server: certificates issued for a test, and a proxy that uses them."""

from __future__ import annotations

import asyncio
import ssl
from pathlib import Path

import trustme

from .proxy import Proxy


class Authority:
    """A CA for one test and its certificates; its files are written to ``folder``."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(exist_ok=True)
        self._ca = trustme.CA()
        self._folder = folder
        self.ca_certs = folder / "ca.pem"
        self._ca.cert_pem.write_to_path(str(self.ca_certs))

    def server(self, *hosts: str, asks_clients: bool = False) -> ssl.SSLContext:
        """The context of a server at these hosts, which may accept only clients of this CA."""
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        self._ca.issue_cert(*hosts).configure_cert(context)
        if asks_clients:
            context.verify_mode = ssl.CERT_REQUIRED
            self._ca.configure_trust(context)
        return context

    def client(self) -> tuple[Path, Path]:
        """The files with a client's certificate and key."""
        issued = self._ca.issue_cert("client@test.invalid")
        files = self._folder / "client.pem", self._folder / "client.key"
        issued.cert_chain_pems[0].write_to_path(str(files[0]))
        issued.private_key_pem.write_to_path(str(files[1]))
        return files


class TLSProxy(Proxy):
    """Terminates TLS in front of a server without TLS, with all faults of Proxy."""

    def __init__(self, port: int, context: ssl.SSLContext) -> None:
        super().__init__(port)
        self._context = context

    @property
    def url(self) -> str:
        return f"rediss://127.0.0.1:{self.port}/0"

    async def accept(self) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port, ssl=self._context)
        self.port = self._server.sockets[0].getsockname()[1]

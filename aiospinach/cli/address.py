"""The address at which probes are answered."""

from __future__ import annotations

from typing import NamedTuple

from .exits import WrongUsage


class Address(NamedTuple):
    """A host and a port."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def address_of(text: str) -> Address:
    """Return the address in a text such as 127.0.0.1:8081 or [::1]:8081. Raises WrongUsage."""
    host, colon, port = text.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    if not (colon and host and port.isascii() and port.isdigit() and int(port) < 65536):
        raise WrongUsage(f"--health takes HOST:PORT, such as 127.0.0.1:8081, and not {text!r}")
    return Address(host, int(port))

"""Which requests come from the pages of the view itself, and not from another site."""

from __future__ import annotations

from collections.abc import Collection
from urllib.parse import urlsplit

from starlette.requests import Request

DEFAULT_PORTS = {"http": 80, "https": 443}


def is_same_origin(request: Request, origins: Collection[str]) -> bool:
    """Whether a page of this view, or of one of these other origins, sent the request.

    A browser says so in ``Sec-Fetch-Site``, on https and on localhost. Elsewhere the ``Origin`` must name the
    host that the request was sent to. A request without both is refused.
    """
    origin = request.headers.get("origin", "")
    if origin in origins:
        return True
    site = request.headers.get("sec-fetch-site")
    if site is not None:
        return site == "same-origin"
    return _host_of(origin) == _host_of(f"{request.url.scheme}://{request.headers.get('host', '')}")


def _host_of(url: str) -> tuple[str, int | None] | object:
    """The host and the port of a URL; an object that equals no other if the URL has none."""
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port or DEFAULT_PORTS.get(parts.scheme)
    except ValueError:
        return object()
    return (host, port) if host else object()

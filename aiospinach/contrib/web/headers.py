"""Headers of each response: what browsers may do with the pages of the view."""

from __future__ import annotations

from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

POLICY = "; ".join(
    (
        "default-src 'self'",
        "base-uri 'none'",
        "form-action 'self'",
        "frame-ancestors 'none'",
        "object-src 'none'",
    )
)
"""Scripts and styles come from the view's own files. No page may be shown in a frame of another."""
KEPT_FOR = 365 * 24 * 3600
"""Seconds for which a browser keeps a file whose URL has the version of its content."""


class SecureHeaders:
    """Adds the headers to all responses of an application."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        is_versioned = scope.get("query_string", b"").startswith(b"v=") and "/static/" in scope["path"]

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers["Content-Security-Policy"] = POLICY
                headers["X-Content-Type-Options"] = "nosniff"
                headers["X-Frame-Options"] = "DENY"
                headers["Referrer-Policy"] = "no-referrer"
                headers["Cross-Origin-Opener-Policy"] = "same-origin"
                is_kept = is_versioned and message["status"] in (200, 304)
                kept = f"public, max-age={KEPT_FOR}, immutable" if is_kept else "no-store"
                headers["Cache-Control"] = kept
            await send(message)

        await self._app(scope, receive, send_with_headers)

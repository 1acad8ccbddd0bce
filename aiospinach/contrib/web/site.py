"""What all requests of one web view share, and what is known of one request."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from urllib.parse import parse_qs

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from aiospinach import Engine, InvalidValue, Job
from aiospinach.views import OverviewReader

from .access import Access, AccessCheck
from .group_cache import GroupCache

Show = Callable[[Job], Mapping[str, object]]
"""Returns what may be shown of the arguments of a job, as text by name."""

LARGEST_FORM = 1024 * 1024
"""Bytes of a form at most; the arguments of a job have a quarter of it."""
MOST_FIELDS = 1000


class Site(msgspec.Struct, frozen=True, kw_only=True):
    """A web view: its engine, and what its owner has decided."""

    engine: Engine
    access: AccessCheck
    show: Show | None
    title: str
    schedulable: Collection[str] | None
    """The tasks that the form may schedule; None: all attached ones."""
    origins: Collection[str]
    reader: OverviewReader
    groups: GroupCache


class Visit(msgspec.Struct, frozen=True):
    """One request that was let in."""

    site: Site
    request: Request
    access: Access

    @property
    def engine(self) -> Engine:
        return self.site.engine

    def may(self, access: Access) -> bool:
        """Whether the request may do this."""
        return access in self.access

    def query(self, name: str) -> str:
        """A word of the URL's query; empty if it is not there."""
        return self.request.query_params.get(name, "")

    async def form(self) -> Form:
        """The fields of the form that was sent. Raises InvalidValue if it is too large or no form."""
        body = b""
        async for chunk in self.request.stream():
            body += chunk
            if len(body) > LARGEST_FORM:
                raise InvalidValue(f"a form has at most {LARGEST_FORM:,} bytes")
        try:
            text = body.decode()
            return Form(parse_qs(text, keep_blank_values=True, max_num_fields=MOST_FIELDS, errors="strict"))
        except ValueError:
            raise InvalidValue("the form cannot be read: it must be URL-encoded UTF-8") from None


class Form:
    """The fields of a form, by name."""

    def __init__(self, fields: Mapping[str, Sequence[str]]) -> None:
        self.fields = fields

    def __contains__(self, name: str) -> bool:
        return name in self.fields

    def one(self, name: str) -> str:
        """The first value of a field; empty if there is none."""
        return self.fields.get(name, [""])[0]

    def all(self, name: str) -> Sequence[str]:
        """All values of a field."""
        return self.fields.get(name, [])


Handler = Callable[[Visit], Awaitable[Response]]

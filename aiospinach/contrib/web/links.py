"""Links within the view: all are relative, and all pages lie side by side, so they hold under any prefix."""

from __future__ import annotations

import re
from collections.abc import Mapping
from urllib.parse import parse_qsl, quote, urlencode

PAGES = ("", "queue", "job", "dead", "periodic", "workers", "events", "schedule")
"""The paths of the pages that a visitor may return to."""
_PAGE = re.compile(rf"(?:\./|(?:{'|'.join(filter(None, PAGES))}))(?:\?[!-~]*)?")
LONGEST = 4000
"""Characters of a link at most: names and cursors are shorter."""


def link(page: str, /, **query: object) -> str:
    """A relative link to a page, without the parts of the query that are empty."""
    return _with_query(
        page or "./", {name: str(value) for name, value in query.items() if value not in (None, "")}
    )


def is_link(text: str) -> bool:
    """Whether the text is a link to a page of the view, as ``link`` returns it."""
    return len(text) <= LONGEST and _PAGE.fullmatch(text) is not None


def link_with(text: str, **query: object) -> str:
    """The link with these words in its query, and without earlier ones of the same names. Empty ones are left
    out."""
    page, _, words = text.partition("?")
    kept = {name: value for name, value in parse_qsl(words) if name not in query}
    return _with_query(
        page, kept | {name: str(value) for name, value in query.items() if value not in (None, "")}
    )


def _with_query(page: str, query: Mapping[str, str]) -> str:
    return f"{page}?{urlencode(query, quote_via=quote, errors='replace')}" if query else page

"""Makes pages of templates."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path

import jinja2
import msgspec
from markupsafe import Markup
from starlette.responses import HTMLResponse

from aiospinach import Cron, Progress
from aiospinach.views import age, moment, number, progress_text, rate, short_number

from .access import Access
from .links import is_link, link, link_with
from .notes import note_of
from .site import Visit
from .sparkline import sparkline

FOLDER = Path(__file__).parent
STATIC = FOLDER / "static"
REFRESHED_EVERY = 5
"""Seconds between two readings of a page that is open."""


class Frame(msgspec.Struct, frozen=True, kw_only=True):
    """What the frame of each page shows: its title, its navigation and a note."""

    title: str
    namespace: str
    page: str
    """The path of the page."""
    url: str
    """The relative link to this page, without a note."""
    note: str | None
    may: Access
    version: str
    """Of the files in ``static``."""
    keeps_events: bool
    changes: str
    """The relative link to the stream that reports changes of this page; empty if there is none."""
    every: int = REFRESHED_EVERY


def render(
    visit: Visit,
    template: str,
    page: msgspec.Struct,
    *,
    status: int = 200,
    scope: Mapping[str, str] | None = None,
) -> HTMLResponse:
    """The response with a page. ``scope`` chooses the events that change the page, as ``Engine.events`` takes
    them; None: no event does."""
    path = visit.request.url.path.rpartition("/")[2]
    query = {
        name: value for name, value in visit.request.query_params.items() if name not in ("done", "count")
    }
    url = link(path, **query)
    frame = Frame(
        title=visit.site.title,
        namespace=visit.engine.namespace,
        page=path,
        url=url if is_link(url) else link(path),
        note=note_of(visit.query("done"), visit.query("count")),
        may=visit.access,
        version=VERSION,
        keeps_events=visit.engine.keeps_events,
        changes=link("changes", **scope) if scope is not None and visit.engine.keeps_events else "",
    )
    return HTMLResponse(_environment.get_template(template).render(page=page, frame=frame), status)


def render_bare(template: str, page: msgspec.Struct, *, status: int, headers: dict[str, str]) -> HTMLResponse:
    """The response with a page that shows nothing of the engine."""
    text = _environment.get_template(template).render(page=page, frame=None, version=VERSION)
    return HTMLResponse(text, status, headers)


def compile_templates() -> None:
    """Read all templates now, so that no request waits for it."""
    for name in _environment.list_templates():
        _environment.get_template(name)


def _time(at: datetime | None, *, is_short: bool = False) -> Markup:
    """A moment, which the script shows in the zone of the visitor. A short one of today has no date."""
    if at is None:
        return NONE
    utc = at.astimezone(UTC)
    is_today = utc.date() == datetime.now(UTC).date()
    text = f"{utc:%H:%M:%S} UTC" if is_short and is_today else moment(at)
    return Markup('<time datetime="{}" title="{}"{}>{}</time>').format(
        f"{utc:%Y-%m-%dT%H:%M:%SZ}", moment(at), Markup(" data-short") if is_short else "", text
    )


def _ago(at: datetime | None) -> Markup:
    """How long ago a moment was, or when it will be."""
    if at is None:
        return NONE
    seconds = (datetime.now(UTC) - at).total_seconds()
    text = f"{age(seconds)} ago" if seconds >= 0 else f"in {age(-seconds)}"
    return Markup('<time datetime="{}" title="{}" data-kept>{}</time>').format(
        f"{at.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}", moment(at), text
    )


def _duration(seconds: float) -> str:
    """How long a body took."""
    milliseconds = seconds * 1000
    if milliseconds >= 1000:
        return age(seconds)
    return f"{milliseconds:.1f} ms" if 0.05 <= milliseconds < 9.95 else f"{milliseconds:.0f} ms"


def _calendar(periodicity: timedelta | Cron | None) -> str:
    """When a periodic task is due, in words."""
    if isinstance(periodicity, timedelta):
        return f"every {age(periodicity.total_seconds())}"
    if isinstance(periodicity, Cron):
        return (
            periodicity.expression
            if periodicity.tz == "UTC"
            else f"{periodicity.expression} {periodicity.tz}"
        )
    return "of another program"


def _progress(progress: Progress) -> str:
    """How far a job has come, with its share on one line."""
    return progress_text(progress).replace(" %)", "\N{NO-BREAK SPACE}%)")


def _short_class(name: str | None) -> str:
    """The name of a class without its module."""
    return (name or "").rpartition(".")[2]


def _version() -> str:
    """A digest of all files in ``static``."""
    digest = hashlib.blake2b(digest_size=6)
    for path in sorted(STATIC.iterdir()):
        digest.update(path.read_bytes())
    return digest.hexdigest()


NONE = Markup('<span class="none">&ndash;</span>')
VERSION = _version()
_environment = jinja2.Environment(
    loader=jinja2.FileSystemLoader(FOLDER / "templates"),
    autoescape=True,
    undefined=jinja2.StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)
_environment.globals.update(Access=Access, link=link, link_with=link_with, sparkline=sparkline)
_environment.filters.update(
    age=age,
    ago=_ago,
    calendar=_calendar,
    duration=_duration,
    moment=moment,
    number=number,
    progress=_progress,
    rate=rate,
    short=short_number,
    short_class=_short_class,
    time=_time,
)

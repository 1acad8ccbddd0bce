"""Pages for requests that are not answered: no access, nothing found, bad input, a store that is away."""

from __future__ import annotations

import msgspec
from starlette.responses import HTMLResponse

from aiospinach import AiospinachError

from .rendering import render, render_bare
from .site import Visit

RETRY_AFTER = 5
"""Seconds after which a visitor may come again, if the store is away."""
LONGEST_TEXT = 500


class Trouble(msgspec.Struct, frozen=True, kw_only=True):
    """Why a request is not answered."""

    title: str
    text: str
    retry: bool = False


NO_ACCESS = Trouble(title="No access", text="Your login does not give you the right to see this page.")
NOT_ALLOWED = Trouble(title="Not allowed", text="You may look, and you may not do this. Nothing was changed.")
FORGED = Trouble(
    title="Refused",
    text="This request did not come from a page of this view. Nothing was changed. Open the view, and do it"
    " there.",
)
AWAY = Trouble(
    title="The store does not answer",
    text="Jobs are stored in Redis or Valkey, which cannot be reached, or has refused a question. Workers try"
    " again by themselves, and so does this page.",
    retry=True,
)


UNCERTAIN = Trouble(
    title="The store does not answer",
    text="It is not known whether this was done: jobs are stored in Redis or Valkey, which cannot be reached,"
    " or has refused it. Go back, look, and try again.",
)


def refuse(trouble: Trouble) -> HTMLResponse:
    """A response 403 that shows nothing of the engine."""
    return render_bare("bare.html", trouble, status=403, headers={})


def not_allowed(visit: Visit) -> HTMLResponse:
    """A response 403 to a visitor who may read."""
    return render(visit, "trouble.html", NOT_ALLOWED, status=403)


def away(visit: Visit) -> HTMLResponse:
    """A response 503: the store does not answer."""
    trouble = AWAY if visit.request.method == "GET" else UNCERTAIN
    response = render(visit, "trouble.html", trouble, status=503)
    response.headers["Retry-After"] = str(RETRY_AFTER)
    return response


def bad_request(visit: Visit, error: AiospinachError, *, status: int) -> HTMLResponse:
    """A response to bad input, or to a name that nobody knows."""
    title = "Not found" if status == 404 else "This does not work"
    text = str(error)
    text = f"{text[:1].upper()}{text[1:]}"
    text = text if len(text) <= LONGEST_TEXT else f"{text[:LONGEST_TEXT]} …"
    return render(visit, "trouble.html", Trouble(title=title, text=text), status=status)

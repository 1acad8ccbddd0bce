"""Lets requests in, and turns errors into pages: each page and each action of the view goes through here."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from starlette.requests import Request
from starlette.responses import Response

from aiospinach import BrokerError, InvalidValue, UnknownQueue, UnknownTask

from .access import Access, access_of
from .origin import is_same_origin
from .site import Handler, Site, Visit
from .trouble import FORGED, NO_ACCESS, away, bad_request, not_allowed, refuse


def endpoint(site: Site, needs: Access, handler: Handler) -> Callable[[Request], Awaitable[Response]]:
    """An endpoint that calls the handler for requests that may do what it needs."""

    async def answer(request: Request) -> Response:
        if request.method == "POST" and not is_same_origin(request, site.origins):
            return refuse(FORGED)
        access = await access_of(site.access, request)
        if Access.READ not in access:
            return refuse(NO_ACCESS)
        visit = Visit(site, request, access)
        if needs not in access:
            return not_allowed(visit)
        return await _answer(visit, handler)

    return answer


async def _answer(visit: Visit, handler: Handler) -> Response:
    try:
        return await handler(visit)
    except BrokerError:
        return away(visit)
    except (UnknownQueue, UnknownTask) as error:
        return bad_request(visit, error, status=404)
    except InvalidValue as error:
        return bad_request(visit, error, status=400)

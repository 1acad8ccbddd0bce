"""The view of a developer: every right and all arguments, for requests to this machine alone."""

from __future__ import annotations

import httpx
import pytest

from aiospinach.contrib.web.local import local_view

from .conftest import CANARY, OWN, Shop
from .test_access import FORMS, state_of


def client_for(shop: Shop, host: str, **headers: str) -> httpx.AsyncClient:
    """A client whose requests name this host."""
    transport = httpx.ASGITransport(local_view(shop.engine, title="shop:engine"))
    return httpx.AsyncClient(
        transport=transport, base_url="http://127.0.0.1:8765", headers={"Host": host, **headers}
    )


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:8765", "localhost.evil.example", "192.0.2.1", ""]
)
async def test_a_page_whose_name_leads_to_this_machine_cannot_act(shop: Shop, host: str) -> None:
    before = await state_of(shop.engine)
    async with client_for(shop, host, Origin=f"http://{host}", **OWN) as client:
        for name, (_, form) in FORMS.items():
            response = await client.post(name, data=form)
            assert response.status_code == 400, name
        response = await client.get("job?id=held")
    assert response.status_code == 400
    assert CANARY not in response.text
    assert await state_of(shop.engine) == before
    assert not shop.ran


@pytest.mark.parametrize("host", ["localhost:8765", "127.0.0.1"])
async def test_this_machine_may_do_everything_and_sees_the_arguments(shop: Shop, host: str) -> None:
    async with client_for(shop, host, **OWN) as client:
        page = await client.get("job?id=held")
        assert "secret" in page.text
        assert CANARY in page.text
        for name, (_, form) in FORMS.items():
            response = await client.post(name, data=form)
            assert response.status_code not in (400, 403), name

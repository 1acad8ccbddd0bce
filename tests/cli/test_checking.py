"""The commands check and top."""

from __future__ import annotations

import sys
import types

import msgspec
import pytest

from aiospinach import Engine, Finding

from ..brokers_under_test import shared_server
from .conftest import CommandLine


async def test_damage_is_printed_and_is_not_well(
    cli: CommandLine, engine: Engine, store: list[str], namespace: str
) -> None:
    await engine.schedule("send", "ann")
    code, out, err = await cli("check", *store)
    assert (code, out, err) == (0, "all fits together in queue mail\n", "")
    with shared_server().client() as plain:
        plain.lpush(f"ais2:{{{namespace}:mail}}:ready", "nobody\x1b[2J")
    code, out, _ = await cli("check", *store)
    assert code == 1
    assert out == "queue mail: job nobody\\x1b[2J is in a line or has a lease, and is not stored\n"
    code, out, _ = await cli("check", *store, "--json")
    assert code == 1
    [finding] = msgspec.json.decode(out, type=list[Finding])
    assert (finding.queue, finding.kind) == ("mail", "no job")
    assert (await cli("check", *store, "--queue", "mail")).code == 1


async def test_top_without_its_extra_names_it(
    cli: CommandLine, store: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "aiospinach.top", None)
    code, out, err = await cli("top", *store)
    assert (code, out) == (2, "")
    assert "pip install 'aiospinach[top]'" in err


async def test_top_shows_the_engine_on_a_terminal_only(
    cli: CommandLine, engine: Engine, store: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    shown: list[tuple[str, float]] = []

    def run_top(engine: Engine, *, interval: float) -> None:
        shown.append((engine.namespace, interval))

    view = types.SimpleNamespace(run_top=run_top)
    monkeypatch.setitem(sys.modules, "aiospinach.top", view)
    code, _, err = await cli("top", *store)
    assert (code, shown) == (2, [])
    assert "needs a terminal" in err
    monkeypatch.setattr("aiospinach.cli.watching.is_on_terminal", lambda: True)
    assert (await cli("top", *store, "--interval", "0.5")).code == 0
    assert shown == [(engine.namespace, 0.5)]
    assert (await cli("top", "--url", "redis://127.0.0.1:1/0")).code == 3

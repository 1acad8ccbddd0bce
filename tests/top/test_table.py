"""Tables in any width, with any text."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len

from aiospinach.top.cell import Cell, cell, cut
from aiospinach.top.table import Column, Row, Table

from .samples import HOSTILE
from .screens import plain

COLUMNS = (
    Column("queue", 6, 20),
    Column("ready", 5, is_right=True),
    Column("hour", 4, 12, rank=1, grows=1),
    Column("host", 4, rank=2),
)


def table(*names: str) -> Table:
    return Table(
        COLUMNS, [Row(name, (cell(name), Cell("1,234"), Cell("ab"), cell("web-1"))) for name in names]
    )


def drawn(width: int, *names: str) -> list[str]:
    lines = table(*names).lay_out(width)
    return plain([lines.header, *lines.rows])


def test_columns_are_as_wide_as_their_texts_and_one_takes_the_rest() -> None:
    assert drawn(40, "mail", "webhooks") == [
        "queue     ready  hour          host",
        "mail      1,234  ab            web-1",
        "webhooks  1,234  ab            web-1",
    ]


def test_a_narrow_table_leaves_out_the_columns_of_the_highest_rank() -> None:
    assert drawn(22, "mail")[0].split() == ["queue", "ready", "hour"]
    assert drawn(14, "mail") == ["queue  ready", "mail   1,234"]
    assert drawn(6, "mail")[0].split() == ["queue", "ready"], "columns without a rank always stay"


def test_a_long_text_is_cut_with_an_ellipsis() -> None:
    assert drawn(20, "a-queue-with-a-long-name")[1] == "a-queu…  1,234  ab"


@pytest.mark.parametrize("width", [20, 40, 80])
@given(names=st.lists(st.text(max_size=30), max_size=3))
def test_every_line_has_the_width_whatever_the_names_are(width: int, names: list[str]) -> None:
    lines = table(*names).lay_out(width)
    assert {line.cell_length for line in [lines.header, *lines.rows]} <= {lines.header.cell_length}
    assert lines.header.cell_length <= width
    assert not any(char < " " or char == "\x7f" for line in lines.rows for char in line.plain)


def test_hostile_text_is_shown_as_escapes() -> None:
    assert cell(HOSTILE).text == r"\x1b[31mred\x1b[0m\n\u202egnp \ud800"


@given(st.text(), st.integers(0, 30))
def test_a_cut_text_has_room_in_its_width(text: str, width: int) -> None:
    shown = cell(text).text
    assert cell_len(cut(shown, width)) <= width
    if cell_len(shown) <= width:
        assert cut(shown, width) == shown


def test_wide_letters_count_twice() -> None:
    assert cut("価格更新", 8) == "価格更新"
    assert cut("価格更新", 7) == "価格更…"
    assert cut("価格更新", 6) == "価格…"
    assert cut("mail", 0) == ""

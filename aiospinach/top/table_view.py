"""The widget that shows a table, and keeps the highlight on its row while the rows change."""

from __future__ import annotations

from typing import ClassVar

from textual.app import ComposeResult
from textual.containers import Vertical
from textual.content import Content
from textual.widgets import OptionList, Static
from textual.widgets.option_list import Option

from .table import Table


class TableView(Vertical):
    """A header and rows. Enter on a row sends OptionList.OptionSelected."""

    DEFAULT_CSS: ClassVar[str] = """
    TableView {
        height: 1fr;
        padding: 0 1;
    }
    TableView > .header {
        height: 1;
        text-wrap: nowrap;
    }
    TableView > .hint {
        height: auto;
        padding: 1 0;
        color: $foreground 60%;
    }
    TableView > OptionList, TableView > OptionList:focus {
        height: 1fr;
        border: none;
        padding: 0;
        background: $background;
        background-tint: $background 0%;
        scrollbar-size-vertical: 1;
        scrollbar-gutter: stable;
        text-wrap: nowrap;
        text-overflow: ellipsis;
    }
    TableView > OptionList > .option-list--option {
        padding: 0;
    }
    TableView > OptionList > .option-list--option-highlighted,
    TableView > OptionList:focus > .option-list--option-highlighted {
        color: $foreground;
        background: $primary 35%;
        text-style: none;
    }
    """

    def __init__(self) -> None:
        super().__init__()
        self._header = Static(classes="header")
        self._hint = Static(classes="hint")
        self._list = OptionList()
        self._table: Table | None = None
        self._hint_text = ""
        self._keys: list[str] = []
        self._lines: list[Content] = []

    def compose(self) -> ComposeResult:
        yield self._header
        yield self._hint
        yield self._list

    def on_resize(self) -> None:
        """The terminal has another width."""
        if self._table is not None:
            self.show(self._table, self._hint_text)

    @property
    def highlighted(self) -> str | None:
        """The key of the highlighted row; None if there are no rows."""
        place = self._list.highlighted
        return self._keys[place] if place is not None and place < len(self._keys) else None

    @property
    def room(self) -> int:
        """How many rows are seen at once."""
        return max(1, self._list.size.height)

    def show(self, table: Table, hint: str = "") -> None:
        """Show a table, or a hint if it has no rows. The highlight stays on the row of its key, or else at
        its place."""
        self._table, self._hint_text = table, hint
        self._hint.display = bool(hint)
        self._hint.update(Content(hint))
        self._header.display = bool(table.rows)
        header, lines = table.lay_out(max(1, self._list.scrollable_content_region.width))
        keys = [row.key for row in table.rows]
        self._header.update(header)
        if keys == self._keys:
            for place, line in enumerate(lines):
                if not line.is_same(self._lines[place]):
                    self._list.replace_option_prompt_at_index(place, line)
        else:
            self._replace(keys, [Option(line) for line in lines])
        self._keys, self._lines = keys, list(lines)

    def _replace(self, keys: list[str], options: list[Option]) -> None:
        before, place, top = self.highlighted, self._list.highlighted or 0, self._list.scroll_offset.y
        self._list.set_options(options)
        if not keys:
            return
        self._list.scroll_to(y=top, animate=False)
        self._list.highlighted = keys.index(before) if before in keys else min(place, len(keys) - 1)

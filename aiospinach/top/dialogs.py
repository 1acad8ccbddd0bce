"""Questions to the user, over the screen that asks."""

from __future__ import annotations

from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import BindingType
from textual.containers import Vertical
from textual.content import Content
from textual.screen import ModalScreen
from textual.widgets import Input, Static

from aiospinach import InvalidValue
from aiospinach.views import printable

from .cell import BAD, MUTED, STRONG
from .filters import HELP, Filter, parse_filter

BOX = """
    align: center middle;
    & > Vertical {
        width: 76;
        max-width: 95%;
        height: auto;
        max-height: 90%;
        padding: 1 2;
        border: round $warning;
        background: $surface;
    }
    & Static {
        height: auto;
    }
    & Input, & Input:focus {
        border: none;
        height: 1;
        padding: 0 1;
        margin: 1 0;
        background: $boost;
    }
"""


class Confirm(ModalScreen[bool]):
    """Asks whether to do what cannot be undone. Only ``y`` does it."""

    DEFAULT_CSS: ClassVar[str] = f"Confirm {{{BOX}}}"
    BINDINGS: ClassVar[list[BindingType]] = [
        ("y", "answer(True)", "Yes"),
        ("n,escape,q", "answer(False)", "No"),
    ]

    def __init__(self, question: str) -> None:
        super().__init__()
        self._question = question

    def compose(self) -> ComposeResult:
        with Vertical():
            yield Static(
                Content.assemble(
                    (printable(self._question), STRONG),
                    ("\nThis cannot be undone.\n\n", MUTED),
                    ("y", STRONG),
                    "  do it     ",
                    ("n", STRONG),
                    "  leave it as it is",
                )
            )

    def action_answer(self, is_sure: bool) -> None:
        """The user has answered."""
        self.dismiss(is_sure)


class AskText(ModalScreen[str | None]):
    """Asks for a line of text; None if the user leaves with escape."""

    DEFAULT_CSS: ClassVar[str] = f"AskText {{{BOX}}}"
    BINDINGS: ClassVar[list[BindingType]] = [("escape", "leave", "Back")]

    def __init__(self, question: str, help_text: str, text: str = "") -> None:
        super().__init__()
        self._question = question
        self._help = Static(Content.styled(help_text, MUTED))
        self._input = Input(text, compact=True)

    def compose(self) -> ComposeResult:
        with Vertical():
            yield Static(Content.styled(printable(self._question), STRONG))
            yield self._input
            yield self._help

    def on_mount(self) -> None:
        """Typing begins at once."""
        self._input.focus()

    def on_input_submitted(self, event: Input.Submitted) -> None:
        """The user has pressed enter."""
        event.stop()
        self.answer(event.value)

    def answer(self, text: str) -> None:
        """Leave with the text."""
        self.dismiss(text)

    def refuse(self, why: str) -> None:
        """Say why the text cannot be taken, and let the user change it."""
        self._help.update(Content.styled(printable(why), BAD))

    def action_leave(self) -> None:
        """Leave without a text."""
        self.dismiss(None)


class AskFilter(AskText):
    """Asks which jobs to show, until the filter can be read."""

    def __init__(self, before: Filter) -> None:
        super().__init__("Show only jobs with", HELP, str(before))

    def answer(self, text: str) -> None:
        try:
            parse_filter(text)
        except InvalidValue as error:
            self.refuse(str(error))
        else:
            self.dismiss(text)

"""Text of strangers, made fit for a view."""

from __future__ import annotations

import unicodedata

_HARMFUL = frozenset(("Cc", "Cf", "Cs", "Zl", "Zp", "Cn", "Co"))
"""Categories of characters that a terminal obeys, that turn the direction of the text around them, or that
have no width that all terminals agree on."""


def printable(text: str) -> str:
    """Return the text in one line, with characters that would steer a terminal, or turn the direction of the
    text around them, as escapes: a newline is ``\\n``, and an escape character ``\\x1b``.

    Letters of all scripts stay. Text that is fit for a view is returned as it is.
    """
    if text.isascii() and text.isprintable():
        return text
    return "".join(_escaped(char) if unicodedata.category(char) in _HARMFUL else char for char in text)


def _escaped(char: str) -> str:
    return char.encode("unicode_escape").decode("ascii")

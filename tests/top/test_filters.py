"""What is typed after ``/``."""

from __future__ import annotations

import pytest

from aiospinach import InvalidValue
from aiospinach.top.filters import Filter, parse_filter


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", Filter()),
        ("  ", Filter()),
        ("send", Filter(task="send")),
        ("task=send key=ann", Filter(task="send", key="ann")),
        ("error=KeyError  send", Filter(task="send", error="KeyError")),
        ("id=a=b", Filter(id="a=b")),
    ],
)
def test_a_filter_is_words(text: str, words: Filter) -> None:
    assert parse_filter(text) == words
    assert parse_filter(str(words)) == words


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("colour=red", "'colour=red': it takes task, id, key and error"),
        ("send task=send", "task twice"),
        ("key=", "key= without a value"),
        ("id=1 key=ann", "give it alone"),
    ],
)
def test_a_filter_that_cannot_be_read_is_explained(text: str, why: str) -> None:
    with pytest.raises(InvalidValue, match=why):
        parse_filter(text)


def test_only_searches_are_slow() -> None:
    assert [words.is_slow for words in (Filter(), Filter(id="a"), Filter(task="send"))] == [
        False,
        False,
        True,
    ]

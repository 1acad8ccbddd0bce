"""What is typed after ``/``: which jobs to show."""

from __future__ import annotations

from typing import NamedTuple

from aiospinach import InvalidValue

NAMES = ("task", "id", "key", "error")
HELP = "task=send  id=order-17  key=customer-7  error=KeyError   A word alone is a task."


class Filter(NamedTuple):
    """Which jobs of a queue are shown. An empty word lets all through."""

    task: str = ""
    id: str = ""
    key: str = ""
    error: str = ""

    def __str__(self) -> str:
        return " ".join(f"{name}={value}" for name, value in zip(NAMES, self, strict=True) if value)

    @property
    def is_slow(self) -> bool:
        """The store looks at many jobs to find those to show."""
        return bool(self.task or self.key or self.error)


def parse_filter(text: str) -> Filter:
    """Return the filter that a text describes. Raises InvalidValue, which names the word it is about."""
    words: dict[str, str] = {}
    for word in text.split():
        name, equals, value = word.partition("=")
        if not equals:
            name, value = "task", word
        if name not in NAMES:
            raise InvalidValue(f"the filter has {word!r}: it takes {', '.join(NAMES[:-1])} and {NAMES[-1]}")
        if name in words:
            raise InvalidValue(f"the filter has {name} twice: give it once")
        if not value:
            raise InvalidValue(f"the filter has {name}= without a value")
        words[name] = value
    if "id" in words and len(words) > 1:
        raise InvalidValue("the filter has an id and other words: an id names one job, so give it alone")
    return Filter(**words)

"""The cursor of a page of jobs: where the next page begins, as text that may travel in a URL."""

from __future__ import annotations

import base64
import binascii
import hashlib
from typing import NamedTuple

from ..brokers.places import Place
from ..exceptions import InvalidValue

DIGEST = 12


class Cursor(NamedTuple):
    """A position in one place of one queue."""

    queue: str
    place: Place
    position: str = ""
    """Empty: the beginning."""

    def encode(self, listing: str) -> str:
        """Return the cursor as text, for this listing alone."""
        words = f"{self.queue} {self.place.value} {self.position}".encode(errors="surrogateescape")
        sealed = _digest(words, listing) + words
        return base64.urlsafe_b64encode(sealed).rstrip(b"=").decode()


def decode_cursor(text: object, listing: str) -> Cursor:
    """Return the cursor that ``encode`` made a text of, for the same listing. Raises InvalidValue."""
    if not isinstance(text, str):
        raise InvalidValue(f"after= takes the cursor of a page, not {type(text).__name__}")
    try:
        sealed = base64.b64decode(text.encode("ascii") + b"=" * (-len(text) % 4), b"-_", validate=True)
    except (UnicodeEncodeError, binascii.Error):
        sealed = b""
    digest, words = sealed[:DIGEST], sealed[DIGEST:]
    if not words or digest != _digest(words, listing):
        raise InvalidValue(
            "after= takes the cursor of a page with the same queue, status and filters, and this is another"
            " text: leave it out to begin with the first page"
        )
    queue, place, position = words.decode(errors="surrogateescape").split(" ", 2)
    return Cursor(queue, Place(place), position)


def _digest(words: bytes, listing: str) -> bytes:
    return hashlib.blake2b(words, key=hashlib.sha256(listing.encode()).digest(), digest_size=DIGEST).digest()

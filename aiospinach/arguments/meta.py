"""Meta: facts about one job that stand in its body beside the arguments.

A body with meta is ``[[positional...],{keyword...},{meta}]``. The header of the job says whether it has meta.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import msgspec


class Meta(msgspec.Struct, frozen=True, omit_defaults=True):
    """The headers and the key of a job. A later release may add fields, which this one leaves alone."""

    headers: Mapping[str, str] = {}
    key: str | None = None


NO_META: Final = Meta()

_write = msgspec.json.Encoder().encode
_split = msgspec.json.Decoder(tuple[msgspec.Raw, msgspec.Raw, msgspec.Raw]).decode
_read = msgspec.json.Decoder(tuple[msgspec.Raw, msgspec.Raw, Meta]).decode


def with_meta(arguments: bytes, meta: Meta) -> bytes:
    """The body of a job that has these arguments and this meta."""
    return b"%b,%b]" % (arguments[:-1], _write(meta))


def meta_of(body: bytes) -> Meta:
    """The meta of a body; none if it is damaged."""
    try:
        return _read(body)[2]
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return NO_META


def without_meta(body: bytes) -> bytes:
    """The arguments of a body that has meta. A damaged body is returned as it is."""
    try:
        positional, keyword, _ = _split(body)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return body
    return b"[%b,%b]" % (bytes(positional), bytes(keyword))

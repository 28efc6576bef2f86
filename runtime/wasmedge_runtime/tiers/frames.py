"""Messages between a process and its optimising helpers: msgpack behind a length."""

from __future__ import annotations

from typing import IO, Any

import msgpack

MODULE, UNIT = 0, 1
"""Requests: [MODULE, bytes, proposals, variant, target, cache folder, engine], where the last is
the fingerprint of the parent's, and [UNIT, number, patience] for a unit of the last module: how
many seconds to wait if another process works on it."""

DONE, BUSY, REFUSED = 0, 1, 2
"""Answers to UNIT: [DONE, unit], [BUSY], [REFUSED, reason]."""

_LENGTH_BYTES = 8
_LARGEST = 1 << 31


def write(stream: IO[bytes], message: list[Any]) -> None:
    data = msgpack.packb(message)
    stream.write(len(data).to_bytes(_LENGTH_BYTES, "little") + data)
    stream.flush()


def read(stream: IO[bytes]) -> list[Any] | None:
    """The next message; None at the end of the stream.

    Raises:
        ValueError: what came is not a message.
    """
    head = stream.read(_LENGTH_BYTES)
    if len(head) < _LENGTH_BYTES:
        return None
    length = int.from_bytes(head, "little")
    if length > _LARGEST:
        raise ValueError(f"a message of {length} bytes")
    data = stream.read(length)
    if len(data) < length:
        return None
    try:
        message = msgpack.unpackb(data)
    except msgpack.UnpackException as error:
        raise ValueError(f"not a message: {error}") from error
    if not isinstance(message, list):
        raise ValueError("not a message")
    return message

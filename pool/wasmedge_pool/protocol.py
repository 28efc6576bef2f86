"""How messages travel on the data socket: frames, their limits, decoding with suspicion. No I/O.

A frame is the length of its body (4 bytes, big-endian) and the body, the msgpack array of one
record of `wasmedge_pool.messages`. Limits stop msgpack before it builds objects, then every
field's type is checked.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Any

import msgpack

from wasmedge_pool.fields import PARENT_MESSAGES, TAGS, WORKER_MESSAGES
from wasmedge_pool.messages import (
    CHUNK,
    MAX_ARRAY,
    MAX_MESSAGE,
    Chunk,
    Message,
    ProtocolError,
)

__all__ = ["Decoder", "address", "chunks", "encode"]

_LENGTH = struct.Struct(">I")

# --- Encoding -----------------------------------------------------------------------------------

_pack = msgpack.Packer(use_bin_type=True).pack


def encode(message: Message) -> bytes:
    """Return the message's frame.

    Raises:
        ValueError: the body would be longer than `MAX_MESSAGE`.
    """
    # Adding tuples takes half the time of unpacking one.
    body: bytes = _pack((TAGS[type(message)],) + message)  # noqa: RUF005
    if len(body) > MAX_MESSAGE:
        raise ValueError(
            f"a message of {len(body)} bytes is too long to send; the limit is {MAX_MESSAGE}"
        )
    return _LENGTH.pack(len(body)) + body


# The length, the array's header and the tag, and the number as a msgpack uint64.
_ADDRESS = struct.Struct(">I2sBQ")


def address(frame: bytes, number: int) -> bytes:
    """Return the frame of a request, encoded with the id 0, with its real number.

    A request is encoded, and refused, in the task that makes it; its number is known only when it
    is sent, because numbers go upwards on each wire and a request may move to another worker.
    """
    # Layout of the frame: 4 bytes length, 1 array header, 1 tag, 1 the id 0, the other fields.
    return _ADDRESS.pack(len(frame) + 4, frame[4:6], 0xCF, number) + frame[7:]


def chunks(data: bytes) -> Iterator[bytes]:
    """Yield the frames that carry bulk data, at least one."""
    view = memoryview(data)
    for start in range(0, len(data) or 1, CHUNK):
        yield encode(Chunk(start, bytes(view[start : start + CHUNK])))


# --- Decoding -----------------------------------------------------------------------------------


def _refuse(*_: object) -> Any:
    raise ValueError("maps and extension types are not part of the protocol")


class Decoder:
    """Turns what arrives on the data socket into messages.

    Args:
        from_worker: whose messages are understood: the worker's, or the parent's.
    """

    def __init__(self, *, from_worker: bool) -> None:
        self._table = WORKER_MESSAGES if from_worker else PARENT_MESSAGES
        self._rest = b""
        self._fed = 0
        self._unpacker = msgpack.Unpacker(
            raw=False,
            use_list=False,
            max_buffer_size=MAX_MESSAGE,
            max_str_len=MAX_MESSAGE,
            max_bin_len=MAX_MESSAGE,
            max_array_len=MAX_ARRAY,
            max_map_len=0,
            max_ext_len=0,
            # The limits let empty ones through.
            object_pairs_hook=_refuse,
            ext_hook=_refuse,
        )

    def feed(self, data: bytes) -> list[Message]:
        """Return the messages that `data` completes.

        Raises:
            ProtocolError: `data` breaks a rule. The decoder cannot be used any more.
        """
        if self._rest:
            data = self._rest + data
        end = len(data)
        start = 0
        messages = []
        while end - start >= 4:
            (length,) = _LENGTH.unpack_from(data, start)
            if length > MAX_MESSAGE:
                raise ProtocolError(f"a message of {length} bytes; the limit is {MAX_MESSAGE}")
            stop = start + 4 + length
            if stop > end:
                break
            messages.append(self._message(data[start + 4 : stop]))
            start = stop
        self._rest = data[start:]
        return messages

    def _message(self, body: bytes) -> Message:
        unpacker = self._unpacker
        try:
            unpacker.feed(body)
            fields = unpacker.unpack()
        except (ValueError, msgpack.UnpackException) as error:
            raise ProtocolError(f"a message that cannot be decoded: {error}") from error
        self._fed += len(body)
        if unpacker.tell() != self._fed:
            raise ProtocolError("a message with something behind its end")
        if type(fields) is not tuple or not fields or type(fields[0]) is not int:
            raise ProtocolError("a message that is not a tagged array")
        row = self._table.get(fields[0])
        if row is None:
            raise ProtocolError(f"a message with the unknown tag {fields[0]}")
        record, checks = row
        if len(fields) != len(checks) + 1:
            raise ProtocolError(f"a {record.__name__} with {len(fields) - 1} fields")
        values = fields[1:]
        # As many of each, and neither `strict` nor names: half the time.
        for check, value in zip(checks, values):  # noqa: B905
            if not check(value):
                right = [ok(field) for ok, field in zip(checks, values, strict=True)]
                wrong = record._fields[right.index(False)]
                raise ProtocolError(f"a {record.__name__} whose {wrong} is wrong")
        # What `_make` does, without its call and its count, which is right.
        return tuple.__new__(record, values)

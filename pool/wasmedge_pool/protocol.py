"""Every message between the parent and a worker: records, limits, framing. No I/O.

Data socket: a frame is the length of its body (4 bytes, big-endian) and the body, a msgpack array
``[tag, field, ...]``. One class here is one message; its fields are the array's. Nothing is a
map, an extension type or a pickle. A worker runs guests, so the parent believes nothing it
sends: limits stop msgpack before it builds objects, then every field's type is checked, and
anything wrong is a `ProtocolError`, which ends the worker.

Control socket: datagrams of a kind (1 byte) and a request's number (8 bytes), see `INTERRUPT`,
`WITHDRAW`, `SKIPPED` and `FAULT`. It works while the worker is busy with a request.

The order is fixed: requests are numbered upwards as they are sent, run in that order, and are
answered in that order. What is changed here changes `VERSION`: a worker is always started by the
same installation, so there is nothing to be compatible with, but a mixture must be noticed.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from typing import Any, Final, NamedTuple, TypeAlias

import msgpack

from wasmedge_runtime.types import ValType

__all__ = [
    "CHUNK",
    "CONTROL",
    "FAULT",
    "INTERRUPT",
    "MAX_ARRAY",
    "MAX_MESSAGE",
    "SCALARS",
    "SKIPPED",
    "VERSION",
    "WITHDRAW",
    "Call",
    "Chunk",
    "Cleanup",
    "CreateVM",
    "Decoder",
    "Failure",
    "GetCodeStatus",
    "GetFunctionList",
    "GetFunctionType",
    "Hello",
    "Instantiate",
    "Items",
    "Load",
    "Log",
    "Message",
    "ProtocolError",
    "Ready",
    "Register",
    "Result",
    "Run",
    "Skipped",
    "Validate",
    "Value",
    "address",
    "chunks",
    "encode",
]

VERSION: Final = 1

# The body of one frame. A worker can make the parent allocate about 30 times this, for a moment.
MAX_MESSAGE: Final = 1 << 20
# Elements of any array. msgpack allocates an array when it has read the length, and nests up to
# 1,024 of them: 4,096 bounds what a few bytes can claim to 33 MB.
MAX_ARRAY: Final = 4096
# Bulk data travels in pieces of this size, so that nothing waits long behind it.
CHUNK: Final = 256 * 1024

# Control datagrams. Parent to worker: end the request with this number, running or not yet begun.
INTERRUPT: Final = 1
# Parent to worker: skip the request with this number, but only if it has not begun.
WITHDRAW: Final = 4
# Worker to parent: the request had not begun, and will not.
SKIPPED: Final = 2
# Worker to parent, instead of a number a text: why the worker gives up.
FAULT: Final = 3
CONTROL: Final = struct.Struct(">BQ")

_LENGTH = struct.Struct(">I")


class ProtocolError(Exception):
    """The other side sent something it must not."""


# A wasm value on the wire, see `wasmedge_pool.values`.
Value: TypeAlias = int | float | bytes | None

# --- The records. `id` is a request's number; `vm` names one of the worker's VMs. ---------------


class Hello(NamedTuple):
    """Parent: the first message. Records below `log_level` are not sent back."""

    version: int
    log_level: int


class Ready(NamedTuple):
    """Worker: the answer to `Hello`, once the engine is loaded."""

    version: int
    pid: int


class Chunk(NamedTuple):
    """Parent: a piece of the bytes that the request after it uses; offset 0 begins anew."""

    offset: int
    data: bytes


class CreateVM(NamedTuple):
    """Parent: make a VM; `config` is from `wasmedge_pool.settings`.

    With `fresh` 1, every call runs on an instance that no call has used; with 0 state is kept.
    """

    id: int
    vm: int
    config: tuple[Any, ...]
    fresh: int


class Load(NamedTuple):
    """Parent: load a module from a file (an absolute path) or, without one, from the chunks."""

    id: int
    vm: int
    path: bytes | None


class Register(NamedTuple):
    """Parent: instantiate a module under a name, from a file or the chunks."""

    id: int
    vm: int
    name: str
    path: bytes | None


class Validate(NamedTuple):
    """Parent: validate the loaded module."""

    id: int
    vm: int


class Instantiate(NamedTuple):
    """Parent: instantiate the validated module."""

    id: int
    vm: int


class Cleanup(NamedTuple):
    """Parent: drop all modules."""

    id: int
    vm: int


class Call(NamedTuple):
    """Parent: call a function, of a registered module unless `module` is nil.

    `timeout` is in microseconds of running time; nil is none.
    """

    id: int
    vm: int
    module: str | None
    function: str
    arguments: tuple[Value, ...]
    timeout: int | None


class Run(NamedTuple):
    """Parent: load, validate, instantiate and call, from a file or the chunks."""

    id: int
    vm: int
    path: bytes | None
    function: str
    arguments: tuple[Value, ...]
    timeout: int | None


class GetFunctionList(NamedTuple):
    """Parent: answered by `Items` and a `Result` without values."""

    id: int
    vm: int


class GetFunctionType(NamedTuple):
    """Parent: answered by `Items` with at most one item, and a `Result` without values."""

    id: int
    vm: int
    module: str | None
    function: str


class GetCodeStatus(NamedTuple):
    """Parent: answered by a `Result` with the fields of a `CodeStatus`, the state as the position
    in `CodeState`; without values when nothing is instantiated."""

    id: int
    vm: int


class Result(NamedTuple):
    """Worker: the request is done; `state` is the VM's state after it."""

    id: int
    state: int
    values: tuple[Value, ...]


class Items(NamedTuple):
    """Worker: part of an answer: functions as (name, parameters, results).

    The types are one byte each, the codes of the binary format.
    """

    id: int
    items: tuple[tuple[str, bytes, bytes], ...]


class Failure(NamedTuple):
    """Worker: the request failed; `error` is from `wasmedge_pool.errors`."""

    id: int
    state: int
    error: tuple[Any, ...]


class Skipped(NamedTuple):
    """Worker: what stands in the place of the answer to a request that did not begin.

    It says the same as the datagram `SKIPPED`, which came earlier but may be read later.
    """

    id: int


class Log(NamedTuple):
    """Worker: a log record of the engine."""

    logger: str
    level: int
    text: str


Message: TypeAlias = (
    Hello
    | Ready
    | Chunk
    | CreateVM
    | Load
    | Register
    | Validate
    | Instantiate
    | Cleanup
    | Call
    | Run
    | GetFunctionList
    | GetFunctionType
    | GetCodeStatus
    | Result
    | Items
    | Failure
    | Skipped
    | Log
)

# --- Checks of fields. Types are compared exactly: bool is no int here. -------------------------


def _number(field: object) -> bool:
    return type(field) is int and field >= 0


def _number_or_nil(field: object) -> bool:
    return field is None or (type(field) is int and field >= 0)


def _text(field: object) -> bool:
    return type(field) is str


def _text_or_nil(field: object) -> bool:
    return field is None or type(field) is str


def _bytes(field: object) -> bool:
    return type(field) is bytes


def _bytes_or_nil(field: object) -> bool:
    return field is None or type(field) is bytes


def _tuple(field: object) -> bool:
    """A tuple that is checked in full by whoever turns it into an object."""
    return type(field) is tuple


# The types of values that are not vectors.
SCALARS = frozenset({int, float, type(None)})


def _values(field: object) -> bool:
    if type(field) is not tuple:
        return False
    if SCALARS.issuperset(map(type, field)):
        return True
    return all(
        type(value) in SCALARS or (type(value) is bytes and len(value) == 16) for value in field
    )


_TYPE_CODES = frozenset(map(int, ValType))


def _items(field: object) -> bool:
    return type(field) is tuple and all(
        type(item) is tuple
        and len(item) == 3
        and type(item[0]) is str
        and type(item[1]) is bytes
        and type(item[2]) is bytes
        and _TYPE_CODES.issuperset(item[1])
        and _TYPE_CODES.issuperset(item[2])
        for item in field
    )


_Check: TypeAlias = Callable[[object], bool]

_PARENT_MESSAGES: dict[int, tuple[type[Message], tuple[_Check, ...]]] = {
    1: (Hello, (_number, _number)),
    2: (Chunk, (_number, _bytes)),
    3: (CreateVM, (_number, _number, _tuple, _number)),
    4: (Load, (_number, _number, _bytes_or_nil)),
    5: (Register, (_number, _number, _text, _bytes_or_nil)),
    6: (Validate, (_number, _number)),
    7: (Instantiate, (_number, _number)),
    8: (Cleanup, (_number, _number)),
    9: (Call, (_number, _number, _text_or_nil, _text, _values, _number_or_nil)),
    10: (Run, (_number, _number, _bytes_or_nil, _text, _values, _number_or_nil)),
    11: (GetFunctionList, (_number, _number)),
    12: (GetFunctionType, (_number, _number, _text_or_nil, _text)),
    13: (GetCodeStatus, (_number, _number)),
}
_WORKER_MESSAGES: dict[int, tuple[type[Message], tuple[_Check, ...]]] = {
    32: (Ready, (_number, _number)),
    33: (Result, (_number, _number, _values)),
    34: (Items, (_number, _items)),
    35: (Failure, (_number, _number, _tuple)),
    36: (Log, (_text, _number, _text)),
    37: (Skipped, (_number,)),
}
_TAGS: dict[type[Message], int] = {
    message: tag for tag, (message, _) in (_PARENT_MESSAGES | _WORKER_MESSAGES).items()
}

# --- Encoding -----------------------------------------------------------------------------------

_pack = msgpack.Packer(use_bin_type=True).pack


def encode(message: Message) -> bytes:
    """Return the message's frame.

    Raises:
        ValueError: the body would be longer than `MAX_MESSAGE`.
    """
    body: bytes = _pack((_TAGS[type(message)], *message))
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
        self._table = _WORKER_MESSAGES if from_worker else _PARENT_MESSAGES
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
        for name, check, value in zip(record._fields, checks, values, strict=True):
            if not check(value):
                raise ProtocolError(f"a {record.__name__} whose {name} is wrong")
        return record._make(values)

"""The protocol: what goes through, and what is refused before it costs anything."""

from __future__ import annotations

import contextlib
import struct
import tracemalloc

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from wasmedge_pool.fields import TAGS
from wasmedge_pool.messages import (
    CHUNK,
    MAX_ARRAY,
    MAX_MESSAGE,
    Batch,
    BatchError,
    BatchResults,
    Broadcast,
    Call,
    CallBindgen,
    CallHandle,
    Chunk,
    Cleanup,
    Compile,
    CreateVM,
    Data,
    DropVM,
    Failure,
    Find,
    Follow,
    GetCodeStatus,
    GetExitCode,
    GetFunctionList,
    GetFunctionType,
    GetStatistics,
    HasHost,
    Hello,
    HostCall,
    HostReply,
    InitCommands,
    InitWasi,
    Instantiate,
    Items,
    List,
    Load,
    Log,
    Message,
    Operate,
    Progress,
    ProtocolError,
    ReadMemory,
    Ready,
    Register,
    RegisterImport,
    Release,
    Result,
    Run,
    SetStatistics,
    Share,
    Skipped,
    Spawn,
    Unreferenced,
    Validate,
    Want,
    Wanted,
    Within,
    WriteMemory,
)
from wasmedge_pool.protocol import Decoder, address, chunks, encode

FROM_PARENT: list[Message] = [
    Hello(1, 40),
    Chunk(0, b"\0asm"),
    CreateVM(1, 1, ((0, 1), (), 65536), 0),
    Load(1, 1, b"/a/module.wasm"),
    Load(1, 1, None),
    Register(1, 1, "math", None),
    Validate(1, 1),
    Instantiate(1, 1),
    Cleanup(1, 1),
    Call(2**64 - 1, 1, None, "fib", (21, -1, 2.5, bytes(16), None), 1_000_000),
    Call(1, 1, "math", "añadir", (), None),
    Run(1, 1, b"/a", "fib", (1,), None),
    GetFunctionList(1, 1),
    GetFunctionType(1, 1, None, "fib"),
    GetCodeStatus(1, 1),
    Follow(None),
    Follow(b"/a/folder"),
    Compile(1, ((0, 1), (), 65536), None, 1),
    Want(bytes(32), (0, 5)),
    RegisterImport(1, 1, "env", ((0, b"\x7f", b"", 0, None),), (("f", 0, (0,)),)),
    Find(1, 1, 2, None, "memory"),
    List(1, 1, 0, "math"),
    Operate(1, 1, 3, 0, ((0, 17), 2)),
    CallHandle(1, 1, 3, (1,), None),
    CallBindgen(1, 1, None, "say", 3, ((0, 1), (2, 4)), 1000, None),
    ReadMemory(1, 1, 3, 0, 65536),
    WriteMemory(1, 1, 3, 8),
    Release(1, (3, 4)),
    GetStatistics(1, 1),
    SetStatistics(1, 1, None, 1, 0),
    InitWasi(1, 1, 0, ("program",), ("A=1",), (".:/data",), ()),
    InitCommands(1, 1, 0, ("ls",), 0, b"/"),
    HasHost(1, 1, "wasmedge_process"),
    GetExitCode(1, 1),
    Spawn(1, 1, b"/a", ("program",), (), (), ("127.0.0.1:80",)),
    DropVM(1, 1),
    Share(1, 2, 1),
    Broadcast(1, 1, "setup", (1,), None),
    Batch(1, 1, "add", 2, (1, 2, 3, 4), 1, 1000),
    HostReply(1, 0, (5,)),
    Within(1),
]
FROM_WORKER: list[Message] = [
    Ready(1, 4711),
    Result(1, 3, 1200, (17711, -0.0, bytes(16), None)),
    Items(1, (("fib", b"\x7f", b"\x7f"),)),
    Failure(1, 0, 1200, ("trap", 0x89, None, None, (), ())),
    Skipped(5),
    Wanted(bytes(32), (0, 5)),
    Progress(1, 1, 10, 5, 5, 0),
    Log("wasmedge", 10, "text"),
    Data(1, b"bytes"),
    HostCall(1, 1, 0, 1, (5, (0, 17))),
    Unreferenced(((17, 2),)),
    BatchError(1, 0, ("trap", 0x89, None, None, (), ())),
    BatchResults(1, 1, b"\x7f", bytes(8)),
]


def _name(message: Message) -> str:
    return type(message).__name__


def _frame(body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + body


@pytest.mark.parametrize("message", FROM_PARENT, ids=_name)
def test_the_worker_understands_the_parent(message: Message) -> None:
    assert Decoder(from_worker=False).feed(encode(message)) == [message]


@pytest.mark.parametrize("message", FROM_WORKER, ids=_name)
def test_the_parent_understands_the_worker(message: Message) -> None:
    assert Decoder(from_worker=True).feed(encode(message)) == [message]


def test_these_are_all_messages() -> None:
    assert {type(message) for message in FROM_PARENT + FROM_WORKER} == set(TAGS)


@pytest.mark.parametrize("message", FROM_PARENT, ids=_name)
def test_the_parent_refuses_the_parents_messages(message: Message) -> None:
    with pytest.raises(ProtocolError, match="unknown tag"):
        Decoder(from_worker=True).feed(encode(message))


def test_frames_may_come_in_pieces_of_any_size() -> None:
    wire = b"".join(map(encode, FROM_WORKER))
    for size in (1, 3, 7, len(wire)):
        decoder = Decoder(from_worker=True)
        messages = []
        for start in range(0, len(wire), size):
            messages += decoder.feed(wire[start : start + size])
        assert messages == FROM_WORKER


def test_a_request_gets_its_number_when_it_is_sent() -> None:
    frame = encode(Call(0, 1, None, "fib", (21,), None))
    for number in (1, 127, 128, 2**32, 2**64 - 1):
        [message] = Decoder(from_worker=False).feed(address(frame, number))
        assert message == Call(number, 1, None, "fib", (21,), None)


@pytest.mark.parametrize("size", [0, 1, CHUNK, CHUNK + 1, 5 * CHUNK])
def test_bulk_data_travels_in_chunks(size: int) -> None:
    data = bytes(range(256)) * (size // 256 + 1)
    received = b""
    for frame in chunks(data[:size]):
        assert len(frame) < CHUNK + 100
        [chunk] = Decoder(from_worker=False).feed(frame)
        assert isinstance(chunk, Chunk)
        assert chunk.offset == len(received)
        received += chunk.data
    assert received == data[:size]


@pytest.mark.parametrize(
    ("body", "why"),
    [
        (b"", "cannot be decoded"),
        (b"\xc1", "cannot be decoded"),
        (msgpack.packb([33, 1, 0, 0, []])[:-1], "cannot be decoded"),
        (msgpack.packb([33, 1, 0, 0, []]) + b"\0", "behind its end"),
        (msgpack.packb({}), "maps"),
        (msgpack.packb([33, 1, 0, 0, [{}]]), "maps"),
        (msgpack.packb([33, 1, 0, 0, {"a": 1}]), "max_map_len"),
        (msgpack.packb([33, 1, 0, 0, msgpack.ExtType(5, b"")]), "extension types"),
        (msgpack.packb([33, 1, 0, 0, msgpack.ExtType(5, b"x")]), "max_ext_len"),
        (msgpack.packb([33, 1, 0, 0, msgpack.Timestamp(0)]), "max_ext_len"),
        (msgpack.packb([33, 1, 0, 0, [0] * (MAX_ARRAY + 1)]), "max_array_len"),
        (b"\x91" * 5000, "cannot be decoded"),
        (b"\x95\x21\x01\x00\x00\xc4\xff", "cannot be decoded"),
        (
            msgpack.packb([33, 1, 0, 0, ["\udc80".encode("utf-8", "surrogatepass")]]),
            "values is wrong",
        ),
        (b"\x95\x21\x01\x00\x00\xa1\xff", "cannot be decoded"),
        (msgpack.packb(33), "not a tagged array"),
        (msgpack.packb([]), "not a tagged array"),
        (msgpack.packb(["33"]), "not a tagged array"),
        (msgpack.packb([True]), "not a tagged array"),
        (msgpack.packb([77]), "unknown tag 77"),
        (msgpack.packb([33, 1, 0, 0]), "a Result with 3 fields"),
        (msgpack.packb([33, 1, 0, 0, [], 0]), "a Result with 5 fields"),
        (msgpack.packb([33, -1, 0, 0, []]), "Result whose id is wrong"),
        (msgpack.packb([33, True, 0, 0, []]), "Result whose id is wrong"),
        (msgpack.packb([33, 1, 0, 0, 5]), "Result whose values is wrong"),
        (msgpack.packb([33, 1, 0, 0, [[]]]), "Result whose values is wrong"),
        (msgpack.packb([33, 1, 0, 0, [True]]), "Result whose values is wrong"),
        (msgpack.packb([33, 1, 0, 0, [b"fifteen bytes.."]]), "Result whose values is wrong"),
        (msgpack.packb([34, 1, [["f", b"\x7f", b"\x00"]]]), "Items whose items is wrong"),
        (msgpack.packb([34, 1, [["f", b"\x7f"]]]), "Items whose items is wrong"),
        (msgpack.packb([36, b"wasmedge", 10, "text"]), "Log whose logger is wrong"),
        (msgpack.packb([41, bytes(33), [1]]), "Wanted whose digest is wrong"),
        (msgpack.packb([41, bytes(1 << 19), [1]]), "Wanted whose digest is wrong"),
    ],
)
def test_what_is_not_a_message_is_refused(body: bytes, why: str) -> None:
    with pytest.raises(ProtocolError, match=why):
        Decoder(from_worker=True).feed(_frame(body))


def test_an_oversized_frame_is_refused_by_its_length() -> None:
    with pytest.raises(ProtocolError, match="the limit is"):
        Decoder(from_worker=True).feed(struct.pack(">I", MAX_MESSAGE + 1))


def test_an_oversized_message_is_not_sent() -> None:
    with pytest.raises(ValueError, match="too long to send"):
        encode(Call(0, 1, None, "x" * MAX_MESSAGE, (), None))


@pytest.mark.parametrize(
    "unit", [b"\x90", b"\x80", b"\x91\xc0", b"\xdc\x10\x00", b"\xcd\xff\xff", b"\xa2ab"]
)
def test_a_hostile_frame_costs_little_memory(unit: bytes) -> None:
    """1 MiB of the smallest objects, or of arrays that claim to be long."""
    rows = MAX_MESSAGE // (len(unit) * 2000) - 1
    inner = b"\xdc" + struct.pack(">H", 2000) + unit * 2000
    frame = _frame(b"\xdc" + struct.pack(">H", min(rows, 4000)) + inner * min(rows, 4000))
    tracemalloc.start()
    try:
        with pytest.raises(ProtocolError):
            Decoder(from_worker=True).feed(frame)
        assert tracemalloc.get_traced_memory()[1] < 64 * MAX_MESSAGE
    finally:
        tracemalloc.stop()


@given(st.binary(max_size=200))
def test_any_bytes_are_messages_or_refused(data: bytes) -> None:
    for from_worker in (True, False):
        for wire in (data, _frame(data), _frame(b"\x94\x21\x01\x00" + data)):
            with contextlib.suppress(ProtocolError):
                Decoder(from_worker=from_worker).feed(wire)

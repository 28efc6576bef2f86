"""Workers that lie: each function here is a worker's program that breaks one rule.

Their process and wires are the real ones; what they send is not.
"""

from __future__ import annotations

import os
import socket
import struct
import time

import msgpack

from wasmedge_pool.messages import (
    CONTROL,
    MAX_MESSAGE,
    SKIPPED,
    VERSION,
    Items,
    Progress,
    Ready,
    Wanted,
)
from wasmedge_pool.protocol import encode

# CreateVM has number 1, and is not answered by these.


def _begin(data: int) -> socket.socket:
    """Behave until the first request has come."""
    wire = socket.socket(fileno=data)
    wire.recv(65536)
    wire.sendall(encode(Ready(VERSION, os.getpid())))
    wire.recv(65536)
    return wire


def _frame(body: object) -> bytes:
    packed: bytes = msgpack.packb(body)
    return struct.pack(">I", len(packed)) + packed


def _send_and_wait(data: int, frame: bytes) -> None:
    wire = _begin(data)
    wire.sendall(frame)
    time.sleep(60)
    wire.close()


def garbage(data: int, control: socket.socket, page: int | None) -> None:
    _send_and_wait(data, bytes(range(256)) * 1000)


def oversized(data: int, control: socket.socket, page: int | None) -> None:
    _send_and_wait(data, struct.pack(">I", MAX_MESSAGE + 1))


def a_map(data: int, control: socket.socket, page: int | None) -> None:
    _send_and_wait(data, _frame([33, 1, 0, 0, [{}]]))


def nested(data: int, control: socket.socket, page: int | None) -> None:
    deep: list[object] = []
    for _ in range(400):
        deep = [deep]
    _send_and_wait(data, _frame([33, 1, 0, 0, deep]))


def wrong_types(data: int, control: socket.socket, page: int | None) -> None:
    _send_and_wait(data, _frame([33, 1, 0, 0, ["text"]]))


def unknown_number(data: int, control: socket.socket, page: int | None) -> None:
    _send_and_wait(data, _frame([33, 77, 0, 0, []]))


def answered_twice(data: int, control: socket.socket, page: int | None) -> None:
    _send_and_wait(data, _frame([33, 1, 0, 0, []]) * 2)


def unknown_state(data: int, control: socket.socket, page: int | None) -> None:
    _send_and_wait(data, _frame([33, 1, 9, 0, []]))


def no_error(data: int, control: socket.socket, page: int | None) -> None:
    _send_and_wait(data, _frame([35, 1, 0, 0, ["trap", 0xFFFF, None, None, [], []]]))


def ready_again(data: int, control: socket.socket, page: int | None) -> None:
    _send_and_wait(data, encode(Ready(VERSION, os.getpid())))


def unasked_items(data: int, control: socket.socket, page: int | None) -> None:
    _send_and_wait(data, encode(Items(1, ())))


def progress_of_its_own(data: int, control: socket.socket, page: int | None) -> None:
    """Only a compile process may say that."""
    _send_and_wait(data, encode(Progress(1, 2, 5, 0, 5, 0)))


def wants_out_of_a_pool(data: int, control: socket.socket, page: int | None) -> None:
    _send_and_wait(data, encode(Wanted(bytes(32), (1, 2))))


def impossible_progress(data: int, control: socket.socket, page: int | None) -> None:
    """As a compile process: more functions than there are."""
    _send_and_wait(data, encode(Progress(1, 1, 5, 3, 3, 0)))


def endless_progress(data: int, control: socket.socket, page: int | None) -> None:
    wire = _begin(data)
    number = 0
    while True:
        number += 1
        wire.sendall(encode(Progress(1, 1, number, 0, 0, 0)) * 1000)


def wants_for_ever(data: int, control: socket.socket, page: int | None) -> None:
    """As a worker of a pool: answers nothing, and needs functions that no module has."""
    wire = _begin(data)
    number = 1 << 40
    while True:
        number += 4096
        wire.sendall(encode(Wanted(bytes(32), tuple(range(number, number + 4096)))))


def other_logger(data: int, control: socket.socket, page: int | None) -> None:
    _send_and_wait(data, _frame([36, "root", 50, "from the guest"]))


def control_nonsense(data: int, control: socket.socket, page: int | None) -> None:
    wire = _begin(data)
    control.send(b"what?")
    time.sleep(60)
    wire.close()


def unasked_skip(data: int, control: socket.socket, page: int | None) -> None:
    wire = _begin(data)
    control.send(CONTROL.pack(SKIPPED, 1))
    time.sleep(60)
    wire.close()


def unasked_skip_in_order(data: int, control: socket.socket, page: int | None) -> None:
    _send_and_wait(data, _frame([37, 1]))


def endless_items(data: int, control: socket.socket, page: int | None) -> None:
    wire = _begin(data)
    wire.sendall(_frame([33, 1, 0, 0, []]))  # the list has been asked for, right behind
    frame = encode(Items(2, (("", b"", b""),) * 4096))
    while True:
        wire.sendall(frame)


def other_version(data: int, control: socket.socket, page: int | None) -> None:
    wire = socket.socket(fileno=data)
    wire.sendall(encode(Ready(VERSION + 1, os.getpid())))
    time.sleep(60)


def silent(data: int, control: socket.socket, page: int | None) -> None:
    time.sleep(60)


def fails_to_start(data: int, control: socket.socket, page: int | None) -> None:
    raise RuntimeError("no engine here")


def shrinks_the_page(data: int, control: socket.socket, page: int | None) -> None:
    assert page is not None
    wire = _begin(data)
    try:
        os.ftruncate(page, 0)
    except PermissionError:
        os._exit(42)
    wire.close()

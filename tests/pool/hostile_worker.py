"""Workers that lie: each function here is a worker's program that breaks one rule.

Their process and wires are the real ones; what they send is not.
"""

from __future__ import annotations

import os
import socket
import struct
import time
from collections.abc import Callable
from typing import Any

import msgpack

from wasmedge_pool.messages import (
    ANSWER,
    CONTROL,
    MAX_MESSAGE,
    NESTED,
    OBJECT,
    REFUSAL,
    SKIPPED,
    VERSION,
    Call,
    Data,
    HostCall,
    HostReply,
    Items,
    Message,
    Progress,
    ReadMemory,
    Ready,
    Result,
    Unreferenced,
    Wanted,
)
from wasmedge_pool.protocol import Decoder, encode

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


# --- Lies about host functions. Function 0 takes an i32, function 1 a reference; both are plain. --


class _Wire:
    """The data socket of a worker that behaves until it is asked to call something."""

    def __init__(self, data: int) -> None:
        self._socket = socket.socket(fileno=data)
        self._decoder = Decoder(from_worker=False)
        self._messages: list[Message] = []

    def send(self, *messages: Message) -> None:
        self._socket.sendall(b"".join(map(encode, messages)))

    def next(self) -> Message:
        while not self._messages:
            self._messages = self._decoder.feed(self._socket.recv(65536))
        return self._messages.pop(0)

    def until(self, kind: type[Message]) -> int:
        """The number of the next message of a kind; what comes before it is answered."""
        while True:
            message: Any = self.next()
            if isinstance(message, HostReply):
                if kind is HostReply:
                    return int(message.call)
                continue
            if type(message) is kind:
                return int(getattr(message, "id", 0))
            number = getattr(message, "id", None)
            if number is None:
                self.send(Ready(VERSION, os.getpid()))
            else:
                self.send(Result(number, 0, 0, ()))


def _on_call(data: int, lie: Callable[[int], list[Message]]) -> None:
    """Tell a lie when the first call comes."""
    wire = _Wire(data)
    wire.send(*lie(wire.until(Call)))
    time.sleep(60)


def calls_an_unknown_function(data: int, control: socket.socket, page: int | None) -> None:
    _on_call(data, lambda number: [HostCall(number, 1, 9, 0, (1,))])


def calls_with_wrong_arguments(data: int, control: socket.socket, page: int | None) -> None:
    _on_call(data, lambda number: [HostCall(number, 1, 0, 0, (1.5,))])


def calls_with_too_few_arguments(data: int, control: socket.socket, page: int | None) -> None:
    _on_call(data, lambda number: [HostCall(number, 1, 0, 0, ())])


def calls_with_an_unknown_object(data: int, control: socket.socket, page: int | None) -> None:
    _on_call(data, lambda number: [HostCall(number, 1, 1, 0, ((OBJECT, 77),))])


def calls_for_another_request(data: int, control: socket.socket, page: int | None) -> None:
    _on_call(data, lambda number: [HostCall(number + 1, 1, 0, 0, (1,))])


def calls_for_a_nested_request(data: int, control: socket.socket, page: int | None) -> None:
    _on_call(data, lambda number: [HostCall(NESTED + 1, 1, 0, 0, (1,))])


def calls_twice_at_once(data: int, control: socket.socket, page: int | None) -> None:
    _on_call(data, lambda number: [HostCall(number, n, 0, 0, (1,)) for n in (1, 2)])


def calls_with_an_old_number(data: int, control: socket.socket, page: int | None) -> None:
    wire = _Wire(data)
    number = wire.until(Call)
    wire.send(HostCall(number, 5, 0, 0, (1,)))
    wire.until(HostReply)
    wire.send(HostCall(number, 5, 0, 0, (1,)))
    time.sleep(60)


def calls_for_ever(data: int, control: socket.socket, page: int | None) -> None:
    """As a guest in a loop does; a timeout of the parent ends it."""
    wire = _Wire(data)
    number = wire.until(Call)
    for call in range(1, 1 << 30):
        wire.send(HostCall(number, call, 0, 0, (1,)))
        wire.until(HostReply)


def answers_a_nested_request_that_is_not(
    data: int, control: socket.socket, page: int | None
) -> None:
    _on_call(data, lambda number: [Result(NESTED + 1, 0, 0, ())])


def drops_what_it_never_had(data: int, control: socket.socket, page: int | None) -> None:
    _on_call(data, lambda number: [Unreferenced(((77, 1),))])


def drops_nothing(data: int, control: socket.socket, page: int | None) -> None:
    _on_call(data, lambda number: [Unreferenced(((77, 0),))])


def returns_an_unknown_object(data: int, control: socket.socket, page: int | None) -> None:
    _on_call(data, lambda number: [Result(number, 0, 0, ((OBJECT, 77),))])


def sends_data_unasked(data: int, control: socket.socket, page: int | None) -> None:
    _on_call(data, lambda number: [Data(number, b"data")])


def sends_empty_data(data: int, control: socket.socket, page: int | None) -> None:
    _on_call(data, lambda number: [Data(number, b"")])


def sends_too_much_data(data: int, control: socket.socket, page: int | None) -> None:
    wire = _Wire(data)
    number = wire.until(ReadMemory)
    wire.send(Data(number, bytes(11)), Result(number, 0, 0, ()))
    time.sleep(60)


def sends_too_little_data(data: int, control: socket.socket, page: int | None) -> None:
    wire = _Wire(data)
    number = wire.until(ReadMemory)
    wire.send(Data(number, bytes(9)), Result(number, 0, 0, ()))
    time.sleep(60)


def _on_question(data: int, control: socket.socket, *answers: bytes) -> None:
    """Call function 0, whose caller has a memory, and answer its question about that."""
    wire = _Wire(data)
    wire.send(HostCall(wire.until(Call), 1, 0, 1, (1,)))
    control.recv(65536)
    for answer in answers:
        control.send(answer)
    time.sleep(60)


def answers_too_little(data: int, control: socket.socket, page: int | None) -> None:
    _on_question(data, control, bytes([ANSWER]) + bytes(9))


def answers_too_much(data: int, control: socket.socket, page: int | None) -> None:
    _on_question(data, control, bytes([ANSWER]) + bytes(60_000))


def refuses_without_a_reason(data: int, control: socket.socket, page: int | None) -> None:
    _on_question(data, control, bytes([REFUSAL]))


def refuses_with_an_unknown_code(data: int, control: socket.socket, page: int | None) -> None:
    _on_question(data, control, bytes([REFUSAL, 0xEE]) + b"because")


def answers_with_a_skip(data: int, control: socket.socket, page: int | None) -> None:
    _on_question(data, control, CONTROL.pack(SKIPPED, 1))


def answers_without_an_end(data: int, control: socket.socket, page: int | None) -> None:
    _on_question(data, control, *[bytes([SKIPPED]) + bytes(4000)] * 100_000)


def does_not_answer(data: int, control: socket.socket, page: int | None) -> None:
    _on_question(data, control)


def answers_out_of_the_blue(data: int, control: socket.socket, page: int | None) -> None:
    wire = _Wire(data)
    wire.until(Call)
    control.send(bytes([ANSWER]) + b"what nobody asked for")
    time.sleep(60)


def dies_when_it_is_asked(data: int, control: socket.socket, page: int | None) -> None:
    wire = _Wire(data)
    wire.send(HostCall(wire.until(Call), 1, 0, 1, (1,)))
    control.recv(65536)
    os._exit(7)

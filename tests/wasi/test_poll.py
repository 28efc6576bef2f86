"""poll_oneoff."""

from __future__ import annotations

import os
import struct
import time
from pathlib import Path

import pytest

from tests.wasi.guest import RESULT, Guest, tree
from wasmedge_runtime.wasi import abi
from wasmedge_runtime.wasi.abi import Errno

REALTIME, MONOTONIC = 0, 1
MILLISECOND = 1_000_000


def clock(userdata: int, timeout: int, which: int = MONOTONIC, flags: int = 0) -> bytes:
    return struct.pack("<QB7xI4xQQH6x", userdata, 0, which, timeout, 0, flags)


def descriptor(userdata: int, kind: int, fd: int) -> bytes:
    return struct.pack("<QB7xI28x", userdata, kind, fd)


def poll(guest: Guest, *subscriptions: bytes) -> list[tuple[int, ...]]:
    """The events: userdata, errno, type, bytes, flags."""
    count = len(subscriptions)
    source, target = guest.put(b"".join(subscriptions))[0], guest.room(32 * count)
    guest.do("poll_oneoff", source, target, count, RESULT)
    return [guest.get("<QHB5xQH6x", target + 32 * i) for i in range(guest.get("<I"))]


@pytest.mark.parametrize("which", [REALTIME, MONOTONIC])
def test_time_passes(which: int) -> None:
    guest = Guest()
    started = time.monotonic_ns()
    assert poll(guest, clock(7, 5 * MILLISECOND, which)) == [(7, 0, 0, 0, 0)]
    assert time.monotonic_ns() - started >= 5 * MILLISECOND


def test_a_moment_is_waited_for() -> None:
    guest = Guest()
    due = time.time_ns() + 5 * MILLISECOND
    assert poll(guest, clock(1, due, REALTIME, 1), clock(2, 3_600_000 * MILLISECOND)) == [
        (1, 0, 0, 0, 0)
    ]
    assert time.time_ns() >= due
    assert poll(guest, clock(3, 5, MONOTONIC, 1)) == [(3, 0, 0, 0, 0)]  # long ago


def test_the_first_that_happens_ends_it() -> None:
    reader, writer = os.pipe()
    os.write(writer, b"abc")
    guest = Guest(stdin=reader, stdout=writer)
    events = poll(
        guest,
        clock(1, 3_600_000 * MILLISECOND),
        descriptor(2, abi.EVENTTYPE_FD_READ, 0),
        descriptor(3, abi.EVENTTYPE_FD_WRITE, 1),
    )
    assert events == [(2, 0, 1, 3, 0), (3, 0, 2, 1, 0)]
    os.close(reader)
    os.close(writer)


def test_the_end_of_a_pipe_is_an_event() -> None:
    reader, writer = os.pipe()
    os.close(writer)
    guest = Guest(stdin=reader)
    os.close(reader)
    [event] = poll(guest, descriptor(2, abi.EVENTTYPE_FD_READ, 0))
    assert event == (2, 0, 1, 0, abi.EVENT_FD_READWRITE_HANGUP)


def test_what_never_waits_is_ready(tmp_path: Path) -> None:
    guest = Guest(preopens={"/": tree(tmp_path, file="content")}, stdin=b"x")
    fd = guest.open("file", 0, abi.FILE_RIGHTS)
    guest.read(fd, 3)
    assert poll(
        guest,
        clock(1, 3_600_000 * MILLISECOND),
        descriptor(2, abi.EVENTTYPE_FD_READ, fd),
        descriptor(3, abi.EVENTTYPE_FD_WRITE, fd),
        descriptor(4, abi.EVENTTYPE_FD_READ, 0),
    ) == [(2, 0, 1, 4, 0), (3, 0, 2, 1, 0), (4, 0, 1, 1, 0)]


def test_errors_are_events() -> None:
    guest = Guest(stdin=b"x")
    assert poll(
        guest,
        descriptor(1, abi.EVENTTYPE_FD_READ, 99),
        descriptor(2, abi.EVENTTYPE_FD_WRITE, 0),
        clock(3, 1, which=2),
        clock(4, 1, which=9),
        descriptor(5, 7, 0),
    ) == [
        (1, Errno.BADF, 1, 0, 0),
        (2, Errno.BADF, 2, 0, 0),
        (3, Errno.NOTSUP, 0, 0, 0),
        (4, Errno.INVAL, 0, 0, 0),
        (5, Errno.INVAL, 7, 0, 0),
    ]


def test_nothing_to_wait_for_is_refused() -> None:
    guest = Guest()
    assert guest.call("poll_oneoff", 0, 0, 0, RESULT) is Errno.INVAL

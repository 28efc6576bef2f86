"""Standard input, output and error."""

from __future__ import annotations

import io
import os
import struct
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.runtime.engine import Running, wait_until
from tests.wasi.guest import RESULT, Guest
from wasmedge_runtime import DEVNULL, Trap
from wasmedge_runtime.wasi import abi, streams
from wasmedge_runtime.wasi.abi import Errno, FileType


def test_bytes_are_read_to_their_end() -> None:
    guest = Guest(stdin=b"some input")
    assert guest.read(0, 4) == b"some"
    assert guest.read(0) == b" input"
    assert guest.read(0) == b""


def test_what_is_written_is_collected() -> None:
    out, err = io.BytesIO(), io.BytesIO()
    guest = Guest(stdout=out, stderr=err)
    assert guest.write(1, b"out") == 3
    assert guest.write(2, b"error") == 5
    assert (out.getvalue(), err.getvalue()) == (b"out", b"error")
    guest.do("fd_filestat_get", 1, RESULT)
    assert guest.get("<16xB") == FileType.UNKNOWN


def test_paths_and_devnull(tmp_path: Path) -> None:
    (tmp_path / "in").write_bytes(b"input")
    (tmp_path / "out").write_bytes(b"something that was there before")
    guest = Guest(stdin=tmp_path / "in", stdout=str(tmp_path / "out"), stderr=DEVNULL)
    assert guest.read(0) == b"input"
    guest.write(1, b"x")
    guest.write(2, b"gone")
    assert (tmp_path / "out").read_bytes() == b"x"
    assert Guest(stdin=DEVNULL).read(0) == b""


@pytest.mark.parametrize(
    "wrong",
    [{"allow_sockets": ["x"]}, {"preopens": ["/:/nowhere/at/all"]}, {"args": [1]}, {"envs": ["="]}],
)
def test_a_file_keeps_its_content_when_something_else_is_wrong(
    tmp_path: Path, wrong: dict[str, Any]
) -> None:
    (tmp_path / "out").write_bytes(b"content")
    with pytest.raises((TypeError, ValueError, OSError)):
        Guest(stdout=tmp_path / "out", **wrong)
    assert (tmp_path / "out").read_bytes() == b"content"


def test_file_objects_keep_their_order(tmp_path: Path) -> None:
    with open(tmp_path / "out", "wb") as file:
        file.write(b"before,")
        guest = Guest(stdout=file)
        guest.write(1, b"guest,")
        del guest
        file.write(b"after")
    assert (tmp_path / "out").read_bytes() == b"before,guest,after"


def test_a_descriptor_stays_open_when_the_guest_closes_its_own() -> None:
    reader, writer = os.pipe()
    guest = Guest(stdout=writer)
    guest.write(1, b"x")
    guest.do("fd_close", 1)
    assert os.write(writer, b"y") == 1
    assert os.read(reader, 10) == b"xy"
    os.close(reader)
    os.close(writer)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"stdout": b"bytes"}, "BytesIO"),
        ({"stdout": io.StringIO()}, "binary"),
        ({"stdin": io.StringIO("x")}, "binary"),
        ({"stdin": 1.5}, "not float"),
        ({"stdout": object()}, "not object"),
    ],
)
def test_what_is_no_stream_is_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(TypeError, match=message):
        Guest(**options)


def test_streams_go_one_way() -> None:
    guest = Guest(stdin=b"x", stdout=io.BytesIO())
    assert guest.write_errno(0, b"x") is Errno.BADF
    iovec = guest.iovec(guest.room(8), 8)
    assert guest.call("fd_read", 1, iovec, 1, RESULT) is Errno.BADF


def test_a_log_keeps_what_it_has_and_stays_open_for_appending(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_bytes(b"before,")
    with open(log, "ab") as file:
        guest = Guest(stdout=file)
        assert guest.call("fd_fdstat_set_flags", 1, abi.FDFLAGS_APPEND) is Errno.NOTSUP
        assert guest.call("fd_filestat_set_size", 1, 0) is Errno.NOTCAPABLE
        guest.call("fd_seek", 1, 0, abi.WHENCE_SET, RESULT)
        guest.write(1, b"guest")
    assert log.read_bytes() == b"before,guest"


def test_the_times_of_an_input_are_not_the_guests_to_change(tmp_path: Path) -> None:
    (tmp_path / "in").write_bytes(b"x")
    modified = (tmp_path / "in").stat().st_mtime_ns
    guest = Guest(stdin=tmp_path / "in")
    assert guest.call("fd_filestat_set_times", 0, 0, 0, abi.FST_MTIM) is Errno.NOTCAPABLE
    assert (tmp_path / "in").stat().st_mtime_ns == modified


def test_inherited_streams_are_those_of_the_process() -> None:
    script = """
        from tests.wasi.guest import Guest
        guest = Guest()
        guest.write(1, guest.read(0).upper())
        guest.write(2, b"done")
    """
    done = subprocess.run(
        [sys.executable, "-c", "\n".join(line.strip() for line in script.splitlines())],
        input=b"hello",
        capture_output=True,
        check=True,
    )
    assert (done.stdout, done.stderr) == (b"HELLO", b"done")


def test_a_stream_that_the_process_does_not_have_is_not_there() -> None:
    script = (
        "import os\n"
        "from tests.wasi.guest import Guest\n"
        "Guest()\n"  # now everything is loaded
        "os.close(0)\n"
        "guest = Guest(stdout=os.devnull)\n"
        "print(guest.call('fd_fdstat_get', 0, 64).name)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, check=True)
    assert done.stdout == b"BADF\n"


def test_a_reader_that_goes_away_is_an_error_of_the_write() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    guest = Guest(stdout=writer)
    os.close(writer)
    assert guest.write_errno(1, b"x") is Errno.PIPE


@pytest.mark.parametrize("first", [True, False], ids=["before", "meanwhile"])
def test_a_named_pipe_ends_with_its_writer(tmp_path: Path, first: bool) -> None:
    os.mkfifo(tmp_path / "fifo")
    reader = os.open(tmp_path / "fifo", os.O_RDONLY | os.O_NONBLOCK)
    writer = os.open(tmp_path / "fifo", os.O_WRONLY)
    os.set_blocking(reader, True)
    os.write(writer, b"x")
    guest = Guest(stdin=reader)
    if first:
        os.close(writer)
    assert guest.read(0) == b"x"
    if not first:
        os.close(writer)
    reading = Running(guest.read, 0)
    try:
        assert reading.result() == b""
    finally:
        guest.store.interrupt()
        os.close(reader)


def test_output_that_nobody_reads_blocks_the_guest_only() -> None:
    reader, writer = os.pipe()
    guest = Guest(stdout=writer)
    os.close(writer)
    place = guest.room(8)
    iovec = guest.iovec(0, 4 * 65536)
    running = Running(guest.call, "fd_write", 1, iovec, 1, place)
    wait_until(lambda: bool(guest.store.core.activation.in_host))
    received = 0
    while received < 4 * 65536:
        received += len(os.read(reader, 1 << 16))
    assert running.result() is Errno.SUCCESS
    assert guest.get("<I", place) == 4 * 65536
    os.close(reader)


def test_what_a_closed_standard_stream_leaves_free_is_not_taken(tmp_path: Path) -> None:
    """`print` and the tracebacks of the host would go into the guest's files."""
    script = (
        "import os, sys\n"
        "from tests.wasi.guest import Guest\n"
        "Guest()\n"
        "out = os.dup(1)\n"
        "for number in range(3):\n"
        "    os.close(number)\n"
        "guest = Guest(stdin=os.devnull, preopens=['/:' + sys.argv[1]], stderr=os.devnull,"
        " allow_sockets=['*:*'])\n"
        "guest.do('sock_open', 1, 1, 64)\n"
        "table = guest.wasi._wasi.table._open\n"
        "free = [number for number in range(3) if not os.path.exists(f'/proc/self/fd/{number}')]\n"
        "os.write(out, repr((sorted(table), free)).encode())"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path)], capture_output=True, check=True
    )
    assert done.stdout == b"([0, 1, 2, 3], [0, 1, 2])"


def test_a_guest_that_does_not_want_to_wait_gets_again() -> None:
    reader, writer = os.pipe()
    guest = Guest(stdin=reader)
    guest.do("fd_fdstat_set_flags", 0, abi.FDFLAGS_NONBLOCK)
    iovec = guest.iovec(guest.room(8), 8)
    assert guest.call("fd_read", 0, iovec, 1, RESULT) is Errno.AGAIN
    os.write(writer, b"now")
    assert guest.read(0) == b"now"
    assert os.get_blocking(reader)  # it is the host's, and others use it
    os.close(writer)
    assert guest.read(0) == b""
    os.close(reader)


def test_a_guest_that_does_not_want_to_wait_writes_what_there_is_room_for() -> None:
    reader, writer = os.pipe()
    guest = Guest(stdout=writer)
    guest.do("fd_fdstat_set_flags", 1, abi.FDFLAGS_NONBLOCK)
    iovec, written = guest.iovec(0, 4 * 65536), 0

    def fill() -> Errno:
        nonlocal written
        while not (errno := guest.call("fd_write", 1, iovec, 1, RESULT)):
            written += guest.get("<I")
        return errno

    filling = Running(fill)
    try:
        assert filling.result() is Errno.AGAIN
        assert len(os.read(reader, 4 * 65536)) == written
    finally:
        os.close(reader)
        os.close(writer)


def test_terminals_and_others_are_told_apart() -> None:
    main, terminal = os.openpty()
    guest = Guest(stdin=terminal, stdout=DEVNULL)
    guest.do("fd_fdstat_get", 0, RESULT)
    filetype, _, rights, _ = guest.get("<BxH4xQQ")
    assert filetype == FileType.CHARACTER_DEVICE
    assert not rights & (abi.FD_SEEK | abi.FD_TELL)
    guest.do("fd_fdstat_get", 1, RESULT)
    filetype, _, rights, _ = guest.get("<BxH4xQQ")
    assert filetype == FileType.CHARACTER_DEVICE
    assert rights & abi.FD_SEEK
    os.close(main)
    os.close(terminal)


def test_pieces_that_overlap_are_no_endless_write(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streams, "MOST_WRITTEN", 3 << 16)
    out = io.BytesIO()
    guest = Guest(stdout=out)
    pieces = guest.put(struct.pack("<II", 0, 1 << 16) * 1024)[0]
    guest.do("fd_write", 1, pieces, 1024, RESULT)
    assert guest.get("<I") == len(out.getvalue()) == 3 << 16


def test_a_long_write_to_a_file_object_is_interrupted() -> None:
    sizes: list[int] = []
    interrupters: list[Running] = []

    class Slow:
        def write(self, data: bytes) -> None:
            sizes.append(len(data))
            if not interrupters:
                interrupters.append(Running(guest.store.interrupt))
                wait_until(lambda: guest.store.core.interrupted)

    guest = Guest(stdout=Slow())
    pieces = guest.put(struct.pack("<II", 0, 1 << 16) * 1024)[0]
    with pytest.raises(Trap):
        guest.call("fd_write", 1, pieces, 1024, RESULT)
    assert sizes == [1 << 16]
    assert interrupters[0].result() is True


def test_an_error_of_a_file_object_is_that_of_the_call() -> None:
    from wasmedge_runtime import HostFunctionError

    class Broken(io.RawIOBase):
        def write(self, data: Any) -> int:
            raise RuntimeError("the disk is on fire")

    guest = Guest(stdout=Broken())
    with pytest.raises(HostFunctionError, match="the disk is on fire") as caught:
        guest.write_errno(1, b"x")
    assert isinstance(caught.value.__cause__, RuntimeError)


def test_a_file_object_that_takes_less_makes_a_short_write() -> None:
    class Narrow(io.RawIOBase):
        def write(self, data: Any) -> int:
            return 2

    assert Guest(stdout=Narrow()).write(1, b"12345") == 2

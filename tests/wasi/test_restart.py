"""WasiImportObject.restart: each run begins with what was configured."""

from __future__ import annotations

import gc
import io
import os
import pty
from collections.abc import Iterator
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest

from tests.wasi.guest import FREE, PREOPENED, RESULT, Guest, tree
from wasmedge_runtime import Function, WasmEdgeError
from wasmedge_runtime.wasi import abi
from wasmedge_runtime.wasi.abi import Errno


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    ends = os.pipe()
    yield ends
    for end in ends:
        os.close(end)


def descriptors() -> dict[str, str]:
    """What this process has open."""
    gc.collect()
    return {
        number: os.readlink(f"/proc/self/fd/{number}")
        for number in os.listdir("/proc/self/fd")
        if os.path.exists(f"/proc/self/fd/{number}")
    }


def fdstat(guest: Guest, fd: int) -> tuple[int, int, int]:
    """Flags, rights, inheriting rights."""
    guest.do("fd_fdstat_get", fd, RESULT)
    _, flags, rights, inheriting = guest.get("<BxHxxxxQQ")
    return flags, rights, inheriting


def names(guest: Guest) -> list[bytes]:
    """Of the preopened folders, as C libraries find them."""
    found = []
    for fd in range(PREOPENED, PREOPENED + 10):
        if guest.call("fd_prestat_get", fd, RESULT):
            break
        length = guest.get("<xxxxI")
        guest.do("fd_prestat_dir_name", fd, FREE, length)
        found.append(guest.memory.get_data(FREE, length))
    return found


def test_what_the_program_opened_is_closed(tmp_path: Path) -> None:
    guest = Guest(preopens={"/": tree(tmp_path, file="x")}, allow_sockets=["127.0.0.1:*"])
    guest.wasi.restart()
    before = descriptors()
    opened = guest.open("file")
    guest.do("sock_open", 1, 2, RESULT)
    guest.wasi.restart()
    assert guest.call("fd_tell", opened, RESULT) is Errno.BADF
    assert descriptors() == before
    assert guest.open("file") == opened


def test_what_the_program_closed_or_renumbered_is_back(tmp_path: Path) -> None:
    output = tmp_path / "output"
    folders = {"/a": tree(tmp_path / "a", file="in a"), "/b": tree(tmp_path / "b", file="in b")}
    guest = Guest(preopens=folders, stdout=output)
    for _ in range(2):
        guest.wasi.restart()
        opened = descriptors()
        assert names(guest) == [b"/a", b"/b"]
        assert guest.content("file") == b"in a"
        guest.write(1, b"line\n")
        guest.do("fd_renumber", PREOPENED + 1, PREOPENED)
        assert names(guest) == [b"/b"]
        assert guest.content("file") == b"in b"
        guest.do("fd_renumber", PREOPENED, 1)
        guest.do("fd_close", 0)
        guest.do("fd_close", 2)
        guest.wasi.restart()
        assert descriptors() == opened
    assert output.read_bytes() == b"line\nline\n"


def test_flags_and_rights_are_as_they_were(tmp_path: Path) -> None:
    guest = Guest(preopens={"/": tmp_path}, stdin=b"input", stdout=io.BytesIO(), stderr=os.devnull)
    before = [fdstat(guest, fd) for fd in range(PREOPENED + 1)]
    for _ in range(2):
        for fd in range(PREOPENED + 1):
            guest.call("fd_fdstat_set_flags", fd, abi.FDFLAGS_NONBLOCK)
            guest.do("fd_fdstat_set_rights", fd, 0, 0)
        assert guest.call("fd_read", 0, 0, 0, RESULT) is Errno.BADF
        guest.wasi.restart()
        assert [fdstat(guest, fd) for fd in range(PREOPENED + 1)] == before


def test_a_folder_that_was_set_to_append_can_be_again(tmp_path: Path) -> None:
    guest = Guest(preopens={"/": tmp_path})
    for _ in range(2):
        guest.do("fd_fdstat_set_flags", PREOPENED, abi.FDFLAGS_APPEND)
        guest.wasi.restart()
        assert fdstat(guest, PREOPENED)[0] == 0


def test_the_exit_code_is_forgotten() -> None:
    guest = Guest()
    leave = guest.exports["proc_exit"]
    assert isinstance(leave, Function)
    leave(7)
    assert (guest.wasi.wasi_get_exit_code(), guest.wasi.exited) == (7, True)
    guest.wasi.restart()
    assert (guest.wasi.wasi_get_exit_code(), guest.wasi.exited) == (0, False)


def test_input_that_is_given_as_bytes_is_read_from_its_start_again() -> None:
    guest = Guest(stdin=b"some input")
    for _ in range(3):
        assert guest.read(0, 4) == b"some"
        guest.wasi.restart()
    guest.do("fd_close", 0)
    guest.wasi.restart()
    assert guest.read(0) == b"some input"


def test_other_streams_go_on_where_they_are(tmp_path: Path) -> None:
    tree(tmp_path, input="some input")
    collected = io.BytesIO()
    guest = Guest(stdin=tmp_path / "input", stdout=collected, stderr=tmp_path / "log")
    for part in (b"some", b" inp", b"ut"):
        assert guest.read(0, 4) == part
        guest.write(1, part)
        guest.write(2, part)
        guest.wasi.restart()
    assert collected.getvalue() == b"some input"
    assert (tmp_path / "log").read_bytes() == b"some input"


def test_a_listing_begins_anew(tmp_path: Path) -> None:
    guest = Guest(preopens={"/": tree(tmp_path, a="", b="")})
    guest.do("fd_readdir", PREOPENED, FREE, 4096, 0, RESULT)
    guest.do("fd_readdir", PREOPENED, FREE, 4096, 2, RESULT)
    guest.wasi.restart()
    assert guest.call("fd_readdir", PREOPENED, FREE, 4096, 2, RESULT) is Errno.INVAL
    guest.do("fd_readdir", PREOPENED, FREE, 4096, 0, RESULT)


def test_what_names_stood_for_is_forgotten() -> None:
    guest = Guest(allow_sockets=["host.example:1"])
    rules, address = guest.wasi._wasi.sockets, ip_address("9.9.9.9")
    rules.learn("host.example", [address])
    assert rules.allows(address, 1)
    guest.wasi.restart()
    assert not rules.allows(address, 1)
    assert rules.allows_name("host.example")


def test_a_restart_goes_back_to_the_last_init(tmp_path: Path) -> None:
    guest = Guest(["old"], preopens={"/old": tmp_path})
    guest.wasi.restart()
    guest.wasi.init_wasi(["new"], preopens={"/new": tmp_path})
    guest.do("fd_close", PREOPENED)
    guest.wasi.restart()
    assert names(guest) == [b"/new"]
    assert guest.wasi._wasi.args == [b"new"]


def test_a_pipe_that_the_program_closes_is_closed_when_it_runs_once() -> None:
    reader, writer = os.pipe()
    guest = Guest(stdout=writer)
    os.close(writer)
    guest.write(1, b"all")
    guest.do("fd_close", 1)
    with open(reader, "rb") as file:
        assert file.read() == b"all"
    with pytest.raises(WasmEdgeError, match=r"closed its descriptor 1.*before the first run"):
        guest.wasi.restart()
    with pytest.raises(WasmEdgeError, match="cannot restart"):  # as long as nobody does it
        guest.wasi.restart()
    guest.wasi.init_wasi()
    guest.wasi.restart()


def test_a_pipe_that_the_program_closes_is_kept_for_its_next_run(pipe: tuple[int, int]) -> None:
    reader, writer = pipe
    guest = Guest(stdout=writer)
    guest.wasi.restart()
    for _ in range(3):
        guest.write(1, b"a part")
        guest.do("fd_close", 1)
        guest.wasi.restart()
    assert os.read(reader, 100) == b"a part" * 3


def test_a_pipe_that_got_another_number_is_kept(pipe: tuple[int, int]) -> None:
    reader, writer = pipe
    guest = Guest(stdout=writer)
    guest.do("fd_renumber", 1, 2)
    guest.wasi.restart()
    guest.write(1, b"here")
    assert os.read(reader, 100) == b"here"


@pytest.mark.parametrize("kind", ["file", "devnull", "bytes", "terminal"])
def test_which_streams_can_be_closed_before_the_first_restart(kind: str, tmp_path: Path) -> None:
    """Those whose end nobody else sees."""
    tree(tmp_path, input="some input")
    main, terminal = pty.openpty()
    sources: dict[str, Any] = {
        "file": tmp_path / "input",
        "devnull": os.devnull,
        "bytes": b"input",
        "terminal": terminal,
    }
    guest = Guest(stdin=sources[kind], stdout=os.devnull, stderr=os.devnull)
    for fd in range(3):
        guest.do("fd_close", fd)
    if kind == "terminal":
        with pytest.raises(WasmEdgeError, match="descriptor 0"):
            guest.wasi.restart()
    else:
        guest.wasi.restart()
        assert guest.read(0, 4) in (b"some", b"inpu", b"")
    os.close(main)
    os.close(terminal)


def test_closing_closes_what_was_kept(tmp_path: Path) -> None:
    before = descriptors()
    guest = Guest(preopens={"/": tmp_path})
    guest.wasi.restart()
    guest.do("fd_close", PREOPENED)
    guest.wasi.close()
    assert descriptors() == before
    with pytest.raises(WasmEdgeError, match="closed"):
        guest.wasi.restart()

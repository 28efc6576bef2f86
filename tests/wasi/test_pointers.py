"""Whatever numbers a guest passes, it gets an errno: never an exception, never much memory."""

from __future__ import annotations

import resource
import struct
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.wasi.guest import PAGES, RESULT, Guest, export_name, tree
from wasmedge_runtime.wasi import abi
from wasmedge_runtime.wasi.abi import Errno
from wasmedge_runtime.wasi.functions import FUNCTIONS, Row

END = PAGES * 65536
ENDS_PROGRAM = ("proc_exit", "proc_raise")
CALLED = [row for row in FUNCTIONS if row.name not in ENDS_PROGRAM]

# Numbers that mean something: descriptors, small counts, the end of memory, the widest values.
NUMBERS = st.one_of(
    st.sampled_from([0, 1, 2, 3, 4, 8, RESULT, END - 8, END - 1, END, END + 1]),
    st.sampled_from([2**31 - 1, 2**31, 2**32 - 8, 2**32 - 1]),
    st.integers(0, END),
    st.integers(0, 2**32 - 1),
)


@pytest.fixture
def guest(tmp_path: Path) -> Guest:
    return make_guest(tmp_path)


@pytest.fixture(scope="module")
def abused(tmp_path_factory: pytest.TempPathFactory) -> Guest:
    """A guest in any state: whatever the calls before have made of it."""
    return make_guest(tmp_path_factory.mktemp("guest"))


def make_guest(folder: Path) -> Guest:
    return Guest(
        ["program", "argument"],
        {"A": "1"},
        {"/": tree(folder / "folder", file="content")},
        stdin=b"input",
        stdout="/dev/null",
        stderr="/dev/null",
    )


@pytest.mark.parametrize("row", CALLED, ids=export_name)
def test_the_widest_numbers_are_refused(guest: Guest, row: Row) -> None:
    numbers = [0xFFFFFFFF if kind == "i" else 0xFFFFFFFFFFFFFFFF for kind in row.parameters]
    errno = guest.call(export_name(row), *numbers)
    assert (errno is Errno.SUCCESS) == (row.name == "sched_yield")


@pytest.mark.parametrize("row", CALLED, ids=export_name)
@settings(max_examples=60, derandomize=True, deadline=None)
@given(data=st.data())
def test_any_numbers_give_an_errno(abused: Guest, row: Row, data: st.DataObject) -> None:
    numbers = [data.draw(NUMBERS) for _ in row.parameters]
    if row.name == "fd_allocate":
        numbers[0] = 3  # no file takes all of the disk
    if row.name == "poll_oneoff":
        numbers[0] = END - 1  # nor waits for years
    abused.call(export_name(row), *numbers)


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("args_get", (END, RESULT)),
        ("args_get", (RESULT, END - 1)),
        ("environ_sizes_get", (END - 3, RESULT)),
        ("random_get", (END - 3, 4)),
        ("random_get", (0, 0xFFFFFFFF)),
        ("fd_prestat_get", (3, END - 7)),
        ("fd_prestat_dir_name", (3, END, 1)),
        ("fd_fdstat_get", (3, END - 23)),
        ("fd_filestat_get", (3, END - 63)),
        ("clock_time_get", (0, 0, END - 7)),
        ("fd_readdir", (3, END - 16, 17, 0, RESULT)),
        ("fd_read", (0, END - 7, 1, RESULT)),
        ("fd_write", (1, 0, 0xFFFFFFFF, RESULT)),
        ("path_filestat_get", (3, 0, END - 1, 2, RESULT)),
        ("poll_oneoff", (END - 47, 0, 1, RESULT)),
        ("poll_oneoff", (0, END - 31, 1, RESULT)),
    ],
)
def test_a_pointer_that_leads_outside_is_a_fault(
    guest: Guest, name: str, arguments: tuple[int, ...]
) -> None:
    assert guest.call(name, *arguments) is Errno.FAULT


def test_an_iovec_that_leads_outside_is_a_fault(guest: Guest) -> None:
    fd = guest.open("file")
    for place, size in ((END - 3, 4), (0, 0xFFFFFFFF), (0xFFFFFFFF, 1), (0xFFFFFFF0, 0xFFFFFFF0)):
        iovec = guest.put(struct.pack("<II", place, size))[0]
        assert guest.call("fd_read", fd, iovec, 1, RESULT) is Errno.FAULT
        assert guest.call("fd_pread", fd, iovec, 1, 0, RESULT) is Errno.FAULT
        assert guest.call("fd_write", 1, iovec, 1, RESULT) is Errno.FAULT


def test_nothing_is_opened_when_its_number_cannot_be_stored(guest: Guest) -> None:
    path = guest.put("file")
    before = guest.wasi._wasi.table._open.keys() | set()
    errno = guest.call("path_open", 3, 0, *path, 0, abi.FD_READ, 0, 0, END - 3)
    assert errno is Errno.FAULT
    assert guest.wasi._wasi.table._open.keys() == before


def test_more_pieces_than_the_system_takes_make_a_short_write(guest: Guest, tmp_path: Path) -> None:
    """Not an error: the program goes on with what is left."""
    inside = Guest(preopens={"/": tree(tmp_path)})
    fd = inside.open("file", abi.OFLAGS_CREAT, abi.FD_WRITE)
    byte, _ = inside.put(b"x")
    pieces = inside.put(struct.pack("<II", byte, 1) * 3000)[0]
    inside.do("fd_write", fd, pieces, 3000, RESULT)
    assert inside.get("<I") == 1024
    assert (tmp_path / "file").read_bytes() == b"x" * 1024


def test_long_paths_are_refused_before_they_are_copied(guest: Guest) -> None:
    assert guest.path_call("path_unlink_file", b"x" * 5000) is Errno.NAMETOOLONG
    assert guest.call("path_unlink_file", 3, 0, 0xFFFFFFFF) is Errno.NAMETOOLONG


def test_a_module_without_a_memory_gets_faults_too() -> None:
    from tests.wat import wat
    from wasmedge_runtime import VM, Configure, HostRegistration

    text = """(module
      (import "wasi_snapshot_preview1" "args_sizes_get" (func $f (param i32 i32) (result i32)))
      (import "wasi_snapshot_preview1" "sched_yield" (func $y (result i32)))
      (func (export "ask") (result i32) (call $f (i32.const 0) (i32.const 4)))
      (func (export "yield") (result i32) (call $y)))"""
    with VM(Configure(HostRegistration.WASI)) as vm:
        assert vm.run_wasm_buffer(wat(text), "ask") == [Errno.FAULT]
        assert vm.run_wasm_buffer(wat(text), "yield") == [Errno.SUCCESS]


def test_a_guest_does_not_take_the_last_descriptor_of_the_process(tmp_path: Path) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (1000, hard))
    try:
        guest = Guest(preopens={"/": tree(tmp_path, file="x")})
        path = guest.put("file")
        count = 0
        while guest.call("path_open", 3, 0, *path, 0, abi.FD_READ, 0, 0, RESULT) is Errno.SUCCESS:
            count += 1
        assert guest.open_errno("file") is Errno.MFILE
        assert count == 500 - 4
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))

"""Files and directories: the rules of the specification that the official programs do not show."""

from __future__ import annotations

import ctypes
import errno
import os
import struct
from pathlib import Path

import pytest

from tests.wasi.guest import PREOPENED, RESULT, Guest, tree
from wasmedge_runtime.wasi import abi, linux
from wasmedge_runtime.wasi.abi import Errno, FileType

READ_WRITE = abi.FILE_RIGHTS
CREATE, EXCLUSIVE, TRUNCATE = abi.OFLAGS_CREAT, abi.OFLAGS_EXCL, abi.OFLAGS_TRUNC
DIRECTORY = abi.OFLAGS_DIRECTORY


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tree(tmp_path / "folder", file="content")


@pytest.fixture
def guest(folder: Path) -> Guest:
    return Guest(preopens={"/": folder})


@pytest.mark.parametrize(
    ("oflags", "path", "errno"),
    [
        (0, "new", Errno.NOENT),
        (TRUNCATE, "new", Errno.NOENT),
        (EXCLUSIVE | CREATE, "file", Errno.EXIST),
        (DIRECTORY, "file", Errno.NOTDIR),
        (DIRECTORY | CREATE, "new", Errno.INVAL),
        (DIRECTORY, "new", Errno.NOENT),
        (CREATE, ".", Errno.ISDIR),
        (16, "file", Errno.INVAL),
        (0, "", Errno.NOENT),
        (0, "fi\0le", Errno.INVAL),
        (0, "x" * 300, Errno.NAMETOOLONG),
    ],
)
def test_opening_is_refused(guest: Guest, oflags: int, path: str, errno: Errno) -> None:
    assert guest.open_errno(path, oflags, READ_WRITE if not oflags & DIRECTORY else 0) is errno


def test_creating_truncating_and_appending(guest: Guest, folder: Path) -> None:
    guest.open("new", CREATE | EXCLUSIVE, READ_WRITE)
    assert (folder / "new").read_bytes() == b""
    fd = guest.open("file", CREATE, READ_WRITE, fdflags=abi.FDFLAGS_APPEND)
    assert guest.write(fd, b"+") == 1
    assert (folder / "file").read_bytes() == b"content+"
    guest.open("file", TRUNCATE, abi.FD_READ)
    assert (folder / "file").read_bytes() == b""


def test_append_is_switched_on_and_off(guest: Guest, folder: Path) -> None:
    fd = guest.open("file", 0, READ_WRITE)
    guest.do("fd_fdstat_set_flags", fd, abi.FDFLAGS_APPEND)
    guest.write(fd, b"+")
    guest.do("fd_fdstat_set_flags", fd, 0)
    guest.do("fd_seek", fd, 0, abi.WHENCE_SET, RESULT)
    guest.write(fd, b"C")
    assert (folder / "file").read_bytes() == b"Content+"
    assert guest.call("fd_fdstat_set_flags", fd, abi.FDFLAGS_SYNC) is Errno.INVAL


def test_rights_decide_how_a_file_is_opened(guest: Guest) -> None:
    reading = guest.open("file", 0, abi.FD_READ)
    assert guest.write_errno(reading, b"x") is Errno.BADF
    assert guest.call("fd_seek", reading, 0, 0, RESULT) is Errno.NOTCAPABLE
    writing = guest.open("file", 0, abi.FD_WRITE)
    iovec = guest.iovec(guest.room(8), 8)
    assert guest.call("fd_read", writing, iovec, 1, RESULT) is Errno.BADF
    guest.do("fd_fdstat_get", writing, RESULT)
    assert guest.get("<BxH4xQQ") == (FileType.REGULAR_FILE, 0, abi.FD_WRITE, 0)


def test_rights_are_given_up_and_not_taken_back(guest: Guest) -> None:
    every = abi.ALL_RIGHTS
    guest.do("fd_fdstat_set_rights", PREOPENED, abi.DIRECTORY_RIGHTS, every & ~abi.FD_WRITE)
    assert guest.open_errno("file", 0, READ_WRITE) is Errno.NOTCAPABLE
    errno = guest.call("fd_fdstat_set_rights", PREOPENED, abi.DIRECTORY_RIGHTS, every)
    assert errno is Errno.NOTCAPABLE
    rights = abi.DIRECTORY_RIGHTS & ~abi.PATH_UNLINK_FILE
    guest.do("fd_fdstat_set_rights", PREOPENED, rights, 0)
    assert guest.path_call("path_unlink_file", "file") is Errno.PERM


def test_seeking_and_telling(guest: Guest) -> None:
    fd = guest.open("file", 0, READ_WRITE)
    for offset, whence, position in ((3, 0, 3), (2, 1, 5), (-1, 2, 6), (0, 1, 6)):
        guest.do("fd_seek", fd, offset, whence, RESULT)
        assert guest.get("<Q") == position
    guest.do("fd_tell", fd, RESULT)
    assert guest.get("<Q") == 6
    assert guest.call("fd_seek", fd, -1, 0, RESULT) is Errno.INVAL
    assert guest.call("fd_seek", fd, 0, 3, RESULT) is Errno.INVAL


def test_reading_and_writing_at_a_place_moves_nothing(guest: Guest, folder: Path) -> None:
    fd = guest.open("file", 0, READ_WRITE)
    place = guest.room(16)
    guest.do("fd_pread", fd, guest.iovec(place, 3), 1, 4, RESULT)
    assert guest.memory.get_data(place, guest.get("<I")) == b"ent"
    guest.do("fd_pwrite", fd, guest.iovec(*guest.put(b"XY")), 1, 1 << 33, RESULT)
    assert (folder / "file").stat().st_size == (1 << 33) + 2
    assert guest.read(fd, 4) == b"cont"
    assert guest.call("fd_pread", fd, 0, 0, 1 << 63, RESULT) is Errno.INVAL


def test_several_pieces_are_one_read_and_one_write(guest: Guest, folder: Path) -> None:
    fd = guest.open("file", 0, READ_WRITE)
    first, second = guest.put(b"ab"), guest.put(b"cde")
    pieces = guest.put(struct.pack("<IIIIII", *first, 0, 0, *second))[0]
    guest.do("fd_write", fd, pieces, 3, RESULT)
    assert guest.get("<I") == 5
    assert (folder / "file").read_bytes() == b"abcdent"


def test_room_is_not_made_by_writing_where_the_system_cannot_reserve_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def emulated(*args: int) -> None:
        raise AssertionError("the C library writes into every block")

    def unsupported(*args: int) -> int:
        ctypes.set_errno(errno.EOPNOTSUPP)
        return -1

    monkeypatch.setattr(os, "posix_fallocate", emulated)
    monkeypatch.setattr(linux, "_fallocate", unsupported)
    guest = Guest(preopens={"/": tree(tmp_path, file="x")})
    fd = guest.open("file", 0, abi.FD_WRITE | abi.FD_ALLOCATE)
    assert guest.call("fd_allocate", fd, 0, 1 << 40) is Errno.NOTSUP


def test_sizes_are_set_and_space_is_allocated(guest: Guest, folder: Path) -> None:
    fd = guest.open("file", 0, READ_WRITE)
    guest.do("fd_filestat_set_size", fd, 3)
    assert (folder / "file").read_bytes() == b"con"
    guest.do("fd_allocate", fd, 0, 100)
    assert (folder / "file").stat().st_size == 100
    assert guest.call("fd_filestat_set_size", fd, 1 << 63) is Errno.INVAL
    guest.do("fd_advise", fd, 0, 10, 3)
    assert guest.call("fd_advise", fd, 0, 10, 6) is Errno.INVAL
    guest.do("fd_sync", fd)
    guest.do("fd_datasync", fd)


def test_what_is_known_about_a_file(guest: Guest, folder: Path) -> None:
    status = os.stat(folder / "file")
    expected = (
        *(status.st_dev, status.st_ino, FileType.REGULAR_FILE, 1, 7),
        *(status.st_atime_ns, status.st_mtime_ns, status.st_ctime_ns),
    )
    guest.do("path_filestat_get", PREOPENED, 0, *guest.put("file"), RESULT)
    assert guest.get("<QQB7xQQQQQ") == expected
    guest.do("fd_filestat_get", guest.open("file"), RESULT)
    assert guest.get("<QQB7xQQQQQ") == expected
    os.utime(folder / "file", ns=(-5, -5))
    guest.do("path_filestat_get", PREOPENED, 0, *guest.put("file"), RESULT)
    assert guest.get("<40xQQ") == (0, 0)


def test_times_are_set(guest: Guest, folder: Path) -> None:
    path = guest.put("file")
    set_both = abi.FST_ATIM | abi.FST_MTIM
    guest.do("path_filestat_set_times", PREOPENED, 0, *path, 10**18 + 5, 7, set_both)
    status = os.stat(folder / "file")
    assert (status.st_atime_ns, status.st_mtime_ns) == (10**18 + 5, 7)
    fd = guest.open("file", 0, READ_WRITE)
    guest.do("fd_filestat_set_times", fd, 9, 0, abi.FST_ATIM)
    status = os.stat(folder / "file")
    assert (status.st_atime_ns, status.st_mtime_ns) == (9, 7)
    guest.do("fd_filestat_set_times", fd, 0, 0, abi.FST_MTIM_NOW)
    assert os.stat(folder / "file").st_mtime_ns > 10**18
    for flags in (abi.FST_ATIM | abi.FST_ATIM_NOW, 16):
        assert guest.call("fd_filestat_set_times", fd, 0, 0, flags) is Errno.INVAL


def test_the_times_of_a_link_are_its_own(guest: Guest, folder: Path) -> None:
    (folder / "link").symlink_to("file")
    before = os.stat(folder / "file").st_mtime_ns
    path = guest.put("link")
    guest.do("path_filestat_set_times", PREOPENED, 0, *path, 0, 77, abi.FST_MTIM)
    assert os.lstat(folder / "link").st_mtime_ns == 77
    assert os.stat(folder / "file").st_mtime_ns == before
    guest.do("path_filestat_set_times", PREOPENED, 1, *path, 0, 88, abi.FST_MTIM)
    assert os.stat(folder / "file").st_mtime_ns == 88


def listing(guest: Guest, fd: int, size: int, cookie: int = 0) -> tuple[list[bytes], int, int]:
    """The whole names that a buffer of this size holds, the last cookie, and what was used."""
    place = guest.room(size)
    guest.do("fd_readdir", fd, place, size, cookie, RESULT)
    used = guest.get("<I")
    data = guest.memory.get_data(place, used)
    names = []
    at = 0
    while at + 24 <= used:
        following, _, length, _ = struct.unpack_from("<QQIB", data, at)
        if at + 24 + length > used:
            break
        names.append(data[at + 24 : at + 24 + length])
        cookie = following
        at += 24 + length
    return names, cookie, used


def test_a_directory_is_listed_in_portions(guest: Guest, folder: Path) -> None:
    expected = {f"entry-{number:03}" for number in range(200)}
    for name in expected:
        (folder / name).touch()
    seen: list[bytes] = []
    cookie = 0
    used = size = 512
    free = guest._free
    while used == size:
        guest._free = free
        names, cookie, used = listing(guest, PREOPENED, size, cookie)
        seen += names
    assert sorted(seen) == sorted(os.fsencode(name) for name in {*expected, "file", ".", ".."})


def test_a_cookie_is_good_for_coming_back(guest: Guest, folder: Path) -> None:
    for number in range(20):
        (folder / f"{number}").touch()
    every, _, _ = listing(guest, PREOPENED, 4096)
    some, cookie, _ = listing(guest, PREOPENED, 200)
    assert some == every[: len(some)]
    rest, _, _ = listing(guest, PREOPENED, 4096, cookie)
    assert rest == every[len(some) :]
    assert listing(guest, PREOPENED, 4096)[0] == every
    assert guest.call("fd_readdir", PREOPENED, 0, 100, 99, RESULT) is Errno.INVAL


def test_removing_what_was_listed_loses_no_entry(guest: Guest, folder: Path) -> None:
    """As `rm -r` does it: list some, remove them, go on."""
    for number in range(300):
        (folder / f"entry-{number:03}").touch()
    cookie, used, size = 0, 400, 400
    free = guest._free
    while used == size:
        guest._free = free
        names, cookie, used = listing(guest, PREOPENED, size, cookie)
        for name in names:
            if name not in (b".", b".."):
                os.unlink(os.fsencode(folder) + b"/" + name)
    assert os.listdir(folder) == []


def test_entries_tell_what_they_are(guest: Guest, folder: Path) -> None:
    (folder / "sub").mkdir()
    (folder / "link").symlink_to("file")
    os.mkfifo(folder / "pipe")
    place = guest.room(4096)
    guest.do("fd_readdir", PREOPENED, place, 4096, 0, RESULT)
    data = guest.memory.get_data(place, guest.get("<I"))
    kinds = {}
    at = 0
    while at < len(data):
        _, inode, length, kind = struct.unpack_from("<QQIB", data, at)
        name = data[at + 24 : at + 24 + length].decode()
        kinds[name] = FileType(kind)
        if name not in (".", ".."):
            assert inode == os.lstat(folder / name).st_ino
        at += 24 + length
    assert kinds == {
        ".": FileType.DIRECTORY,
        "..": FileType.DIRECTORY,
        "file": FileType.REGULAR_FILE,
        "sub": FileType.DIRECTORY,
        "link": FileType.SYMBOLIC_LINK,
        "pipe": FileType.UNKNOWN,
    }


def test_names_that_are_not_utf_8_are_used_as_they_are(guest: Guest, folder: Path) -> None:
    name = b"caf\xe9"
    guest.open(name, CREATE, READ_WRITE)
    assert name in os.listdir(os.fsencode(folder))
    assert name in listing(guest, PREOPENED, 4096)[0]


def test_removing_and_renaming(guest: Guest, folder: Path) -> None:
    assert guest.path_call("path_create_directory", "sub") is Errno.SUCCESS
    assert guest.path_call("path_create_directory", "sub") is Errno.EXIST
    assert guest.path_call("path_unlink_file", "sub") is Errno.ISDIR
    assert guest.path_call("path_remove_directory", "file") is Errno.NOTDIR
    old, new = guest.put("file"), guest.put("sub/moved")
    guest.do("path_rename", PREOPENED, *old, PREOPENED, *new)
    assert (folder / "sub" / "moved").read_text() == "content"
    assert guest.path_call("path_remove_directory", "sub/") is Errno.NOTEMPTY
    assert guest.path_call("path_unlink_file", "sub/moved") is Errno.SUCCESS
    assert guest.path_call("path_remove_directory", "sub/") is Errno.SUCCESS
    for path in (".", "./", "sub/.", "./.."):
        assert guest.path_call("path_remove_directory", path) is not Errno.SUCCESS


def test_links_are_made_and_read(guest: Guest, folder: Path) -> None:
    target, path = guest.put("../folder/file"), guest.put("link")
    guest.do("path_symlink", *target, PREOPENED, *path)
    assert os.readlink(folder / "link") == "../folder/file"
    place = guest.room(64)
    for size in (64, 5, 0):
        guest.do("path_readlink", PREOPENED, *path, place, size, RESULT)
        assert guest.memory.get_data(place, guest.get("<I")) == b"../folder/file"[:size]
    assert guest.path_call("path_readlink", "file", place, 64, RESULT) is Errno.INVAL
    guest.do("path_link", PREOPENED, 0, *guest.put("file"), PREOPENED, *guest.put("hard"))
    assert (folder / "hard").stat().st_nlink == 2


def test_descriptors_have_the_lowest_free_number(guest: Guest) -> None:
    assert [guest.open("file") for _ in range(3)] == [4, 5, 6]
    guest.do("fd_close", 4)
    guest.do("fd_close", 0)
    assert [guest.open("file"), guest.open("file")] == [0, 4]
    assert guest.call("fd_close", 9) is Errno.BADF


def test_a_descriptor_is_renumbered(guest: Guest) -> None:
    first = guest.open("file", 0, abi.FD_READ)
    second = guest.open("file", 0, abi.FD_READ)
    guest.read(first, 3)
    guest.do("fd_renumber", first, second)
    assert guest.read(second) == b"tent"
    assert guest.call("fd_renumber", first, second) is Errno.BADF
    assert guest.call("fd_renumber", second, 99) is Errno.BADF
    guest.do("fd_renumber", second, second)


def test_what_a_directory_cannot_do(guest: Guest) -> None:
    iovec = guest.iovec(guest.room(8), 8)
    assert guest.call("fd_read", PREOPENED, iovec, 1, RESULT) is Errno.ISDIR
    assert guest.call("fd_seek", PREOPENED, 0, 0, RESULT) is Errno.ISDIR
    assert guest.call("fd_allocate", PREOPENED, 0, 1) is Errno.ISDIR
    fd = guest.open("file")
    assert guest.open_errno("x", fd=fd) is Errno.NOTDIR
    assert guest.call("fd_readdir", fd, 0, 100, 0, RESULT) is Errno.NOTCAPABLE


def test_preopened_folders_are_listed_by_name(tmp_path: Path) -> None:
    guest = Guest(preopens=[f"/a:{tmp_path}", f"data:{tmp_path}:readonly"])
    place = guest.room(16)
    for fd, name in ((3, b"/a"), (4, b"data")):
        guest.do("fd_prestat_get", fd, RESULT)
        assert guest.get("<B3xI") == (0, len(name))
        guest.do("fd_prestat_dir_name", fd, place, len(name))
        assert guest.memory.get_data(place, len(name)) == name
    assert guest.call("fd_prestat_get", 5, RESULT) is Errno.BADF
    assert guest.call("fd_prestat_get", 0, RESULT) is Errno.BADF
    assert guest.call("fd_prestat_dir_name", 4, place, 3) is Errno.NAMETOOLONG


def test_opening_a_pipe_waits_for_nobody(guest: Guest, folder: Path) -> None:
    os.mkfifo(folder / "pipe")
    fd = guest.open("pipe", 0, abi.FD_READ, fdflags=abi.FDFLAGS_NONBLOCK)
    writer = os.open(folder / "pipe", os.O_WRONLY)
    iovec = guest.iovec(guest.room(8), 8)
    assert guest.call("fd_read", fd, iovec, 1, RESULT) is Errno.AGAIN
    os.write(writer, b"abc")
    assert guest.read(fd, 8) == b"abc"
    os.close(writer)

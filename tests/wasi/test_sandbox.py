"""Nothing outside a preopened folder can be reached: each way is tried, by both ways of opening."""

from __future__ import annotations

import contextlib
import errno
import gc
import os
import threading
from pathlib import Path

import pytest

from tests.wasi.guest import PREOPENED, RESULT, Guest, tree
from wasmedge_runtime.wasi import abi, linux, sandbox
from wasmedge_runtime.wasi.abi import Errno, WasiError

WRITE = abi.FD_READ | abi.FD_WRITE


@pytest.fixture(params=["by_kernel", "walking"])
def opener(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """One of the ways to open a path, forced."""
    if request.param == "by_kernel":
        if sandbox._choose() is not sandbox.open_by_kernel:
            pytest.skip("this system has no openat2, or forbids it")
        monkeypatch.setattr(sandbox, "_opener", sandbox.open_by_kernel)
    else:
        monkeypatch.setattr(sandbox, "_opener", sandbox.open_walking)
    return str(request.param)


@pytest.fixture
def guest(opener: str, tmp_path: Path) -> Guest:
    """A guest that sees `inside`, beside `secret` and `outside/secret`."""
    tree(tmp_path, secret="outside")
    tree(tmp_path / "outside", secret="outside")
    inside = tree(tmp_path / "inside", file="inside")
    tree(inside / "folder", file="deeper")
    (inside / "up").symlink_to("../secret")
    (inside / "absolute").symlink_to(tmp_path / "secret")
    (inside / "out").symlink_to("../outside")
    (inside / "far").symlink_to(tmp_path / "outside")
    (inside / "twice").symlink_to("folder/../out/secret")
    (inside / "good").symlink_to("folder/file")
    (inside / "good_folder").symlink_to("folder")
    (inside / "back").symlink_to("folder/../file")
    (inside / "self").symlink_to("self")
    return Guest(preopens={"/": inside})


ESCAPES = [
    "../secret",
    "/secret",
    "//secret",
    "folder/../../secret",
    "./../secret",
    "folder/../folder/../../secret",
    "up",
    "absolute",
    "out/secret",
    "far/secret",
    "twice",
    "good_folder/../../secret",
    "..",
    "../inside/file",
    "/",
]


@pytest.mark.parametrize("path", ESCAPES)
def test_no_path_leads_out(guest: Guest, path: str) -> None:
    assert guest.open_errno(path) is Errno.PERM
    assert guest.open_errno(path, abi.OFLAGS_CREAT, WRITE) is Errno.PERM
    text, size = guest.put(path)
    assert guest.call("path_filestat_get", PREOPENED, 1, text, size, RESULT) is Errno.PERM
    times = (0, 0, abi.FST_ATIM_NOW)
    assert guest.call("path_filestat_set_times", PREOPENED, 1, text, size, *times) is Errno.PERM


@pytest.mark.parametrize("path", ["../new", "out/new", "far/new", "/new", "folder/../../new", ".."])
def test_nothing_is_made_or_removed_outside(guest: Guest, tmp_path: Path, path: str) -> None:
    before = sorted(str(one) for one in tmp_path.rglob("*"))
    old, target = guest.put("file"), guest.put(path)
    assert guest.path_call("path_create_directory", path) is Errno.PERM
    assert guest.call("path_symlink", *old, PREOPENED, *target) is Errno.PERM
    assert guest.call("path_rename", PREOPENED, *old, PREOPENED, *target) is Errno.PERM
    assert guest.call("path_link", PREOPENED, 0, *old, PREOPENED, *target) is Errno.PERM
    assert sorted(str(one) for one in tmp_path.rglob("*")) == before


@pytest.mark.parametrize("path", [".", "folder/.", "folder/..", "./"])
def test_a_folder_has_no_name_by_its_dots(guest: Guest, path: str) -> None:
    """What Linux answers; names that could be outside never reach it."""
    dots, file, new = guest.put(path), guest.put("file"), guest.put("new")
    assert guest.path_call("path_create_directory", path) is Errno.EXIST
    assert guest.path_call("path_remove_directory", path) is Errno.INVAL
    assert guest.path_call("path_unlink_file", path) is Errno.ISDIR
    assert guest.call("path_symlink", *file, PREOPENED, *dots) is Errno.EXIST
    assert guest.call("path_rename", PREOPENED, *dots, PREOPENED, *new) is Errno.BUSY
    assert guest.call("path_rename", PREOPENED, *file, PREOPENED, *dots) is Errno.BUSY
    assert guest.call("path_link", PREOPENED, 0, *dots, PREOPENED, *new) is Errno.PERM
    assert guest.call("path_link", PREOPENED, 0, *file, PREOPENED, *dots) is Errno.EXIST


@pytest.mark.parametrize("path", ["../secret", "out/secret", "far/secret", "/secret"])
def test_nothing_outside_is_removed_moved_or_linked(
    guest: Guest, tmp_path: Path, path: str
) -> None:
    source, target = guest.put(path), guest.put("mine")
    assert guest.path_call("path_unlink_file", path) is Errno.PERM
    assert guest.path_call("path_remove_directory", path) is Errno.PERM
    assert guest.call("path_rename", PREOPENED, *source, PREOPENED, *target) is Errno.PERM
    assert guest.call("path_link", PREOPENED, 0, *source, PREOPENED, *target) is Errno.PERM
    assert guest.path_call("path_readlink", path, 0, 0, RESULT) is Errno.PERM
    assert (tmp_path / "secret").read_text() == "outside"
    assert not (tmp_path / "inside" / "mine").exists()


def test_links_that_stay_inside_are_followed(guest: Guest) -> None:
    assert guest.content("good") == b"deeper"
    assert guest.content("good_folder/file") == b"deeper"
    assert guest.content("back") == b"inside"
    assert guest.content("folder/../file") == b"inside"
    assert guest.content("./folder//./file") == b"deeper"


def test_an_open_folder_is_a_boundary_too(guest: Guest) -> None:
    folder = guest.open(
        "folder",
        abi.OFLAGS_DIRECTORY,
        abi.PATH_OPEN,
        inheriting=abi.FD_READ,
    )
    guest.open("file", rights=abi.FD_READ, fd=folder)
    assert guest.open_errno("../file", rights=abi.FD_READ, fd=folder) is Errno.PERM


def test_a_link_at_the_end_is_followed_only_when_asked(guest: Guest) -> None:
    assert guest.open_errno("good", lookup=0) is Errno.LOOP
    assert guest.open_errno("self") is Errno.LOOP
    assert guest.open_errno("good", abi.OFLAGS_CREAT | abi.OFLAGS_EXCL, WRITE) is Errno.EXIST
    text, size = guest.put("up")
    assert guest.call("path_filestat_get", PREOPENED, 0, text, size, RESULT) is Errno.SUCCESS
    assert guest.get("<16xB") == abi.FileType.SYMBOLIC_LINK


def test_a_trailing_slash_wants_a_directory(guest: Guest) -> None:
    assert guest.open_errno("file/") is Errno.NOTDIR
    assert guest.open_errno("good/") is Errno.NOTDIR
    guest.open("good_folder/", rights=0)
    assert guest.open_errno("nothing/") is Errno.NOENT
    assert guest.open_errno("file/x") is Errno.NOTDIR


def test_a_file_is_made_through_a_dangling_link_inside(guest: Guest, tmp_path: Path) -> None:
    (tmp_path / "inside" / "dangling").symlink_to("folder/new")
    fd = guest.open("dangling", abi.OFLAGS_CREAT, WRITE)
    assert guest.write(fd, b"x") == 1
    assert (tmp_path / "inside" / "folder" / "new").read_bytes() == b"x"


def test_a_dangling_link_out_makes_nothing(guest: Guest, tmp_path: Path) -> None:
    (tmp_path / "inside" / "dangling").symlink_to("../made")
    assert guest.open_errno("dangling", abi.OFLAGS_CREAT, WRITE) is Errno.PERM
    assert not (tmp_path / "made").exists()


def test_links_in_proc_lead_nowhere(
    opener: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tree(tmp_path, secret="there"))
    folder = os.open(tmp_path, os.O_RDONLY)
    guest = Guest(preopens={"/proc": "/proc"})
    for path in (f"root{tmp_path}/secret", "cwd/secret", "exe", f"fd/{folder}/secret"):
        assert Path("/proc/self", path).exists(), path
        assert guest.open_errno(f"self/{path}") in (Errno.PERM, Errno.LOOP), path
    os.close(folder)


def test_a_link_that_is_swapped_in_while_a_path_is_walked_does_not_lead_out(
    guest: Guest, tmp_path: Path
) -> None:
    """A folder and a link that leads out change places all the time."""
    inside = tmp_path / "inside"
    tree(inside / "real", secret="inside")
    (inside / "trap").symlink_to("../outside")
    (inside / "target").symlink_to("real")
    stop = threading.Event()

    def swap() -> None:
        while not stop.is_set():
            for name in ("trap", "real"):
                (inside / "next").symlink_to(name if name == "real" else "../outside")
                os.replace(inside / "next", inside / "target")

    swapper = threading.Thread(target=swap)
    swapper.start()
    seen = set()
    try:
        free = guest._free
        for _ in range(1500):
            guest._free = free
            seen.add(guest.content("target/secret"))
    finally:
        stop.set()
        swapper.join()
    assert b"outside" not in seen
    assert seen <= {b"inside", Errno.PERM}


def test_a_new_absolute_link_is_refused(guest: Guest, tmp_path: Path) -> None:
    """The guest could not use it, but programs of the host would."""
    text, path = guest.put("/etc/passwd"), guest.put("made")
    assert guest.call("path_symlink", *text, PREOPENED, *path) is Errno.PERM
    assert not (tmp_path / "inside" / "made").is_symlink()


def test_a_hard_link_to_a_link_is_one_to_the_link_itself(guest: Guest, tmp_path: Path) -> None:
    guest.do("path_link", PREOPENED, 0, *guest.put("up"), PREOPENED, *guest.put("copy"))
    assert (tmp_path / "inside" / "copy").is_symlink()
    assert guest.open_errno("copy") is Errno.PERM
    follow = abi.LOOKUP_SYMLINK_FOLLOW
    source, target = guest.put("up"), guest.put("other")
    assert guest.call("path_link", PREOPENED, follow, *source, PREOPENED, *target) is Errno.INVAL


def test_files_move_between_folders_that_are_both_the_guests(tmp_path: Path, opener: str) -> None:
    one, two = tree(tmp_path / "one", a="x"), tree(tmp_path / "two")
    guest = Guest(preopens={"/one": one, "/two": two})
    guest.do("path_rename", 3, *guest.put("a"), 4, *guest.put("b"))
    assert (two / "b").read_text() == "x"


def test_the_kernel_being_unsure_is_asked_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tree(tmp_path, file="x")
    attempts = []

    def unsure(*args: object) -> int:
        attempts.append(args)
        raise OSError(errno.EAGAIN, "try again")

    monkeypatch.setattr(sandbox, "openat2", unsure)
    folder = os.open(tmp_path, os.O_RDONLY)
    try:
        os.close(sandbox.open_by_kernel(folder, b"file", os.O_RDONLY, 0))
        with pytest.raises(WasiError) as caught:
            sandbox.open_by_kernel(folder, b"../x", os.O_RDONLY, 0)
    finally:
        os.close(folder)
    assert len(attempts) > 2
    assert caught.value.errno is Errno.PERM


@pytest.mark.parametrize("refusal", [errno.ENOSYS, errno.EPERM])
def test_without_the_system_call_paths_are_walked(
    refusal: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*args: object) -> int:
        raise OSError(refusal, "no")

    monkeypatch.setattr(sandbox, "openat2", refuse)
    assert sandbox._choose() is sandbox.open_walking


def test_walking_leaves_no_descriptor_open(tmp_path: Path) -> None:
    tree(tmp_path / "a" / "b", file="x")
    (tmp_path / "link").symlink_to("a/b/../b/file")
    folder = os.open(tmp_path, os.O_RDONLY)
    gc.collect()  # what earlier tests have left must not go meanwhile
    before = sorted(os.listdir("/proc/self/fd"))
    for path in (b"link", b"a/b/nothing", b"a/../../x", b"a/b/file/x", b"a/b/..", b"link/"):
        with contextlib.suppress(OSError, WasiError):
            os.close(sandbox.open_walking(folder, path, linux.O_PATH, 0))
    assert sorted(os.listdir("/proc/self/fd")) == before
    os.close(folder)


def test_walking_does_not_take_all_descriptors(tmp_path: Path) -> None:
    (tmp_path / Path(*"d" * 300)).mkdir(parents=True)
    folder = os.open(tmp_path, os.O_RDONLY)
    try:
        os.close(sandbox.open_walking(folder, b"d/" * 200, linux.O_PATH, 0))
        with pytest.raises(OSError, match="too long"):
            sandbox.open_walking(folder, b"d/" * 300, linux.O_PATH, 0)
    finally:
        os.close(folder)


class TestReadOnly:
    """A folder that may be looked at only."""

    @pytest.fixture
    def guest(self, tmp_path: Path) -> Guest:
        folder = tree(tmp_path / "folder", file="content")
        tree(folder / "sub", file="deeper")
        writable = tree(tmp_path / "writable", mine="x")
        return Guest(preopens=[f"/ro:{folder}:readonly", f"/rw:{writable}"])

    def test_it_is_read(self, guest: Guest) -> None:
        assert guest.content("file") == b"content"
        assert guest.content("sub/file") == b"deeper"

    def test_nothing_in_it_changes(self, guest: Guest, tmp_path: Path) -> None:
        file, new = guest.put("file"), guest.put("new")
        assert guest.open_errno("file", rights=WRITE) is Errno.ROFS
        assert guest.open_errno("file", abi.OFLAGS_TRUNC) is Errno.ROFS
        assert guest.open_errno("new", abi.OFLAGS_CREAT) is Errno.ROFS
        for name in ("path_create_directory", "path_remove_directory", "path_unlink_file"):
            assert guest.path_call(name, "sub") is Errno.ROFS
        assert guest.call("path_symlink", *file, 3, *new) is Errno.ROFS
        assert guest.call("path_rename", 3, *file, 3, *new) is Errno.ROFS
        assert guest.call("path_filestat_set_times", 3, 0, *file, 0, 0, 10) is Errno.ROFS
        fd = guest.open("file", rights=abi.FD_READ | abi.FD_FILESTAT_SET_TIMES)
        assert guest.call("fd_filestat_set_times", fd, 0, 0, 10) is Errno.ROFS
        assert (tmp_path / "folder" / "file").read_text() == "content"

    def test_its_files_do_not_become_writable_elsewhere(self, guest: Guest) -> None:
        """Neither by a hard link into a writable folder, nor by moving them there."""
        file, new = guest.put("file"), guest.put("new")
        assert guest.call("path_link", 3, 0, *file, 4, *new) is Errno.ROFS
        assert guest.call("path_rename", 3, *file, 4, *new) is Errno.ROFS
        assert guest.call("path_link", 4, 0, *guest.put("mine"), 3, *new) is Errno.ROFS

    def test_what_is_opened_in_it_is_read_only_too(self, guest: Guest) -> None:
        sub = guest.open(
            "sub", abi.OFLAGS_DIRECTORY, abi.DIRECTORY_RIGHTS, inheriting=abi.ALL_RIGHTS
        )
        assert guest.open_errno("file", rights=WRITE, fd=sub) is Errno.ROFS
        assert guest.path_call("path_unlink_file", "file", fd=sub) is Errno.ROFS

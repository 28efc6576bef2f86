"""Functions that take a path, relative to an open directory."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from . import abi, guest
from .abi import U32, Errno, WasiError
from .descriptors import Descriptor
from .guest import window
from .linux import O_PATH
from .metadata import put_filestat, set_times
from .sandbox import open_beneath, open_parent

if TYPE_CHECKING:
    from .state import Wasi


@contextmanager
def _opened(directory: Descriptor, path: bytes, flags: int) -> Iterator[int]:
    """What a path names, without a right to its content (O_PATH)."""
    fd = open_beneath(directory.fd, path, O_PATH | flags)
    try:
        yield fd
    finally:
        os.close(fd)


@contextmanager
def _parent(directory: Descriptor, path: bytes, dots: Errno) -> Iterator[tuple[int, bytes]]:
    """The directory of a path's last name, and that name; `dots` is what Linux says when it is `.`
    or `..`."""
    fd, name = open_parent(directory.fd, path, dots)
    try:
        yield fd, name
    finally:
        os.close(fd)


def _follow(lookup: int) -> int:
    """The flag of open(2) for lookupflags."""
    return 0 if lookup & abi.LOOKUP_SYMLINK_FOLLOW else os.O_NOFOLLOW


def path_open(
    wasi: Wasi,
    memory: memoryview,
    fd: int,
    lookup: int,
    path: int,
    length: int,
    oflags: int,
    rights: int,
    inheriting: int,
    fdflags: int,
    result: int,
) -> None:
    """Rights decide how the file is opened: for writing when one of them needs that. A descriptor
    has those rights that were asked for and that apply to what was opened."""
    directory = wasi.directory(fd, abi.PATH_OPEN)
    name = guest.path(memory, path, length)
    rights &= abi.ALL_RIGHTS
    inheriting &= abi.ALL_RIGHTS
    if (rights | inheriting) & ~directory.inheriting:
        raise WasiError(Errno.NOTCAPABLE)
    if oflags >= 1 << 4 or fdflags >= 1 << 5:
        raise WasiError(Errno.INVAL)
    flags = _open_flags(oflags, rights, fdflags) | _follow(lookup)
    changing = 0
    if oflags & abi.OFLAGS_CREAT:
        changing |= abi.PATH_CREATE_FILE
    if oflags & abi.OFLAGS_TRUNC:
        changing |= abi.PATH_FILESTAT_SET_SIZE
    wasi.directory(fd, changing)
    if directory.readonly and flags & os.O_ACCMODE != os.O_RDONLY:
        raise WasiError(Errno.ROFS)
    U32.pack_into(memory, result, 0)  # nothing is opened for a pointer that is wrong
    wasi.table.check_room()
    opened = Descriptor(
        open_beneath(directory.fd, name, flags, 0o666 if oflags & abi.OFLAGS_CREAT else 0),
        rights,
        inheriting,
        fdflags,
        readonly=directory.readonly,
    )
    U32.pack_into(memory, result, wasi.table.add(opened))


def _open_flags(oflags: int, rights: int, fdflags: int) -> int:
    """Flags of open(2). Always non-blocking, so that a pipe is waited for where waiting can be
    interrupted; O_NOCTTY, so that no terminal becomes that of this process."""
    flags = os.O_NONBLOCK | os.O_NOCTTY
    writing = bool(rights & abi.WRITING) or bool(oflags & abi.OFLAGS_TRUNC)
    if oflags & abi.OFLAGS_DIRECTORY:
        if oflags & abi.OFLAGS_CREAT:
            raise WasiError(Errno.INVAL)
        if writing:
            raise WasiError(Errno.ISDIR)
        return flags | os.O_DIRECTORY | os.O_RDONLY
    if oflags & abi.OFLAGS_CREAT:
        flags |= os.O_CREAT
    if oflags & abi.OFLAGS_EXCL:
        flags |= os.O_EXCL
    if oflags & abi.OFLAGS_TRUNC:
        flags |= os.O_TRUNC
    if fdflags & abi.FDFLAGS_APPEND:
        flags |= os.O_APPEND
    if fdflags & abi.FDFLAGS_DSYNC:
        flags |= os.O_DSYNC
    if fdflags & (abi.FDFLAGS_SYNC | abi.FDFLAGS_RSYNC):
        flags |= os.O_SYNC
    if writing:
        return flags | (os.O_RDWR if rights & abi.READING else os.O_WRONLY)
    return flags | os.O_RDONLY


def path_create_directory(wasi: Wasi, memory: memoryview, fd: int, path: int, length: int) -> None:
    directory = wasi.directory(fd, abi.PATH_CREATE_DIRECTORY)
    with _parent(directory, guest.path(memory, path, length), Errno.EXIST) as (parent, name):
        os.mkdir(name, 0o777, dir_fd=parent)


def path_remove_directory(wasi: Wasi, memory: memoryview, fd: int, path: int, length: int) -> None:
    directory = wasi.directory(fd, abi.PATH_REMOVE_DIRECTORY)
    with _parent(directory, guest.path(memory, path, length), Errno.INVAL) as (parent, name):
        os.rmdir(name, dir_fd=parent)


def path_unlink_file(wasi: Wasi, memory: memoryview, fd: int, path: int, length: int) -> None:
    directory = wasi.directory(fd, abi.PATH_UNLINK_FILE)
    with _parent(directory, guest.path(memory, path, length), Errno.ISDIR) as (parent, name):
        os.unlink(name, dir_fd=parent)


def path_rename(
    wasi: Wasi,
    memory: memoryview,
    fd: int,
    path: int,
    length: int,
    new_fd: int,
    new_path: int,
    new_length: int,
) -> None:
    source = wasi.directory(fd, abi.PATH_RENAME_SOURCE)
    target = wasi.directory(new_fd, abi.PATH_RENAME_TARGET)
    with (
        _parent(source, guest.path(memory, path, length), Errno.BUSY) as (old, old_name),
        _parent(target, guest.path(memory, new_path, new_length), Errno.BUSY) as (new, new_name),
    ):
        os.rename(old_name, new_name, src_dir_fd=old, dst_dir_fd=new)


def path_link(
    wasi: Wasi,
    memory: memoryview,
    fd: int,
    lookup: int,
    path: int,
    length: int,
    new_fd: int,
    new_path: int,
    new_length: int,
) -> None:
    source = wasi.directory(fd, abi.PATH_LINK_SOURCE)
    target = wasi.directory(new_fd, abi.PATH_LINK_TARGET)
    if lookup & abi.LOOKUP_SYMLINK_FOLLOW:
        # Only through /proc could the kernel link what a link beneath the directory leads to.
        raise WasiError(Errno.INVAL)
    with (
        _parent(source, guest.path(memory, path, length), Errno.PERM) as (old, old_name),
        _parent(target, guest.path(memory, new_path, new_length), Errno.EXIST) as (new, new_name),
    ):
        if old_name.endswith(b"/"):
            # The kernel would follow a link; and directories cannot be linked.
            raise WasiError(Errno.PERM)
        os.link(old_name, new_name, src_dir_fd=old, dst_dir_fd=new, follow_symlinks=False)


def path_symlink(
    wasi: Wasi, memory: memoryview, text: int, text_length: int, fd: int, path: int, length: int
) -> None:
    """The guest never gets out through a link, but programs of the host would: so no absolute
    ones are made."""
    directory = wasi.directory(fd, abi.PATH_SYMLINK)
    target = guest.path(memory, text, text_length)
    if target.startswith(b"/"):
        raise WasiError(Errno.PERM)
    with _parent(directory, guest.path(memory, path, length), Errno.EXIST) as (parent, name):
        os.symlink(target, name, dir_fd=parent)


def path_readlink(
    wasi: Wasi,
    memory: memoryview,
    fd: int,
    path: int,
    length: int,
    buffer: int,
    size: int,
    used: int,
) -> None:
    """A target that is longer than the buffer is cut off, as by readlink(2)."""
    directory = wasi.directory(fd, abi.PATH_READLINK)
    target = window(memory, buffer, size)
    with _opened(directory, guest.path(memory, path, length), os.O_NOFOLLOW) as link:
        if not stat.S_ISLNK(os.fstat(link).st_mode):
            raise WasiError(Errno.INVAL)
        text = os.readlink(b"", dir_fd=link)[:size]
    target[: len(text)] = text
    U32.pack_into(memory, used, len(text))


def path_filestat_get(
    wasi: Wasi, memory: memoryview, fd: int, lookup: int, path: int, length: int, result: int
) -> None:
    directory = wasi.directory(fd, abi.PATH_FILESTAT_GET)
    with _opened(directory, guest.path(memory, path, length), _follow(lookup)) as found:
        put_filestat(memory, result, os.fstat(found))


def path_filestat_set_times(
    wasi: Wasi,
    memory: memoryview,
    fd: int,
    lookup: int,
    path: int,
    length: int,
    accessed: int,
    modified: int,
    flags: int,
) -> None:
    directory = wasi.directory(fd, abi.PATH_FILESTAT_SET_TIMES)
    with _opened(directory, guest.path(memory, path, length), _follow(lookup)) as found:
        set_times(found, accessed, modified, flags)

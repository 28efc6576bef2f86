"""Listing directories."""

from __future__ import annotations

from typing import TYPE_CHECKING

from . import abi
from .abi import DIRENT, U32, Errno, FileType, WasiError
from .guest import window
from .linux import getdents

if TYPE_CHECKING:
    from .state import Wasi

# By DT_ of readdir(3); sockets as `filetype_of_mode` has them.
_FROM_KIND: dict[int, FileType] = {
    2: FileType.CHARACTER_DEVICE,
    4: FileType.DIRECTORY,
    6: FileType.BLOCK_DEVICE,
    8: FileType.REGULAR_FILE,
    10: FileType.SYMBOLIC_LINK,
    12: FileType.SOCKET_STREAM,
}


def fd_readdir(
    wasi: Wasi, memory: memoryview, fd: int, buffer: int, length: int, cookie: int, used: int
) -> None:
    """Fill the buffer with entries; the last one may be cut off. A buffer that is not filled says
    that the directory ends there. Entries that come and go do not change what a cookie means."""
    descriptor = wasi.table[fd]
    descriptor.require(abi.FD_READDIR)
    target = window(memory, buffer, length)
    positions = descriptor.positions
    if cookie >= len(positions):
        raise WasiError(Errno.INVAL)
    at = 0
    if length:
        for position, inode, kind, name in getdents(descriptor.fd, positions[cookie]):
            cookie += 1
            if cookie < len(positions):
                positions[cookie] = position
            else:
                positions.append(position)
            filetype = _FROM_KIND.get(kind, FileType.UNKNOWN)
            entry = DIRENT.pack(cookie, inode, len(name), filetype) + name
            portion = entry[: length - at]
            target[at : at + len(portion)] = portion
            at += len(portion)
            if at == length:
                break
            wasi.check_interrupted()
    U32.pack_into(memory, used, at)

"""The numbers of `wasi_snapshot_preview1`: errno, rights, flags, file types, layouts of structures.

Names and values are those of the specification's witx files, without their prefixes.
"""

from __future__ import annotations

import errno
import socket
import stat
from enum import IntEnum
from struct import Struct

__all__ = ["Errno", "FileType", "WasiError", "errno_of", "filetype_of_mode"]


class Errno(IntEnum):
    """What every function returns; 0 is success. From 77 on: WasmEdge's, of `sock_getaddrinfo`."""

    SUCCESS = 0
    TOOBIG = 1
    ACCES = 2
    ADDRINUSE = 3
    ADDRNOTAVAIL = 4
    AFNOSUPPORT = 5
    AGAIN = 6
    ALREADY = 7
    BADF = 8
    BADMSG = 9
    BUSY = 10
    CANCELED = 11
    CHILD = 12
    CONNABORTED = 13
    CONNREFUSED = 14
    CONNRESET = 15
    DEADLK = 16
    DESTADDRREQ = 17
    DOM = 18
    DQUOT = 19
    EXIST = 20
    FAULT = 21
    FBIG = 22
    HOSTUNREACH = 23
    IDRM = 24
    ILSEQ = 25
    INPROGRESS = 26
    INTR = 27
    INVAL = 28
    IO = 29
    ISCONN = 30
    ISDIR = 31
    LOOP = 32
    MFILE = 33
    MLINK = 34
    MSGSIZE = 35
    MULTIHOP = 36
    NAMETOOLONG = 37
    NETDOWN = 38
    NETRESET = 39
    NETUNREACH = 40
    NFILE = 41
    NOBUFS = 42
    NODEV = 43
    NOENT = 44
    NOEXEC = 45
    NOLCK = 46
    NOLINK = 47
    NOMEM = 48
    NOMSG = 49
    NOPROTOOPT = 50
    NOSPC = 51
    NOSYS = 52
    NOTCONN = 53
    NOTDIR = 54
    NOTEMPTY = 55
    NOTRECOVERABLE = 56
    NOTSOCK = 57
    NOTSUP = 58
    NOTTY = 59
    NXIO = 60
    OVERFLOW = 61
    OWNERDEAD = 62
    PERM = 63
    PIPE = 64
    PROTO = 65
    PROTONOSUPPORT = 66
    PROTOTYPE = 67
    RANGE = 68
    ROFS = 69
    SPIPE = 70
    SRCH = 71
    STALE = 72
    TIMEDOUT = 73
    TXTBSY = 74
    XDEV = 75
    NOTCAPABLE = 76
    AIADDRFAMILY = 77
    AIAGAIN = 78
    AIBADFLAG = 79
    AIFAIL = 80
    AIFAMILY = 81
    AIMEMORY = 82
    AINODATA = 83
    AINONAME = 84
    AISERVICE = 85
    AISOCKTYPE = 86
    AISYSTEM = 87


class WasiError(Exception):
    """Ends a WASI function with an errno."""

    def __init__(self, errno: Errno) -> None:
        super().__init__(errno)
        self.errno = errno


# The names are the same but for E2BIG and the letter in front.
_FROM_HOST: dict[int, Errno] = {
    number: Errno[name[1:]]
    for number, name in errno.errorcode.items()
    if name[1:] in Errno.__members__
} | {errno.E2BIG: Errno.TOOBIG, errno.ENOTSUP: Errno.NOTSUP, errno.EAGAIN: Errno.AGAIN}

_FROM_RESOLVER: dict[int, Errno] = {
    socket.EAI_AGAIN: Errno.AIAGAIN,
    socket.EAI_BADFLAGS: Errno.AIBADFLAG,
    socket.EAI_FAIL: Errno.AIFAIL,
    socket.EAI_FAMILY: Errno.AIFAMILY,
    socket.EAI_MEMORY: Errno.AIMEMORY,
    socket.EAI_NODATA: Errno.AINODATA,
    socket.EAI_NONAME: Errno.AINONAME,
    socket.EAI_SERVICE: Errno.AISERVICE,
    socket.EAI_SOCKTYPE: Errno.AISOCKTYPE,
    socket.EAI_SYSTEM: Errno.AISYSTEM,
}


def errno_of(error: OSError) -> Errno:
    """The errno for what the operating system refused; IO when it has none of its own."""
    if isinstance(error, socket.gaierror):
        return _FROM_RESOLVER.get(error.errno or 0, Errno.AIFAIL)
    return _FROM_HOST.get(error.errno or 0, Errno.IO)


# rights

FD_DATASYNC = 1 << 0
FD_READ = 1 << 1
FD_SEEK = 1 << 2
FD_FDSTAT_SET_FLAGS = 1 << 3
FD_SYNC = 1 << 4
FD_TELL = 1 << 5
FD_WRITE = 1 << 6
FD_ADVISE = 1 << 7
FD_ALLOCATE = 1 << 8
PATH_CREATE_DIRECTORY = 1 << 9
PATH_CREATE_FILE = 1 << 10
PATH_LINK_SOURCE = 1 << 11
PATH_LINK_TARGET = 1 << 12
PATH_OPEN = 1 << 13
FD_READDIR = 1 << 14
PATH_READLINK = 1 << 15
PATH_RENAME_SOURCE = 1 << 16
PATH_RENAME_TARGET = 1 << 17
PATH_FILESTAT_GET = 1 << 18
PATH_FILESTAT_SET_SIZE = 1 << 19
PATH_FILESTAT_SET_TIMES = 1 << 20
FD_FILESTAT_GET = 1 << 21
FD_FILESTAT_SET_SIZE = 1 << 22
FD_FILESTAT_SET_TIMES = 1 << 23
PATH_SYMLINK = 1 << 24
PATH_REMOVE_DIRECTORY = 1 << 25
PATH_UNLINK_FILE = 1 << 26
POLL_FD_READWRITE = 1 << 27
SOCK_SHUTDOWN = 1 << 28
SOCK_ACCEPT = 1 << 29

ALL_RIGHTS = (1 << 30) - 1

_ANY_FILE = FD_FDSTAT_SET_FLAGS | FD_SYNC | FD_DATASYNC | FD_FILESTAT_GET | FD_FILESTAT_SET_TIMES
_PATHS = (
    PATH_CREATE_DIRECTORY
    | PATH_CREATE_FILE
    | PATH_LINK_SOURCE
    | PATH_LINK_TARGET
    | PATH_OPEN
    | PATH_READLINK
    | PATH_RENAME_SOURCE
    | PATH_RENAME_TARGET
    | PATH_FILESTAT_GET
    | PATH_FILESTAT_SET_SIZE
    | PATH_FILESTAT_SET_TIMES
    | PATH_SYMLINK
    | PATH_REMOVE_DIRECTORY
    | PATH_UNLINK_FILE
)
DIRECTORY_RIGHTS = _ANY_FILE | _PATHS | FD_READDIR
STREAM_RIGHTS = _ANY_FILE | FD_READ | FD_WRITE | POLL_FD_READWRITE
FILE_RIGHTS = STREAM_RIGHTS | FD_SEEK | FD_TELL | FD_ADVISE | FD_ALLOCATE | FD_FILESTAT_SET_SIZE
SOCKET_RIGHTS = STREAM_RIGHTS | SOCK_SHUTDOWN | SOCK_ACCEPT

READING = FD_READ | FD_READDIR
WRITING = FD_WRITE | FD_ALLOCATE | FD_FILESTAT_SET_SIZE
"""The rights for which a file has to be opened for reading, and for writing."""

# fdflags, lookupflags, oflags, fstflags, whence, subclockflags, eventrwflags, sdflags, riflags

FDFLAGS_APPEND, FDFLAGS_DSYNC, FDFLAGS_NONBLOCK, FDFLAGS_RSYNC, FDFLAGS_SYNC = 1, 2, 4, 8, 16
LOOKUP_SYMLINK_FOLLOW = 1
OFLAGS_CREAT, OFLAGS_DIRECTORY, OFLAGS_EXCL, OFLAGS_TRUNC = 1, 2, 4, 8
FST_ATIM, FST_ATIM_NOW, FST_MTIM, FST_MTIM_NOW = 1, 2, 4, 8
WHENCE_SET, WHENCE_CUR, WHENCE_END = 0, 1, 2
SUBSCRIPTION_CLOCK_ABSTIME = 1
EVENT_FD_READWRITE_HANGUP = 1
SDFLAGS_RD, SDFLAGS_WR = 1, 2
RIFLAGS_RECV_PEEK, RIFLAGS_RECV_WAITALL = 1, 2
ROFLAGS_RECV_DATA_TRUNCATED = 1

EVENTTYPE_CLOCK, EVENTTYPE_FD_READ, EVENTTYPE_FD_WRITE = 0, 1, 2

# Layouts; offsets and paddings as witx lays structures out.

U16 = Struct("<H")
U32 = Struct("<I")
U64 = Struct("<Q")
PAIR = Struct("<II")  # an iovec, an address of a socket: where and how long
PRESTAT = Struct("<B3xI")  # tag (0, a directory), length of the name
FDSTAT = Struct("<BxH4xQQ")  # file type, flags, rights, inheriting rights
FILESTAT = Struct("<QQB7xQQQQQ")  # dev, ino, file type, nlink, size, atim, mtim, ctim
DIRENT = Struct("<QQIB3x")  # next cookie, ino, length of the name, file type
SUBSCRIPTION = Struct("<QB7xI4xQQH6x")  # userdata, type, clock or fd, timeout, precision, flags
EVENT = Struct("<QHB5xQH6x")  # userdata, error, type, bytes, flags


class FileType(IntEnum):
    """What a descriptor or a directory's entry is. Pipes have no type of their own: UNKNOWN."""

    UNKNOWN = 0
    BLOCK_DEVICE = 1
    CHARACTER_DEVICE = 2
    DIRECTORY = 3
    REGULAR_FILE = 4
    SOCKET_DGRAM = 5
    SOCKET_STREAM = 6
    SYMBOLIC_LINK = 7


_FROM_MODE: dict[int, FileType] = {
    stat.S_IFBLK: FileType.BLOCK_DEVICE,
    stat.S_IFCHR: FileType.CHARACTER_DEVICE,
    stat.S_IFDIR: FileType.DIRECTORY,
    stat.S_IFREG: FileType.REGULAR_FILE,
    stat.S_IFSOCK: FileType.SOCKET_STREAM,
    stat.S_IFLNK: FileType.SYMBOLIC_LINK,
}


def filetype_of_mode(mode: int) -> FileType:
    """The file type for `st_mode`. A socket counts as a stream, which a mode does not tell."""
    return _FROM_MODE.get(stat.S_IFMT(mode), FileType.UNKNOWN)

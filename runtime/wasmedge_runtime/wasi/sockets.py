"""Sockets: those of the specification, and WasmEdge's functions to make them.

WasmEdge has two versions of some functions. Where their parameters differ, the module's import says
which one it means. Addresses are 4 or 16 bytes, or 128 bytes that begin with the family.
"""

from __future__ import annotations

import logging
import select
import socket
from collections.abc import Sequence
from ipaddress import ip_address
from struct import Struct
from typing import TYPE_CHECKING

from . import abi
from .abi import PAIR, U16, U32, Errno, FileType, WasiError, errno_of
from .allow import Address
from .descriptors import POLLIN, POLLOUT, Descriptor, above_standard, behind
from .guest import buffers, window

if TYPE_CHECKING:
    from .state import Wasi

__all__ = ["FAMILIES", "TYPES", "Socket"]

_log = logging.getLogger("wasmedge")

_MOST_WAITING = 4096

_INET4, _INET6 = 1, 2
FAMILIES = {_INET4: socket.AF_INET, _INET6: socket.AF_INET6}
_DGRAM, _STREAM = 1, 2
TYPES = {_DGRAM: socket.SOCK_DGRAM, _STREAM: socket.SOCK_STREAM}

_STORAGE_BYTES = 128
_FAMILY_BYTES = 2


class _Wire(socket.socket):
    """A socket of Python that is closed with its last user, without a warning: the guest forgot
    it, not this program."""

    @classmethod
    def above(cls, opened: socket.socket) -> _Wire:
        """What takes a socket over; see `above_standard`."""
        return cls(fileno=above_standard(opened.detach()))

    def __del__(self) -> None:
        if self.fileno() >= 0:
            # Whoever closes it may be the host, which does not wait; the system still sends. An
            # accepted socket has the option from the listening one. With zero seconds, closing
            # resets, at once.
            linger = self.getsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER.size)
            if _LINGER.unpack(linger)[1]:
                self.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, bytes(_LINGER.size))
        self.close()


class Socket(Descriptor):
    """A socket of the guest; non-blocking for the system, whatever it is for the guest."""

    def __init__(self, wire: _Wire, flags: int = 0) -> None:
        wire.setblocking(False)
        self.wire = wire
        self.fd = wire.fileno()
        self.flags = flags
        self.readonly = False
        self.name = None
        self.shared = False
        self.waits = False
        stream = wire.type == socket.SOCK_STREAM
        self.filetype = FileType.SOCKET_STREAM if stream else FileType.SOCKET_DGRAM
        self.rights = abi.SOCKET_RIGHTS
        self.inheriting = 0
        self.bound = False
        """Whether the guest has bound it, to an address that it may listen at."""
        self.timeouts_ns: dict[int, int] = {}
        """How long reading (POLLIN) and writing (POLLOUT) wait, where the guest has set it."""

    def __del__(self) -> None:
        """The system's descriptor is the wire's."""

    def wait(self, wasi: Wasi, events: int) -> None:
        if self.flags & abi.FDFLAGS_NONBLOCK:
            raise WasiError(Errno.AGAIN)
        if not wasi.wait({self.fd: events}, self.timeouts_ns.get(events)):
            raise WasiError(Errno.AGAIN)

    def read(self, wasi: Wasi, pieces: Sequence[memoryview]) -> int:
        return self.receive(wasi, pieces, 0)[0]

    def write(self, wasi: Wasi, pieces: Sequence[memoryview]) -> int:
        return self.send(wasi, pieces, None)

    def receive(
        self, wasi: Wasi, pieces: Sequence[memoryview], flags: int
    ) -> tuple[int, int, tuple[str, int] | None]:
        """Number of bytes, flags of recvmsg(2), and where they came from, for datagrams."""
        while True:
            try:
                if self.filetype is FileType.SOCKET_DGRAM and not self.bound:
                    self._drop_strangers(wasi)
                size, _, result, source = self.wire.recvmsg_into(pieces, 0, flags)
                return size, result, source[:2] if source else None
            except BlockingIOError:
                self.wait(wasi, POLLIN)

    def _drop_strangers(self, wasi: Wasi) -> None:
        """Throw away datagrams in front that come from where the program may not send to.

        One that has been allowed to listen at its address hears everybody; any other has a port
        since it first sent something, for the answers.
        """
        while True:
            *_, source = self.wire.recvmsg(0, 0, socket.MSG_PEEK)
            if wasi.sockets.allows(ip_address(source[0].partition("%")[0]), source[1]):
                return
            self.wire.recv(1)  # all of it; Python does not ask the system for 0 bytes
            wasi.check_interrupted()

    def send(self, wasi: Wasi, pieces: Sequence[memoryview], target: tuple[str, int] | None) -> int:
        """Number of bytes that were taken."""
        while True:
            try:
                return self.wire.sendmsg(pieces, [], socket.MSG_NOSIGNAL, target)
            except BlockingIOError:
                self.wait(wasi, POLLOUT)


def _socket(wasi: Wasi, fd: int) -> Socket:
    descriptor = wasi.table[fd]
    if not isinstance(descriptor, Socket):
        raise WasiError(Errno.NOTSOCK)
    return descriptor


# Addresses.


def _read_address(memory: memoryview, pointer: int) -> Address:
    start, length = PAIR.unpack_from(memory, pointer)
    if length == _STORAGE_BYTES:
        (family,) = U16.unpack_from(memory, start)
        if family not in FAMILIES:
            raise WasiError(Errno.AFNOSUPPORT)
        start, length = start + _FAMILY_BYTES, 4 if family == _INET4 else 16
    if length not in (4, 16):
        raise WasiError(Errno.INVAL)
    return ip_address(window(memory, start, length).tobytes())


def _put_address(memory: memoryview, pointer: int, address: Address) -> None:
    start, length = PAIR.unpack_from(memory, pointer)
    if length == _STORAGE_BYTES:
        U16.pack_into(memory, start, _INET4 if address.version == 4 else _INET6)
        start, length = start + _FAMILY_BYTES, length - _FAMILY_BYTES
    packed = address.packed
    if length < len(packed):
        raise WasiError(Errno.INVAL)
    window(memory, start, len(packed))[:] = packed


def _require_allowed(wasi: Wasi, what: str, address: Address, port: int) -> tuple[str, int]:
    """The address for the `socket` module; WasiError ACCES when no rule allows it."""
    if port > 65535:
        raise WasiError(Errno.INVAL)
    if not wasi.sockets.allows(address, port):
        place = f"{address}:{port}" if address.version == 4 else f"[{address}]:{port}"
        _log.debug("a program may not %s %s; allow_sockets=[%r] allows it", what, place, place)
        raise WasiError(Errno.ACCES)
    return str(address), port


# Making and connecting.


def sock_open(wasi: Wasi, memory: memoryview, family: int, kind: int, result: int) -> None:
    if wasi.sockets.empty:
        _log.debug("a program may not open sockets; allow_sockets=['ADDRESS:PORT'] allows it")
        raise WasiError(Errno.ACCES)
    if family == 0:
        # Programs of WasmEdge before 0.10 count from 0: IPv4 is 0, a stream 1. What is 0 later
        # ("unspecified", "any") makes no socket.
        family, kind = _INET4, kind + 1
        kind = min(kind, _STREAM)
    if family not in FAMILIES:
        raise WasiError(Errno.AFNOSUPPORT)
    if kind not in TYPES:
        raise WasiError(Errno.PROTOTYPE)
    U32.pack_into(memory, result, 0)  # nothing is opened for a pointer that is wrong
    wasi.table.check_room()
    opened = Socket(_Wire.above(socket.socket(FAMILIES[family], TYPES[kind])))
    U32.pack_into(memory, result, wasi.table.add(opened))


def sock_bind(wasi: Wasi, memory: memoryview, fd: int, address: int, port: int) -> None:
    binding = _socket(wasi, fd)
    binding.wire.bind(_require_allowed(wasi, "listen at", _read_address(memory, address), port))
    binding.bound = True


def sock_listen(wasi: Wasi, memory: memoryview, fd: int, backlog: int) -> None:
    listening = _socket(wasi, fd)
    if not listening.bound:
        # The system would choose an address by itself, also where the name of a socket has a port:
        # that of a connection that was lost.
        raise WasiError(Errno.DESTADDRREQ)
    listening.wire.listen(min(backlog, _MOST_WAITING))


def sock_accept_v1(wasi: Wasi, memory: memoryview, fd: int, result: int) -> None:
    sock_accept(wasi, memory, fd, 0, result)


def sock_accept(wasi: Wasi, memory: memoryview, fd: int, flags: int, result: int) -> None:
    listening = _socket(wasi, fd)
    listening.require(abi.SOCK_ACCEPT)
    if flags & ~abi.FDFLAGS_NONBLOCK:
        raise WasiError(Errno.INVAL)
    U32.pack_into(memory, result, 0)
    wasi.table.check_room()
    while True:
        try:
            wire, _ = listening.wire.accept()
            break
        except BlockingIOError:
            listening.wait(wasi, POLLIN)
    U32.pack_into(memory, result, wasi.table.add(Socket(_Wire.above(wire), flags)))


def sock_connect(wasi: Wasi, memory: memoryview, fd: int, address: int, port: int) -> None:
    connecting = _socket(wasi, fd)
    place = _require_allowed(wasi, "connect to", _read_address(memory, address), port)
    try:
        connecting.wire.connect(place)
    except BlockingIOError:
        if connecting.flags & abi.FDFLAGS_NONBLOCK:
            raise WasiError(Errno.INPROGRESS) from None
        connecting.wait(wasi, POLLOUT)
        failure = connecting.wire.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if failure:
            raise OSError(failure, "connect") from None


def sock_shutdown(wasi: Wasi, memory: memoryview, fd: int, how: int) -> None:
    ending = _socket(wasi, fd)
    ending.require(abi.SOCK_SHUTDOWN)
    ways = {
        abi.SDFLAGS_RD: socket.SHUT_RD,
        abi.SDFLAGS_WR: socket.SHUT_WR,
        abi.SDFLAGS_RD | abi.SDFLAGS_WR: socket.SHUT_RDWR,
    }
    if how not in ways:
        raise WasiError(Errno.INVAL)
    ending.wire.shutdown(ways[how])


# Sending and receiving.


def sock_recv(
    wasi: Wasi,
    memory: memoryview,
    fd: int,
    iovs: int,
    count: int,
    flags: int,
    size: int,
    result_flags: int,
) -> None:
    _receive(wasi, memory, fd, iovs, count, flags, size, result_flags)


def sock_recv_from_v1(
    wasi: Wasi,
    memory: memoryview,
    fd: int,
    iovs: int,
    count: int,
    address: int,
    flags: int,
    size: int,
    result_flags: int,
) -> None:
    source = _receive(wasi, memory, fd, iovs, count, flags, size, result_flags)
    if source is not None:
        _put_address(memory, address, ip_address(source[0]))


def sock_recv_from(
    wasi: Wasi,
    memory: memoryview,
    fd: int,
    iovs: int,
    count: int,
    address: int,
    flags: int,
    port: int,
    size: int,
    result_flags: int,
) -> None:
    source = _receive(wasi, memory, fd, iovs, count, flags, size, result_flags)
    if source is not None:
        _put_address(memory, address, ip_address(source[0]))
        U32.pack_into(memory, port, source[1])


def _receive(
    wasi: Wasi,
    memory: memoryview,
    fd: int,
    iovs: int,
    count: int,
    flags: int,
    size: int,
    result_flags: int,
) -> tuple[str, int] | None:
    receiving = _socket(wasi, fd)
    receiving.require(abi.FD_READ)
    pieces = buffers(memory, iovs, count)
    host_flags = socket.MSG_PEEK if flags & abi.RIFLAGS_RECV_PEEK else 0
    total, result, source = receiving.receive(wasi, pieces, host_flags)
    if flags & abi.RIFLAGS_RECV_WAITALL and receiving.filetype is FileType.SOCKET_STREAM:
        # The system waits for all only where it may block.
        wanted = sum(map(len, pieces))
        while 0 < total < wanted and not host_flags:
            try:
                more, result, _ = receiving.receive(wasi, behind(pieces, total), host_flags)
            except (WasiError, OSError):
                break  # what has come already would be lost; the next call meets the error again
            if not more:
                break
            total += more
    truncated = bool(result & socket.MSG_TRUNC)
    U32.pack_into(memory, size, total)
    U16.pack_into(memory, result_flags, abi.ROFLAGS_RECV_DATA_TRUNCATED if truncated else 0)
    return source


def sock_send(
    wasi: Wasi, memory: memoryview, fd: int, iovs: int, count: int, flags: int, size: int
) -> None:
    if flags:
        raise WasiError(Errno.INVAL)  # siflags: none are defined
    sending = _socket(wasi, fd)
    sending.require(abi.FD_WRITE)
    U32.pack_into(memory, size, sending.send(wasi, buffers(memory, iovs, count), None))


def sock_send_to(
    wasi: Wasi,
    memory: memoryview,
    fd: int,
    iovs: int,
    count: int,
    address: int,
    port: int,
    flags: int,
    size: int,
) -> None:
    if flags:
        raise WasiError(Errno.INVAL)
    sending = _socket(wasi, fd)
    sending.require(abi.FD_WRITE)
    place = _require_allowed(wasi, "send to", _read_address(memory, address), port)
    U32.pack_into(memory, size, sending.send(wasi, buffers(memory, iovs, count), place))


# Names of sockets.


def sock_getlocaladdr_v1(
    wasi: Wasi, memory: memoryview, fd: int, address: int, kind: int, port: int
) -> None:
    _put_name(memory, _socket(wasi, fd).wire.getsockname(), address, kind, port)


def sock_getlocaladdr(wasi: Wasi, memory: memoryview, fd: int, address: int, port: int) -> None:
    _put_name(memory, _socket(wasi, fd).wire.getsockname(), address, None, port)


def sock_getpeeraddr_v1(
    wasi: Wasi, memory: memoryview, fd: int, address: int, kind: int, port: int
) -> None:
    _put_name(memory, _socket(wasi, fd).wire.getpeername(), address, kind, port)


def sock_getpeeraddr(wasi: Wasi, memory: memoryview, fd: int, address: int, port: int) -> None:
    _put_name(memory, _socket(wasi, fd).wire.getpeername(), address, None, port)


def _put_name(
    memory: memoryview, name: tuple[str, int], address: int, kind: int | None, port: int
) -> None:
    found = ip_address(name[0].partition("%")[0])
    _put_address(memory, address, found)
    if kind is not None:
        U32.pack_into(memory, kind, found.version)  # 4 or 6
    U32.pack_into(memory, port, name[1])


# Options.

_SO_TYPE, _SO_ERROR, _SO_LINGER, _SO_RCVTIMEO, _SO_SNDTIMEO = 1, 2, 9, 11, 12
_NUMBERS = {
    0: socket.SO_REUSEADDR,
    3: socket.SO_DONTROUTE,
    4: socket.SO_BROADCAST,
    5: socket.SO_SNDBUF,
    6: socket.SO_RCVBUF,
    7: socket.SO_KEEPALIVE,
    8: socket.SO_OOBINLINE,
    10: socket.SO_RCVLOWAT,
    13: socket.SO_ACCEPTCONN,
}
_TIMEOUTS = {_SO_RCVTIMEO: select.POLLIN, _SO_SNDTIMEO: select.POLLOUT}
_NUMBER = Struct("<i")
_LINGER = Struct("<ii")  # on or off, seconds
_TIMEVAL = Struct("<qq")  # seconds, microseconds; zero is no limit


def sock_getsockopt(
    wasi: Wasi, memory: memoryview, fd: int, level: int, option: int, value: int, size: int
) -> None:
    asked = _socket(wasi, fd)
    (room,) = U32.unpack_from(memory, size)
    answer = _option(asked, level, option)
    if room < len(answer):
        raise WasiError(Errno.INVAL)
    window(memory, value, len(answer))[:] = answer
    U32.pack_into(memory, size, len(answer))


def _option(asked: Socket, level: int, option: int) -> bytes:
    if level:
        raise WasiError(Errno.NOPROTOOPT)  # only SOL_SOCKET has options here
    if option == _SO_TYPE:
        return _NUMBER.pack(_STREAM if asked.filetype is FileType.SOCKET_STREAM else _DGRAM)
    if option == _SO_ERROR:
        failure = asked.wire.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        return _NUMBER.pack(errno_of(OSError(failure, "")) if failure else 0)
    if option == _SO_LINGER:
        return asked.wire.getsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER.size)
    if option in _TIMEOUTS:
        timeout = asked.timeouts_ns.get(_TIMEOUTS[option], 0)
        return _TIMEVAL.pack(timeout // 1_000_000_000, timeout % 1_000_000_000 // 1000)
    if option not in _NUMBERS:
        raise WasiError(Errno.NOPROTOOPT)
    return _NUMBER.pack(asked.wire.getsockopt(socket.SOL_SOCKET, _NUMBERS[option]))


def sock_setsockopt(
    wasi: Wasi, memory: memoryview, fd: int, level: int, option: int, value: int, size: int
) -> None:
    changed = _socket(wasi, fd)
    if level:
        raise WasiError(Errno.NOPROTOOPT)
    if option in _TIMEOUTS:
        seconds, microseconds = _TIMEVAL.unpack(window(memory, value, size)[: _TIMEVAL.size])
        timeout = seconds * 1_000_000_000 + microseconds * 1000
        if timeout > 0:
            changed.timeouts_ns[_TIMEOUTS[option]] = timeout
        else:
            changed.timeouts_ns.pop(_TIMEOUTS[option], None)
    elif option == _SO_LINGER:
        content = window(memory, value, _LINGER.size).tobytes()
        changed.wire.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, content)
    elif option in _NUMBERS:
        (number,) = _NUMBER.unpack_from(window(memory, value, size))
        changed.wire.setsockopt(socket.SOL_SOCKET, _NUMBERS[option], number)
    else:
        # Binding to a network device would go around the list of allowed addresses.
        raise WasiError(Errno.NOPROTOOPT)

"""Looking names up: `sock_getaddrinfo`."""

from __future__ import annotations

import os
import select
import socket
import threading
from ipaddress import ip_address
from struct import Struct
from typing import TYPE_CHECKING, Any

from .abi import U32, Errno, WasiError
from .guest import window
from .sockets import FAMILIES, TYPES

if TYPE_CHECKING:
    from .state import Wasi

_LONGEST = 1024  # bytes of a name; those of the network have 253
_MOST_FILLED = 128  # bytes of the room for an address, which may have gigabytes

# flags, family, type, protocol, length of the address, address, canonical name and its length,
# next: results come in a chain that the program has made.
_ADDRINFO = Struct("<HBBB3xIIIII")
_SOCKADDR = Struct("<B3xII")  # family, length of the data, data
_NEXT = Struct("<I")
_NEXT_OFFSET = 24

_PROTOCOLS = {0: 0, 1: socket.IPPROTO_TCP, 2: socket.IPPROTO_UDP}
_FLAGS = (
    socket.AI_PASSIVE,
    socket.AI_CANONNAME,
    socket.AI_NUMERICHOST,
    socket.AI_NUMERICSERV,
    socket.AI_V4MAPPED,
    socket.AI_ALL,
    socket.AI_ADDRCONFIG,
)


def sock_getaddrinfo(
    wasi: Wasi,
    memory: memoryview,
    node: int,
    node_length: int,
    service: int,
    service_length: int,
    hints: int,
    results: int,
    most: int,
    count: int,
) -> None:
    host, port = _text(memory, node, node_length), _text(memory, service, service_length)
    flags, family, kind, protocol, *_ = _ADDRINFO.unpack_from(memory, hints)
    if not _is_address(host) and not wasi.sockets.allows_name(host):
        raise WasiError(Errno.ACCES)
    found = _resolve(
        wasi,
        host or None,
        port or None,
        FAMILIES.get(family, socket.AF_UNSPEC),
        TYPES.get(kind, 0),
        _PROTOCOLS.get(protocol, 0),
        sum(flag for bit, flag in enumerate(_FLAGS) if flags & 1 << bit),
    )
    wasi.sockets.learn(host, [ip_address(entry[4][0].partition("%")[0]) for entry in found])
    (place,) = U32.unpack_from(memory, results)
    written = 0
    for entry in found:
        if written == most or not place:
            break
        if _put(memory, place, *entry):
            (place,) = _NEXT.unpack_from(memory, place + _NEXT_OFFSET)
            written += 1
    U32.pack_into(memory, count, written)


def _text(memory: memoryview, pointer: int, length: int) -> str:
    """A name; programs may count its final zero."""
    if length > _LONGEST:
        raise WasiError(Errno.AINONAME)
    text = window(memory, pointer, length).tobytes().removesuffix(b"\0")
    try:
        return text.decode("ascii")
    except UnicodeDecodeError:
        raise WasiError(Errno.AINONAME) from None


def _is_address(host: str) -> bool:
    """Whether there is nothing to ask anybody for."""
    try:
        ip_address(host)
    except ValueError:
        return not host
    return True


def _resolve(wasi: Wasi, *question: Any) -> list[Any]:
    """`socket.getaddrinfo` in another thread, so that an interruption does not wait for it."""
    answer: list[Any] = []
    over, ending = os.pipe()

    def ask() -> None:
        try:
            answer.append(socket.getaddrinfo(*question))
        except (OSError, UnicodeError) as error:
            answer.append(error)
        finally:
            os.close(ending)

    try:
        try:
            threading.Thread(target=ask, name="wasmedge-resolver", daemon=True).start()
        except RuntimeError:  # the system has no more threads
            os.close(ending)
            raise WasiError(Errno.AIAGAIN) from None
        wasi.wait({over: select.POLLIN})
    finally:
        os.close(over)
    [result] = answer
    if isinstance(result, UnicodeError):
        raise WasiError(Errno.AINONAME)
    if isinstance(result, OSError):
        raise result
    found: list[Any] = result
    return found


def _put(
    memory: memoryview, place: int, family: int, kind: int, protocol: int, name: str, address: Any
) -> bool:
    """Write one result; False when the program has no room for its address."""
    host, port, *more = address
    packed = ip_address(host.partition("%")[0]).packed
    data = port.to_bytes(2, "big") + packed
    if len(packed) == 16:
        flow, scope = more
        data = port.to_bytes(2, "big") + flow.to_bytes(4, "big") + packed
        data += scope.to_bytes(4, "little")
    flags, *_, where, name_at, name_room, following = _ADDRINFO.unpack_from(memory, place)
    _, room, data_at = _SOCKADDR.unpack_from(memory, where)
    if room < len(data):
        return False
    number = next(number for number, value in FAMILIES.items() if value == family)
    content = data.ljust(min(room, _MOST_FILLED), b"\0")
    window(memory, data_at, room)[: len(content)] = content
    _SOCKADDR.pack_into(memory, where, number, room, data_at)
    canonical = name.encode()[:name_room]
    window(memory, name_at, len(canonical))[:] = canonical
    _ADDRINFO.pack_into(
        memory,
        place,
        flags,
        number,
        next((number for number, value in TYPES.items() if value == kind), 0),
        next((number for number, value in _PROTOCOLS.items() if value == protocol), 0),
        room + 2,
        where,
        name_at,
        len(canonical),
        following,
    )
    return True

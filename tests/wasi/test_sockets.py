"""Sockets, on the loopback interface, and what the list of allowed addresses refuses."""

from __future__ import annotations

import os
import socket
import struct
import threading
import tracemalloc
from ipaddress import ip_address
from typing import Any

import pytest

from tests.runtime.engine import Running
from tests.wasi.guest import RESULT, Guest
from wasmedge_runtime.wasi import abi
from wasmedge_runtime.wasi.abi import Errno
from wasmedge_runtime.wasi.allow import AllowList

INET4, INET6 = 1, 2
DGRAM, STREAM = 1, 2
LOCAL = bytes([127, 0, 0, 1])


def open_socket(guest: Guest, family: int = INET4, kind: int = STREAM) -> int:
    guest.do("sock_open", family, kind, RESULT)
    fd: int = guest.get("<I")
    return fd


def address(guest: Guest, packed: bytes = LOCAL) -> int:
    return guest.iovec(*guest.put(packed))


def storage(guest: Guest, packed: bytes = b"") -> int:
    """An address of 128 bytes, which begins with the family."""
    family = {4: INET4, 16: INET6}.get(len(packed), 0)
    return guest.iovec(*guest.put((struct.pack("<H", family) + packed).ljust(128, b"\0")))


def received(guest: Guest, fd: int, size: int = 64, flags: int = 0) -> tuple[bytes, int]:
    place = guest.room(size)
    guest.do("sock_recv", fd, guest.iovec(place, size), 1, flags, RESULT, RESULT + 4)
    return guest.memory.get_data(place, guest.get("<I")), guest.get("<H", RESULT + 4)


def send(guest: Guest, fd: int, data: bytes) -> int:
    guest.do("sock_send", fd, guest.iovec(*guest.put(data)), 1, 0, RESULT)
    sent: int = guest.get("<I")
    return sent


def fill(guest: Guest, fd: int) -> None:
    """Send more than the peer takes."""
    guest.do("fd_fdstat_set_flags", fd, abi.FDFLAGS_NONBLOCK)
    iovec = guest.iovec(0, 1 << 16)
    while guest.call("fd_write", fd, iovec, 1, RESULT) is Errno.SUCCESS:
        pass


@pytest.fixture
def server() -> Any:
    """A listening socket of the host."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        yield listening


def test_nothing_is_allowed_until_it_is_allowed() -> None:
    guest = Guest()
    assert guest.call("sock_open", INET4, STREAM, RESULT) is Errno.ACCES
    name = guest.put("localhost")
    hints = guest.room(28)
    lookup = ("sock_getaddrinfo", *name, *guest.put(""), hints, RESULT, 1, RESULT)
    assert guest.call(*lookup) is Errno.ACCES


def test_only_allowed_addresses_are_connected_to(server: socket.socket) -> None:
    port = server.getsockname()[1]
    guest = Guest(allow_sockets=[f"127.0.0.1:{port + 1}", f"10.0.0.0/8:{port}"])
    fd = open_socket(guest)
    assert guest.call("sock_connect", fd, address(guest), port) is Errno.ACCES
    assert guest.call("sock_bind", fd, address(guest), port) is Errno.ACCES
    mapped = address(guest, bytes(10) + b"\xff\xff" + LOCAL)
    assert guest.call("sock_connect", open_socket(guest, INET6), mapped, port) is Errno.ACCES
    iovec = guest.iovec(*guest.put(b"x"))
    sent = ("sock_send_to", open_socket(guest, INET4, DGRAM), iovec, 1, address(guest), port)
    assert guest.call(*sent, 0, RESULT) is Errno.ACCES


@pytest.mark.parametrize(
    ("family", "kind"), [(INET4, STREAM), (0, 1)], ids=["numbers of today", "numbers of 0.9"]
)
@pytest.mark.parametrize("form", [address, storage])
def test_a_client_talks_to_a_server(
    server: socket.socket, family: int, kind: int, form: Any
) -> None:
    port = server.getsockname()[1]
    guest = Guest(allow_sockets=[f"127.0.0.1:{port}"])
    fd = open_socket(guest, family, kind)
    guest.do("sock_connect", fd, form(guest, LOCAL), port)
    peer, _ = server.accept()
    assert send(guest, fd, b"request") == 7
    assert peer.recv(64) == b"request"
    peer.sendall(b"response")
    assert received(guest, fd, 4, abi.RIFLAGS_RECV_PEEK) == (b"resp", 0)
    assert guest.read(fd, 4) == b"resp"
    assert received(guest, fd) == (b"onse", 0)
    guest.write(fd, b"more")
    guest.do("sock_shutdown", fd, abi.SDFLAGS_WR)
    assert peer.recv(64) == b"more"
    assert peer.recv(64) == b""
    peer.close()
    assert received(guest, fd) == (b"", 0)


def test_all_of_it_is_waited_for(server: socket.socket) -> None:
    port = server.getsockname()[1]
    guest = Guest(allow_sockets=[f"127.0.0.1:{port}"])
    fd = open_socket(guest)
    guest.do("sock_connect", fd, address(guest), port)
    peer, _ = server.accept()
    peer.sendall(b"one")
    running = Running(received, guest, fd, 6, abi.RIFLAGS_RECV_WAITALL)
    peer.sendall(b"two")
    assert running.result() == (b"onetwo", 0)
    peer.close()


def test_what_has_come_is_not_lost_when_waiting_for_all_ends(server: socket.socket) -> None:
    port = server.getsockname()[1]
    guest = Guest(allow_sockets=[f"127.0.0.1:{port}"])
    fd = open_socket(guest)
    guest.do("sock_connect", fd, address(guest), port)
    peer, _ = server.accept()
    with peer:
        peer.sendall(b"some")
        guest.do("sock_setsockopt", fd, 0, 11, *guest.put(struct.pack("<qq", 0, 1000)))
        assert received(guest, fd, 64, abi.RIFLAGS_RECV_WAITALL) == (b"some", 0)


@pytest.mark.parametrize("accept", ["sock_accept", "sock_accept_2"])
def test_a_server_accepts_a_client(accept: str) -> None:
    guest = Guest(allow_sockets=["127.0.0.1:*"])
    fd = open_socket(guest)
    guest.do("sock_bind", fd, address(guest), 0)
    guest.do("sock_listen", fd, 5)
    name = guest.room(16)
    guest.do("sock_getlocaladdr_4", fd, guest.iovec(name, 16), RESULT, RESULT + 4)
    kind, port = guest.get("<II")
    assert (kind, guest.memory.get_data(name, 4)) == (4, LOCAL)

    def client() -> bytes:
        with socket.create_connection(("127.0.0.1", port)) as wire:
            return wire.recv(64)

    running = Running(client)
    guest.do(accept, fd, *([0] if accept == "sock_accept" else []), RESULT)
    connection = guest.get("<I")
    peer = storage(guest)
    guest.do("sock_getpeeraddr", connection, peer, RESULT)
    start, _ = guest.get("<II", peer)
    assert guest.memory.get_data(start, 6) == struct.pack("<H", INET4) + LOCAL
    send(guest, connection, b"welcome")
    assert running.result() == b"welcome"


def test_listening_where_the_system_chooses_is_refused() -> None:
    guest = Guest(allow_sockets=["127.0.0.1:*"])
    assert guest.call("sock_listen", open_socket(guest), 1) is Errno.DESTADDRREQ


def test_a_connection_that_failed_is_no_permission_to_listen() -> None:
    with socket.create_server(("127.0.0.1", 0)) as closing:
        port = closing.getsockname()[1]
    guest = Guest(allow_sockets=[f"127.0.0.1:{port}"])
    fd = open_socket(guest)
    assert guest.call("sock_connect", fd, address(guest), port) is Errno.CONNREFUSED
    guest.call("sock_connect", fd, address(guest), port)  # makes it a socket without a peer again
    assert guest.call("sock_listen", fd, 1) is Errno.DESTADDRREQ


def test_datagrams() -> None:
    guest = Guest(allow_sockets=["127.0.0.1:*"])
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as peer:
        peer.bind(("127.0.0.1", 0))
        port = peer.getsockname()[1]
        fd = open_socket(guest, INET4, DGRAM)
        guest.do("sock_bind", fd, address(guest), 0)
        iovec = guest.iovec(*guest.put(b"ping"))
        guest.do("sock_send_to", fd, iovec, 1, address(guest), port, 0, RESULT)
        data, sender = peer.recvfrom(64)
        assert data == b"ping"
        peer.sendto(b"pong", sender)
        place, source = guest.room(3), storage(guest)
        guest.do(
            "sock_recv_from",
            *(fd, guest.iovec(place, 3), 1, source, 0, RESULT, RESULT + 4, RESULT + 8),
        )
        assert guest.get("<IIH") == (port, 3, abi.ROFLAGS_RECV_DATA_TRUNCATED)
        assert guest.memory.get_data(place, 3) == b"pon"
        start, _ = guest.get("<II", source)
        assert guest.memory.get_data(start, 6) == struct.pack("<H", INET4) + LOCAL
        peer.sendto(b"pong", sender)
        plain = guest.room(4)
        guest.do(
            "sock_recv_from_7",
            *(fd, guest.iovec(place, 3), 1, guest.iovec(plain, 4), 0, RESULT, RESULT + 4),
        )
        assert guest.memory.get_data(plain, 4) == LOCAL


def test_a_socket_that_does_not_wait(server: socket.socket) -> None:
    port = server.getsockname()[1]
    guest = Guest(allow_sockets=[f"127.0.0.1:{port}"])
    fd = open_socket(guest)
    guest.do("fd_fdstat_set_flags", fd, abi.FDFLAGS_NONBLOCK)
    errno = guest.call("sock_connect", fd, address(guest), port)
    assert errno in (Errno.INPROGRESS, Errno.SUCCESS)
    subscription = guest.put(struct.pack("<QB7xI28x", 0, abi.EVENTTYPE_FD_WRITE, fd))[0]
    guest.do("poll_oneoff", subscription, guest.room(32), 1, RESULT)
    guest.do("sock_getsockopt", fd, 0, 2, RESULT, guest.put(struct.pack("<I", 4))[0])
    assert guest.get("<I") == 0  # SO_ERROR: it is connected
    iovec = guest.iovec(guest.room(8), 8)
    assert guest.call("sock_recv", fd, iovec, 1, 0, RESULT, RESULT) is Errno.AGAIN


def test_a_timeout_of_the_guest_ends_its_waiting(server: socket.socket) -> None:
    port = server.getsockname()[1]
    guest = Guest(allow_sockets=[f"127.0.0.1:{port}"])
    fd = open_socket(guest)
    guest.do("sock_connect", fd, address(guest), port)
    timeval = guest.put(struct.pack("<qq", 0, 1500))[0]
    guest.do("sock_setsockopt", fd, 0, 11, timeval, 16)
    size = guest.put(struct.pack("<I", 16))[0]
    guest.do("sock_getsockopt", fd, 0, 11, RESULT, size)
    assert guest.get("<qq") == (0, 1500)
    iovec = guest.iovec(guest.room(8), 8)
    assert guest.call("sock_recv", fd, iovec, 1, 0, RESULT, RESULT) is Errno.AGAIN


@pytest.mark.parametrize("bound", [False, True])
def test_only_a_socket_that_may_listen_hears_strangers(bound: bool) -> None:
    with (
        socket.socket(type=socket.SOCK_DGRAM) as friend,
        socket.socket(type=socket.SOCK_DGRAM) as stranger,
    ):
        friend.bind(("127.0.0.1", 0))
        port = friend.getsockname()[1]
        stranger.bind(("127.0.0.2", 0))
        rule = "127.0.0.1:*" if bound else f"127.0.0.1:{port}"
        guest = Guest(allow_sockets=[rule])
        fd = open_socket(guest, INET4, DGRAM)
        if bound:
            guest.do("sock_bind", fd, address(guest), 0)
        sending = (fd, guest.iovec(*guest.put(b"hello")), 1, address(guest), port, 0, RESULT)
        guest.do("sock_send_to", *sending)
        _, place = friend.recvfrom(10)
        stranger.sendto(b"stranger", ("127.0.0.1", place[1]))
        friend.sendto(b"friend", ("127.0.0.1", place[1]))
        buffer = guest.room(16)
        iovec = guest.iovec(buffer, 16)
        for flags in (abi.RIFLAGS_RECV_PEEK, 0):
            guest.do("sock_recv", fd, iovec, 1, flags, RESULT, RESULT + 8)
            content = guest.memory.get_data(buffer, guest.get("<I"))
            assert content == (b"stranger" if bound else b"friend")


def test_options() -> None:
    guest = Guest(allow_sockets=["127.0.0.1:*"])
    fd = open_socket(guest)
    size = guest.put(struct.pack("<I", 8))[0]
    guest.do("sock_setsockopt", fd, 0, 0, guest.put(struct.pack("<i", 1))[0], 4)
    for option, expected in ((0, 1), (1, STREAM), (13, 0)):
        guest.do("sock_getsockopt", fd, 0, option, RESULT, size)
        assert (guest.get("<i"), guest.get("<I", size)) == (expected, 4)
    guest.do("sock_setsockopt", fd, 0, 9, guest.put(struct.pack("<ii", 1, 7))[0], 8)
    guest.memory.set_data(struct.pack("<I", 8), size)
    guest.do("sock_getsockopt", fd, 0, 9, RESULT, size)
    assert guest.get("<ii") == (1, 7)
    device = guest.put("lo")
    assert guest.call("sock_setsockopt", fd, 0, 14, *device) is Errno.NOPROTOOPT
    assert guest.call("sock_setsockopt", fd, 6, 1, *guest.put(bytes(4))) is Errno.NOPROTOOPT


@pytest.mark.parametrize("accepted", [False, True], ids=["connected", "accepted"])
def test_a_guest_does_not_make_the_host_wait_when_its_sockets_are_closed(
    server: socket.socket, accepted: bool
) -> None:
    port = server.getsockname()[1]
    guest = Guest(allow_sockets=["127.0.0.1:*"])
    fd = open_socket(guest)
    guest.do("sock_setsockopt", fd, 0, 9, *guest.put(struct.pack("<ii", 1, 3600)))
    if accepted:
        guest.do("sock_bind", fd, address(guest), 0)
        guest.do("sock_listen", fd, 1)
        guest.do("sock_getlocaladdr", fd, address(guest), RESULT)
        peer = socket.create_connection(("127.0.0.1", guest.get("<I")))
        guest.do("sock_accept", fd, 0, RESULT)
        fd = guest.get("<I")
    else:
        guest.do("sock_connect", fd, address(guest), port)
        peer, _ = server.accept()
    fill(guest, fd)
    closing = Running(guest.wasi.init_wasi)
    closing.thread.join(10)
    in_time = not closing.thread.is_alive()
    peer.close()
    assert in_time


def test_a_refused_connection_says_so() -> None:
    with socket.create_server(("127.0.0.1", 0)) as gone:
        port = gone.getsockname()[1]
    guest = Guest(allow_sockets=[f"127.0.0.1:{port}"])
    errno = guest.call("sock_connect", open_socket(guest), address(guest), port)
    assert errno is Errno.CONNREFUSED


def test_a_peer_that_has_gone_is_an_error_of_the_write(server: socket.socket) -> None:
    port = server.getsockname()[1]
    guest = Guest(allow_sockets=[f"127.0.0.1:{port}"])
    fd = open_socket(guest)
    guest.do("sock_connect", fd, address(guest), port)
    guest.do("sock_shutdown", fd, abi.SDFLAGS_WR)
    assert guest.write_errno(fd, b"x") is Errno.PIPE


def test_what_is_no_socket() -> None:
    guest = Guest(stdin=b"")
    assert guest.call("sock_shutdown", 0, 1) is Errno.NOTSOCK
    assert guest.call("sock_shutdown", 77, 1) is Errno.BADF


# Looking names up.

NEXT, ADDR = 24, 12


def chain(guest: Guest, length: int, room: int = 26) -> int:
    """Results as programs make them: each with an address and the next one."""
    following = 0
    for _ in range(length):
        where = guest.put(struct.pack("<B3xII", 0, room, guest.room(room)))[0]
        name = guest.room(30)
        following = guest.put(
            struct.pack("<HBBB3xIIIII", 0, 0, 0, 0, 0, where, name, 30, following)
        )[0]
    return following


def look_up(guest: Guest, name: str, most: int = 4) -> list[tuple[int, int, bytes]]:
    """Family, port and address of each result."""
    results = guest.put(struct.pack("<I", chain(guest, most)))[0]
    hints = guest.put(struct.pack("<HBBB3xIIIII", 0, INET4, STREAM, 1, 0, 0, 0, 0, 0))[0]
    guest.do(
        "sock_getaddrinfo",
        *(*guest.put(name + "\0"), *guest.put("80\0"), hints, results, most, RESULT),
    )
    place, found = guest.get("<I", results), []
    for _ in range(guest.get("<I")):
        where = guest.get("<I", place + ADDR)
        family, _, data = guest.get("<B3xII", where)
        content = guest.memory.get_data(data, 6)
        found.append((family, int.from_bytes(content[:2], "big"), content[2:]))
        place = guest.get("<I", place + NEXT)
    return found


def test_a_name_that_is_allowed_is_looked_up_and_connected_to(
    server: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    def answer(host: str, *question: Any) -> list[Any]:
        asked.append(host)
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", 80))]

    monkeypatch.setattr(socket, "getaddrinfo", answer)
    port = server.getsockname()[1]
    guest = Guest(allow_sockets=[f"localhost:{port}"])
    fd = open_socket(guest)
    assert guest.call("sock_connect", fd, address(guest), port) is Errno.ACCES
    assert look_up(guest, "localhost") == [(INET4, 80, LOCAL)]
    guest.do("sock_connect", fd, address(guest), port)
    assert asked == ["localhost"]


def test_addresses_need_no_permission_to_be_read() -> None:
    guest = Guest()
    assert look_up(guest, "192.0.2.7") == [(INET4, 80, bytes([192, 0, 2, 7]))]


def test_room_of_gigabytes_for_an_address_costs_the_host_nothing() -> None:
    guest = Guest()
    results = guest.put(struct.pack("<I", chain(guest, 1)))[0]
    where = guest.get("<I", guest.get("<I", results) + ADDR)
    guest.memory.set_data(struct.pack("<I", 1 << 28), where + 4)
    arguments = (*guest.put("192.0.2.7"), *guest.put("80"), guest.room(28), results, 1, RESULT)
    tracemalloc.start()
    try:
        assert guest.call("sock_getaddrinfo", *arguments) is Errno.FAULT
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
    finally:
        tracemalloc.stop()


def test_a_name_that_nobody_knows_is_an_errno(monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(*question: Any) -> list[Any]:
        raise socket.gaierror(socket.EAI_NONAME, "unknown")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    guest = Guest(allow_sockets=["nowhere.example:1"])
    arguments = (*guest.put("nowhere.example"), *guest.put(""), guest.room(28), RESULT, 1, RESULT)
    assert guest.call("sock_getaddrinfo", *arguments) is Errno.AINONAME


# The list.


@pytest.mark.parametrize(
    ("rule", "allowed", "refused"),
    [
        ("127.0.0.1:80", [("127.0.0.1", 80)], [("127.0.0.1", 81), ("127.0.0.2", 80)]),
        ("10.0.0.0/8:*", [("10.1.2.3", 1), ("10.0.0.0", 65535)], [("11.0.0.1", 1)]),
        ("[::1]:80", [("::1", 80)], [("127.0.0.1", 80), ("::2", 80)]),
        ("[fe80::/10]:1-5", [("fe80::9", 5)], [("fe80::9", 6), ("::1", 1)]),
        ("*:8000-8099", [("192.0.2.1", 8000), ("::1", 8099)], [("192.0.2.1", 8100)]),
        ("127.0.0.1:80", [("::ffff:127.0.0.1", 80)], [("0.0.0.0", 80), ("::", 80)]),
        ("host.example:80", [], [("127.0.0.1", 80)]),
    ],
)
def test_rules(rule: str, allowed: list[tuple[str, int]], refused: list[tuple[str, int]]) -> None:
    rules = AllowList([rule])
    assert all(rules.allows(ip_address(host), port) for host, port in allowed)
    assert not any(rules.allows(ip_address(host), port) for host, port in refused)


def test_names_in_rules() -> None:
    rules = AllowList(["Host.Example:80"])
    assert rules.allows_name("host.EXAMPLE")
    assert not rules.allows_name("other.example")
    assert AllowList(["*:80"]).allows_name("other.example")
    rules.learn("other.example", [ip_address("9.9.9.9")])
    assert not rules.allows(ip_address("9.9.9.9"), 80)
    rules.learn("HOST.example", [ip_address("9.9.9.9")])
    assert rules.allows(ip_address("9.9.9.9"), 80)
    assert not rules.allows(ip_address("9.9.9.9"), 81)


@pytest.mark.parametrize(
    "host",
    [
        *("127.0.0.1", "127.8.0.1", "0.0.0.0", "10.1.2.3", "192.168.0.1", "169.254.169.254"),
        *("100.100.100.200", "224.0.0.251", "255.255.255.255"),
        *("::1", "::", "::ffff:127.0.0.1", "::ffff:10.0.0.1", "fe80::1", "fd00::1", "ff02::1"),
    ],
)
def test_a_name_does_not_allow_addresses_that_are_not_public(host: str) -> None:
    """Who answers for the name would choose which of the host's services the program reaches."""
    rules = AllowList(["evil.example:*"])
    rules.learn("evil.example", [ip_address(host)])
    assert not rules.allows(ip_address(host), 80)
    rules = AllowList(["evil.example:*", f"[{host}]:80" if ":" in host else f"{host}:80"])
    rules.learn("evil.example", [ip_address(host)])
    if "ffff" not in host:
        assert rules.allows(ip_address(host), 80)


def test_localhost_stands_for_loopback_addresses_only() -> None:
    rules = AllowList(["localhost:80"])
    rules.learn("localhost", map(ip_address, ("127.0.0.1", "::1", "10.0.0.1")))
    assert rules.allows(ip_address("127.0.0.1"), 80)
    assert rules.allows(ip_address("::1"), 80)
    assert not rules.allows(ip_address("10.0.0.1"), 80)


def test_any_port_that_the_system_chooses_needs_a_rule_for_all() -> None:
    assert AllowList(["127.0.0.1:*"]).allows(ip_address("127.0.0.1"), 0)
    for ports in ("0", "0-100", "0-65535"):
        with pytest.raises(ValueError, match=r"\*, which includes port 0"):
            AllowList([f"127.0.0.1:{ports}"])


def test_names_of_one_address_do_not_take_it_from_each_other() -> None:
    rules = AllowList(["one.example:443", "two.example:80"])
    rules.learn("one.example", [ip_address("9.9.9.9")])
    rules.learn("two.example", [ip_address("9.9.9.9")])
    assert rules.allows(ip_address("9.9.9.9"), 443)
    assert rules.allows(ip_address("9.9.9.9"), 80)


@pytest.mark.parametrize(
    "rule",
    [
        *("127.0.0.1", "127.0.0.1:", "127.0.0.1:65536", "127.0.0.1:9-8", "127.0.0.1:x"),
        *("::1:80", "[host]:80", "a b:80", ":80", "127.0.0.1/33:80", "127.0.0.1:1-2-3"),
        "http://x:80",
    ],
)
def test_what_is_no_rule_is_refused(rule: str) -> None:
    with pytest.raises(ValueError, match=r"allow_sockets|address|port"):
        AllowList([rule])


def test_a_single_string_is_no_list() -> None:
    with pytest.raises(TypeError, match="single str"):
        Guest(allow_sockets="127.0.0.1:80")


def test_no_thread_is_left_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    guest = Guest()
    look_up(guest, "192.0.2.7")
    for thread in threading.enumerate():
        if thread.name == "wasmedge-resolver":
            thread.join(10)
    assert not any(thread.name == "wasmedge-resolver" for thread in threading.enumerate())


def test_a_look_up_without_a_thread_leaves_no_descriptor(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    guest = Guest()
    arguments = (*guest.put("192.0.2.7"), *guest.put(""), guest.room(28), RESULT, 1, RESULT)
    before = os.listdir("/proc/self/fd")
    monkeypatch.setattr(threading.Thread, "start", refuse)
    assert guest.call("sock_getaddrinfo", *arguments) is Errno.AIAGAIN
    assert os.listdir("/proc/self/fd") == before

"""A guest that waits in the host is interrupted at once, and a late interruption harms nobody."""

from __future__ import annotations

import contextlib
import os
import socket
import struct
import threading
import time
import tty
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.runtime.engine import Engine, Running, output_of, wait_until
from tests.wasi.guest import RESULT, Guest, tree
from tests.wat import wat
from wasmedge_runtime import ErrCode, Executor, Loader, Store, Validator, WasiImportObject
from wasmedge_runtime.wasi import abi
from wasmedge_runtime.wasi.abi import Errno
from wasmedge_runtime.wasi.descriptors import Descriptor

HOUR_NS = 3_600_000_000_000


def clock(guest: Guest, timeout_ns: int, userdata: int = 0) -> int:
    """A subscription to the monotonic clock, in memory."""
    return guest.put(struct.pack("<QB7xI4xQQH6x", userdata, 0, 1, timeout_ns, 0, 0))[0]


def sleep(guest: Guest) -> tuple[str, tuple[int, ...]]:
    return "poll_oneoff", (clock(guest, HOUR_NS), guest.room(32), 1, RESULT)


def read_stdin(guest: Guest) -> tuple[str, tuple[int, ...]]:
    return "fd_read", (0, guest.iovec(guest.room(8), 8), 1, RESULT)


def fill_stdout(guest: Guest) -> tuple[str, tuple[int, ...]]:
    return "fd_write", (1, guest.iovec(0, 4 * 65536), 1, RESULT)


def poll_stdin(guest: Guest) -> tuple[str, tuple[int, ...]]:
    subscription = guest.put(struct.pack("<QB7xI28x", 0, abi.EVENTTYPE_FD_READ, 0))[0]
    return "poll_oneoff", (subscription, guest.room(32), 1, RESULT)


def accept(guest: Guest) -> tuple[str, tuple[int, ...]]:
    guest.do("sock_open", 1, 2, RESULT)
    fd = guest.get("<I")
    address = guest.iovec(*guest.put(bytes([127, 0, 0, 1])))
    guest.do("sock_bind", fd, address, 0)
    guest.do("sock_listen", fd, 1)
    return "sock_accept", (fd, 0, RESULT)


def look_up(guest: Guest) -> tuple[str, tuple[int, ...]]:
    node = guest.put("slow.example")
    hints = guest.room(28)
    return "sock_getaddrinfo", (*node, *guest.put(""), hints, RESULT, 1, RESULT + 8)


def never(*args: object) -> list[object]:
    """A name server that does not answer while anybody waits."""
    time.sleep(2)
    return []


@pytest.mark.parametrize("wait", [sleep, read_stdin, fill_stdout, poll_stdin, accept, look_up])
def test_waiting_ends(
    wait: Callable[[Guest], tuple[str, tuple[int, ...]]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(socket, "getaddrinfo", never)
    reader, writer = os.pipe()
    other_reader, other_writer = os.pipe()
    guest = Guest(
        stdin=reader, stdout=other_writer, allow_sockets=["127.0.0.1:*", "slow.example:1"]
    )
    name, arguments = wait(guest)
    running = Running(guest.call, name, *arguments)
    wait_until(lambda: bool(guest.store.core.activation.in_host))
    time.sleep(0.01)  # it is on its way into the system call, or there
    assert guest.store.interrupt()
    assert running.trap().kind is ErrCode.Interrupted
    guest.do("sched_yield")  # the next call is not hit
    for descriptor in (reader, writer, other_reader, other_writer):
        os.close(descriptor)


def pipe(folder: Path) -> tuple[int, int]:
    return os.pipe()


def fifo(folder: Path) -> tuple[int, int]:
    os.mkfifo(folder / "fifo")
    reader = os.open(folder / "fifo", os.O_RDONLY | os.O_NONBLOCK)
    writer = os.open(folder / "fifo", os.O_WRONLY)
    os.set_blocking(reader, True)
    return reader, writer


def terminal(folder: Path) -> tuple[int, int]:
    main, secondary = os.openpty()
    tty.setraw(secondary)
    return secondary, main


def terminal_to_write(folder: Path) -> tuple[int, int]:
    return terminal(folder)[::-1]


@pytest.mark.parametrize(
    ("make", "wait"),
    [
        *((pipe, read_stdin), (fifo, read_stdin), (terminal, read_stdin)),
        *((pipe, fill_stdout), (fifo, fill_stdout), (terminal_to_write, fill_stdout)),
    ],
)
def test_a_stream_that_others_were_quicker_to_read_or_write_is_waited_for_interruptibly(
    make: Callable[[Path], tuple[int, int]],
    wait: Callable[[Guest], tuple[str, tuple[int, ...]]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It was ready when the guest looked, and is not any more when it reads or writes."""
    reader, writer = make(tmp_path)
    os.set_blocking(writer, False)
    with contextlib.suppress(BlockingIOError):
        while wait is fill_stdout:
            os.write(writer, bytes(65536))
    os.set_blocking(writer, True)
    guest = Guest(stdin=reader, stdout=writer)
    monkeypatch.setattr(Descriptor, "ready", lambda self, events: True)
    name, arguments = wait(guest)
    running = Running(guest.call, name, *arguments)
    try:
        wait_until(lambda: bool(guest.store.core.activation.in_host))
        time.sleep(0.01)
        guest.store.interrupt()
        running.thread.join(10)
        in_time = not running.thread.is_alive()
        # The flags of what others have too are as they were.
        blocking = os.get_blocking(reader) and os.get_blocking(writer)
    finally:
        for descriptor in (writer, reader):
            os.close(descriptor)
    assert in_time
    assert blocking
    assert running.trap().kind is ErrCode.Interrupted


@pytest.mark.parametrize(("name", "stream"), [("fd_read", 0), ("fd_write", 1)])
def test_a_module_without_a_memory_does_not_wait(name: str, stream: int) -> None:
    """Its calls have no memory to find the Store by, which knows about interruptions."""
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    with contextlib.suppress(BlockingIOError):
        while True:
            os.write(writer, bytes(65536))
    os.set_blocking(writer, True)
    empty, other = os.pipe()
    wasi = WasiImportObject(stdin=empty, stdout=writer)
    store, executor = Store(), Executor()
    executor.register_import(store, wasi)
    module = Loader().load_buffer(
        wat(
            f"""(module
              (import "wasi_snapshot_preview1" "{name}"
                (func $wait (param i32 i32 i32 i32) (result i32)))
              (func (export "run") (result i32)
                (call $wait (i32.const {stream}) (i32.const 0) (i32.const 0) (i32.const 0))))"""
        )
    )
    Validator().validate(module)
    executor.instantiate(store, module)
    running = Running(executor.invoke, store, "run")
    try:
        assert running.result() == [Errno.FAULT]
    finally:
        for descriptor in (reader, other, writer, empty):
            os.close(descriptor)


def test_interruptions_that_come_early_are_not_lost() -> None:
    """The request may arrive before the thread waits, or while it begins to."""
    guest = Guest()
    name, arguments = sleep(guest)
    for _ in range(100):
        running = Running(guest.call, name, *arguments)
        wait_until(lambda: bool(guest.store.core.activation.call_id))
        guest.store.interrupt()
        assert running.trap().kind is ErrCode.Interrupted


def test_random_numbers_for_all_of_a_large_memory_are_interrupted() -> None:
    guest = Guest()
    guest.memory.grow_page(32768 - guest.memory.page_size)
    running = Running(guest.call, "random_get", 0, 1 << 31)
    wait_until(lambda: bool(guest.store.core.activation.in_host))
    guest.store.interrupt()
    assert running.trap().kind is ErrCode.Interrupted


def test_a_call_inside_a_host_function_of_another_store_is_woken_too() -> None:
    guest = Guest()
    name, arguments = sleep(guest)
    outer = Engine()
    outer.host(wait=([], [], lambda data, memory: guest.call(name, *arguments) and None))
    outer.instantiate('(module (import "host" "wait" (func $w)) (func (export "f") (call $w)))')
    running = Running(outer.call, "f")
    wait_until(lambda: bool(guest.store.core.activation.in_host))
    outer.store.interrupt()
    assert running.trap().kind is ErrCode.Interrupted


def test_waking_a_thread_that_does_not_wait_changes_nothing() -> None:
    from wasmedge_runtime.waiting import wait, wake

    wake(threading.get_native_id())
    started = time.monotonic_ns()
    assert wait({}, 2_000_000, lambda: False) == []
    assert time.monotonic_ns() - started >= 2_000_000


def test_a_forked_process_has_an_event_of_its_own() -> None:
    """Else it takes the wake-ups of its parent's thread."""
    script = """
        import os
        from wasmedge_runtime import waiting
        parent = waiting._event().descriptor
        os.eventfd_write(parent, 1)
        child = os.fork()
        if not child:
            os._exit(waiting.wait({}, 1_000_000, lambda: False) != [])
        status = os.waitpid(child, 0)[1]
        print(status, os.eventfd_read(parent))
    """
    assert output_of(script) == "0 1"


def test_ctrl_c_ends_a_program_that_sleeps() -> None:
    script = """
        import os, signal, threading
        from tests.runtime.engine import wait_until
        from tests.wasi.guest import Guest
        from tests.wasi.test_interruption import sleep
        guest = Guest()
        name, arguments = sleep(guest)
        def interrupt():
            wait_until(lambda: bool(guest.store.core.activation.in_host))
            os.kill(os.getpid(), signal.SIGINT)
        threading.Thread(target=interrupt).start()
        try:
            guest.call(name, *arguments)
        except KeyboardInterrupt:
            print("stopped")
    """
    assert output_of(script) == "stopped"


def test_a_signal_that_python_handles_does_not_end_the_waiting() -> None:
    script = """
        import os, signal, threading, time
        from tests.runtime.engine import wait_until
        from tests.wasi.guest import Guest, RESULT
        from tests.wasi.test_interruption import clock
        seen = []
        signal.signal(signal.SIGUSR1, lambda *args: seen.append(time.monotonic()))
        guest = Guest()
        arguments = (clock(guest, 100_000_000), guest.room(32), 1, RESULT)
        def send():
            wait_until(lambda: bool(guest.store.core.activation.in_host))
            os.kill(os.getpid(), signal.SIGUSR1)
        threading.Thread(target=send).start()
        started = time.monotonic()
        guest.do("poll_oneoff", *arguments)
        print(len(seen), time.monotonic() - started >= 0.1)
    """
    assert output_of(script) == "1 True"


def test_a_pipe_that_is_opened_without_a_writer_is_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tree(tmp_path) / "pipe")
    guest = Guest(preopens={"/": tmp_path})
    fd = guest.open("pipe", 0, abi.FD_READ)
    iovec = guest.iovec(guest.room(8), 8)
    running = Running(guest.call, "fd_read", fd, iovec, 1, RESULT)
    wait_until(lambda: bool(guest.store.core.activation.in_host))
    guest.store.interrupt()
    assert running.trap().kind is ErrCode.Interrupted
    writer = os.open(tmp_path / "pipe", os.O_WRONLY)
    os.write(writer, b"late")
    assert guest.read(fd) == b"late"
    os.close(writer)

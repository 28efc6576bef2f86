"""The worker's program: takes requests from the data socket and runs them on the engine, in order.

Blocking reads, no event loop. Each answer leaves before the next request begins, so that a crash
loses no answer but the one of the request that was running. Whatever the parent sends that is
not understood ends the process.

While a guest waits for a host function of the parent, what that function asks for runs inside of
the guest's call, in order, one at a time; other requests wait for its end.
"""

from __future__ import annotations

import logging
import mmap
import os
import select
import socket
import sys
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Any

from wasmedge_pool.errors import CallTimeout, error_to_wire
from wasmedge_pool.messages import (
    NESTED,
    VERSION,
    Batch,
    Broadcast,
    Call,
    CallBindgen,
    CallHandle,
    Chunk,
    CreateVM,
    DropVM,
    Failure,
    Find,
    Follow,
    Hello,
    HostCall,
    HostReply,
    InitWasi,
    List,
    Log,
    Message,
    Operate,
    ProtocolError,
    ReadMemory,
    Ready,
    Release,
    Result,
    Run,
    Skipped,
    Spawn,
    Wanted,
    Within,
    WriteMemory,
)
from wasmedge_pool.page import RUNNING, SIZE
from wasmedge_pool.protocol import Decoder, encode
from wasmedge_pool.settings import config_from_wire
from wasmedge_pool.worker.fresh import make_vm
from wasmedge_pool.worker.objects import ExternObject, Objects
from wasmedge_pool.worker.vm import HANDLERS, WorkerVM
from wasmedge_pool.worker.watchdog import Watchdog
from wasmedge_runtime import cache
from wasmedge_runtime.errors import ErrCode, Trap, WasmEdgeError
from wasmedge_runtime.tiers import follower
from wasmedge_runtime.waiting import wait

__all__ = ["Worker", "main"]

# Guests and host functions call each other through about 16 frames of Python a level; the parent
# allows 64 levels.
_RECURSION_LIMIT = 4000

_REQUESTS = frozenset({CreateVM, *HANDLERS})
_TIMED = frozenset({Call, CallBindgen, CallHandle, Run, Broadcast, Batch})
_SHORT = frozenset({Find, List, Operate, ReadMemory, WriteMemory})
_WITH_DESCRIPTORS = frozenset({InitWasi, Spawn})


def main(data: int, control: socket.socket, page: int | None) -> None:
    """Run a worker on the engine; returns when the parent wants it to end.

    Args:
        data: the descriptor of the data socket.
        control: the control socket.
        page: the descriptor of the shared page, None on platforms without one.
    """
    wire = socket.socket(fileno=data)
    sys.setrecursionlimit(_RECURSION_LIMIT)
    try:
        Worker(wire, control, page, make_vm).serve()
    except OSError:
        # The wire broke in the middle: the parent has ended.
        os._exit(0)
    # Not through interpreter shutdown, which would wait for threads and native code.
    os._exit(0)


class _Forward(logging.Handler):
    """Sends the engine's log records to the parent."""

    def __init__(self, send: Callable[[bytes], None]) -> None:
        super().__init__()
        self._send = send

    def emit(self, record: logging.LogRecord) -> None:
        text = self.format(record)[:65536].encode("utf-8", "replace").decode()
        self._send(encode(Log(record.name, record.levelno, text)))


class _OpenCall:
    """A host call whose guest waits."""

    def __init__(self) -> None:
        self.reply: tuple[HostReply, list[ExternObject]] | None = None
        self.requests: deque[tuple[Any, list[bytes]]] = deque()
        """What the host function has asked for while something that it had asked for before was
        waiting for a host function in its turn, with the chunks of each."""


class Worker:
    """Runs requests until the data socket ends.

    Args:
        wire: the data socket.
        control: the control socket.
        page: the descriptor of the page where the number of the request that runs is noted.
        make_vm: the engine: makes a synchronous VM from a `Configure`; with True, one that runs
            every call on a fresh instance.
    """

    def __init__(
        self,
        wire: socket.socket,
        control: socket.socket,
        page: int | None,
        make_vm: Callable[..., Any],
    ) -> None:
        for descriptor in (wire, control):
            descriptor.set_inheritable(False)
        self._wire = wire
        self._sending = threading.Lock()
        self._decoder = Decoder(from_worker=False)
        self.watchdog = Watchdog(control)
        # One write of a machine word, which the parent never sees half done.
        self.page = memoryview(bytearray(SIZE) if page is None else mmap.mmap(page, SIZE))
        """What the parent may look at, see `wasmedge_pool.page`."""
        self._words = self.page.cast("Q")
        if page is not None:
            os.close(page)
        self._make_vm = make_vm
        self.vms: dict[int, WorkerVM] = {}
        self.objects = Objects()
        self._incoming: deque[Message] = deque()
        self._later: deque[Message] = deque()  # came during a host call, for after it
        self._bulk: list[bytes] = []
        self._number = 0  # of the innermost request that runs
        self._host_call = 0  # the number of the last one
        self._open: dict[int, _OpenCall] = {}  # host calls that wait for their replies

    def serve(self) -> None:
        """Take and run requests until the parent closes its side.

        Raises:
            ProtocolError: the parent sent something it must not.
            OSError: the wire broke.
        """
        later, incoming = self._later, self._incoming
        receive, feed, take = self._wire.recv, self._decoder.feed, self._take
        while True:
            while later:
                take(later.popleft())
            while incoming:
                take(incoming.popleft())
                if later:
                    break
            else:
                data = receive(256 * 1024)
                if not data:
                    return
                incoming.extend(feed(data))

    def _take(self, message: Message) -> None:
        kind = type(message)
        if kind in _REQUESTS:
            self._run(message)
        elif isinstance(message, Chunk):
            if not message.offset:
                self._bulk.clear()  # what came before belonged to a request that was cancelled
            self._bulk.append(message.data)
        elif isinstance(message, Within):
            self._run_within(message.call)
        elif isinstance(message, Release):
            vm = self.vms.get(message.vm)
            if vm is not None:
                vm.release(message.handles)
        elif isinstance(message, HostReply):
            self._take_reply(message)
            self._tell_dropped()
        elif isinstance(message, Follow):
            cache.follow(None if message.folder is None else os.fsdecode(message.folder))
            follower.report_to(
                lambda digest, functions: self.send(encode(Wanted(digest, tuple(functions))))
            )
        elif isinstance(message, Hello):
            if message.version != VERSION:
                raise ProtocolError(f"this worker speaks version {VERSION}, not {message.version}")
            logger = logging.getLogger("wasmedge")
            logger.setLevel(message.log_level)
            logger.propagate = False
            logger.addHandler(_Forward(self.send))
            self.send(encode(Ready(VERSION, os.getpid())))
        else:
            raise ProtocolError(f"a {kind.__name__}, which has no handler")

    def _run(self, request: Any) -> None:
        """Run a request and answer it."""
        arrived = self.objects.arrive(request)
        reply = self._reply(request)
        del arrived
        self.send(reply)
        self._tell_dropped()

    def _tell_dropped(self) -> None:
        """Tell the parent which of its objects are not needed any more. After an answer, which may
        have the last reference."""
        if self.objects.dropped:
            for message in self.objects.unreferenced():
                self.send(encode(message))

    def _reply(self, request: Any) -> bytes:
        """Run a request; gives the frame that answers it."""
        number = request.id
        kind = type(request)
        vm = self.vms.get(request.vm)
        if vm is None and kind is not CreateVM:
            raise ProtocolError(f"there is no VM {request.vm}")
        timeout = request.timeout if kind in _TIMED else None
        # What is short and inside of a guest's call is not interrupted: that would hit the guest.
        stoppable = vm is not None and (number < NESTED or kind not in _SHORT)
        if not self.watchdog.begin(number, vm.interrupt if vm and stoppable else None, timeout):
            self._close_descriptors(request)
            return encode(Skipped(number))
        values: tuple[Any, ...] = ()
        error: Exception | None = None
        outer, self._number = self._number, number
        if number < NESTED:
            self._words[RUNNING] = number
        started = time.perf_counter_ns()
        try:
            if vm is None:
                self._create(request)
            else:
                values = HANDLERS[kind](vm, request)
        except Exception as raised:
            error = raised
        spent = time.perf_counter_ns() - started
        timed_out = self.watchdog.end(number)
        self._number = outer
        if number >= NESTED and vm and kind is not DropVM and not self.watchdog.interrupted:
            vm.go_on()  # an interruption has ended this request, and is not for those around it
        state = 0 if vm is None or kind is DropVM else vm.state
        if kind is DropVM:
            del self.vms[request.vm]
        if error is None:
            return encode(Result(number, state, spent, values))
        if timed_out and isinstance(error, Trap) and error.code is ErrCode.Interrupted:
            error = CallTimeout()
        failure = error_to_wire(error)
        error = None  # its traceback holds the values of the call
        return encode(Failure(number, state, spent, failure))

    def _close_descriptors(self, request: Any) -> None:
        """Take the descriptors of a request that does not run."""
        if type(request) in _WITH_DESCRIPTORS:
            for descriptor in self.watchdog.take_descriptors(request.id):
                os.close(descriptor)

    def _create(self, request: CreateVM) -> None:
        vm = self._make_vm(config_from_wire(request.config), bool(request.fresh))
        self.vms[request.vm] = WorkerVM(self, vm)

    def send(self, frame: bytes) -> None:
        """Send a whole frame; from any thread."""
        with self._sending:
            self._wire.sendall(frame)

    def take_bulk(self) -> bytes:
        """The bytes that came before the request that runs."""
        data = b"".join(self._bulk)
        self._bulk.clear()
        return data

    # --- Host functions of the parent -------------------------------------------------------------

    def call_parent(
        self, function: int, memory: Any, arguments: tuple[Any, ...]
    ) -> tuple[HostReply, list[ExternObject]]:
        """Have the parent run a host function, and run what that asks for meanwhile.

        Returns:
            The reply, and the objects in it, to be kept until it has been looked at.

        Raises:
            Trap: interrupted.
        """
        self._host_call += 1
        call = self._host_call
        has_memory = int(memory is not None)
        frame = encode(HostCall(self._number, call, function, has_memory, arguments))
        lent = self.watchdog.lend(call, memory)
        this = self._open[call] = _OpenCall()
        self.send(frame)
        try:
            while True:
                if self.watchdog.interrupted:
                    raise Trap(ErrCode.Interrupted)
                if this.requests:
                    self._run_nested(*this.requests.popleft())
                elif this.reply is not None:
                    return this.reply
                else:
                    self._take_inside(self._next_inside())
        finally:
            del self._open[call]
            self.watchdog.lend(*lent)
            for request, _ in this.requests:
                self._refuse(request)

    @property
    def caller_memory(self) -> Any:
        """The memory of whoever called the innermost open host function; None when there is
        none."""
        return self.watchdog.lent[1]

    def _next_inside(self) -> Message:
        """The next message, during a host call; an interruption ends the waiting."""
        while not self._incoming:
            ready = wait(
                {self._wire.fileno(): select.POLLIN}, None, lambda: self.watchdog.interrupted
            )
            if ready is None:
                raise Trap(ErrCode.Interrupted)
            self._receive()
        return self._incoming.popleft()

    def _receive(self) -> None:
        data = self._wire.recv(256 * 1024)
        if not data:
            os._exit(0)  # the parent wants the end, or has ended
        self._incoming.extend(self._decoder.feed(data))

    def _take_inside(self, message: Message) -> None:
        if isinstance(message, HostReply):
            self._take_reply(message)
        elif isinstance(message, Within):
            self._run_within(message.call)
        else:
            self._later.append(message)

    def _take_reply(self, reply: HostReply) -> None:
        arrived = self.objects.arrive(reply)
        call = self._open.get(reply.call)
        if call is not None:  # or its guest was interrupted meanwhile
            call.reply = reply, arrived

    def _run_within(self, number: int) -> None:
        """Run the request behind a `Within`, with the chunks in front of it, or put it off until
        what its host function has asked for before is done."""
        bulk: list[bytes] = []
        request: Any = self._next_part()
        while isinstance(request, Chunk):
            bulk.append(request.data)
            request = self._next_part()
        if type(request) not in _REQUESTS:
            raise ProtocolError(f"a {type(request).__name__} inside of a host call")
        call = self._open.get(number)
        if call is None:
            self._refuse(request)
        elif number == next(reversed(self._open)):
            self._run_nested(request, bulk)
        else:
            call.requests.append((request, bulk))
            self.watchdog.put_off(request.id)

    def _next_part(self) -> Message:
        """The next of the messages that the parent has sent in one piece."""
        while not self._incoming:
            self._receive()
        return self._incoming.popleft()

    def _run_nested(self, request: Any, bulk: list[bytes]) -> None:
        outer, self._bulk = self._bulk, bulk
        try:
            self._run(request)
        finally:
            self._bulk = outer

    def _refuse(self, request: Any) -> None:
        """Answer a request whose host call is over."""
        self.objects.arrive(request)  # nothing keeps them
        self._close_descriptors(request)
        if self.watchdog.begin(request.id, None, None):
            self.watchdog.end(request.id)
            over = WasmEdgeError(
                ErrCode.Interrupted, "execution interrupted: the host function's call is over"
            )
            vm = self.vms.get(request.vm)
            state = 0 if vm is None else vm.state
            self.send(encode(Failure(request.id, state, 0, error_to_wire(over))))
        else:
            self.send(encode(Skipped(request.id)))
        self._tell_dropped()

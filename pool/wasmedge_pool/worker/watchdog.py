"""The worker's second thread: interrupts, deadlines, a waiting guest's memory, the parent's end.

It works while the engine runs a guest, because guest code runs without the interpreter lock.
"""

from __future__ import annotations

import array
import math
import os
import select
import socket
import threading
import time
from collections.abc import Callable
from typing import Any

from wasmedge_pool.messages import (
    ANSWER,
    ASK,
    CONTROL,
    DESCRIPTORS,
    GROW,
    INTERRUPT,
    NESTED,
    PEEK,
    PIECE,
    POKE,
    REFUSAL,
    SIZE,
    SKIPPED,
    WITHDRAW,
)
from wasmedge_runtime.errors import ErrCode, WasmEdgeError

__all__ = ["Watchdog"]

# An interruption is repeated until the request ends: the first may have come before the guest
# was entered.
_REPEAT_SECONDS = 0.002
# Descriptors are sent before the request that they belong to, but on another socket.
_DESCRIPTOR_SECONDS = 10.0
_MOST_DESCRIPTORS = 3


class Watchdog:
    """Watches over the request that is running, and over those that wait for it: a host function
    may have made it inside of another request's call.

    The thread starts with the object and ends the process, by `os._exit`, when the control socket
    hangs up: the parent has ended, or wants this worker to.
    """

    def __init__(self, control: socket.socket) -> None:
        self._control = control
        # Held while an interrupt is sent and while the running request changes, so that an
        # interrupt never hits the request after the one it was meant for.
        self._lock = threading.Lock()
        self._begun = 0  # the last request that began
        self._nested_begun = NESTED  # the last one inside of another
        self._running = 0  # the innermost; 0 between requests
        self._interrupt: Callable[[], object] | None = None
        self._deadline = math.inf
        self._outer: list[tuple[int, Callable[[], object] | None, float]] = []
        self._targets: set[int] = set()  # requests that are to end
        self._timed_out: set[int] = set()  # those of them whose deadline has passed
        self._to_skip: set[int] = set()
        self._put_off: set[int] = set()
        self.lent: tuple[int, Any] = (0, None)
        """The host call that is open, and its caller's memory."""
        self._descriptors: dict[int, list[int]] = {}
        self._arrived = threading.Condition()
        self._wakes_at = math.inf
        self._wake_read, self._wake_write = os.pipe()
        threading.Thread(target=self._watch, name="wasmedge-watchdog", daemon=True).start()

    def begin(
        self, number: int, interrupt: Callable[[], object] | None, timeout: int | None
    ) -> bool:
        """Note that a request begins, inside of what is running; False when it is to be skipped.

        Args:
            number: the request.
            interrupt: ends the guest's call from another thread; None when nothing can.
            timeout: microseconds from now, None for no limit.
        """
        deadline = math.inf if timeout is None else time.monotonic() + timeout / 1e6
        with self._lock:
            if number < NESTED:
                self._begun = number
            elif number in self._put_off:
                self._put_off.discard(number)
            else:
                self._nested_begun = number
            if number in self._to_skip:
                self._to_skip.discard(number)
                return False
            if self._running:
                self._outer.append((self._running, self._interrupt, self._deadline))
            self._running = number
            self._interrupt = interrupt
            self._deadline = deadline
            wake = deadline < self._wakes_at
        if wake:
            os.write(self._wake_write, b"\0")
        return True

    def put_off(self, number: int) -> None:
        """Note that a nested request will begin later, perhaps after others that came later."""
        with self._lock:
            self._put_off.add(number)

    def end(self, number: int) -> bool:
        """Note that the request has ended; True when its deadline made it end."""
        with self._lock:
            if self._outer:
                self._running, self._interrupt, self._deadline = self._outer.pop()
            else:
                self._running = 0
                self._deadline = math.inf
            if not self._targets:
                return False
            self._targets.discard(number)
            timed_out = number in self._timed_out
            self._timed_out.discard(number)
            return timed_out

    def again(self, timeout: int | None) -> bool:
        """Give the request that runs its time anew; True when it had passed."""
        deadline = math.inf if timeout is None else time.monotonic() + timeout / 1e6
        with self._lock:
            self._deadline = deadline
            if self._running not in self._timed_out:
                return False
            self._timed_out.discard(self._running)
            self._targets.discard(self._running)
            return True

    @property
    def interrupted(self) -> bool:
        """Whether the running request is to end, or one that it is inside of."""
        return bool(self._targets)

    def lend(self, call: int, memory: Any) -> tuple[int, Any]:
        """Answer the parent's questions about a memory, for a host call; gives what was lent
        before, to be lent again afterwards."""
        before, self.lent = self.lent, (call, memory)
        return before

    def take_descriptors(self, number: int) -> list[int]:
        """The descriptors of a request; whoever takes them closes them.

        Raises:
            TimeoutError: they did not come.
        """
        with self._arrived:
            if not self._arrived.wait_for(
                lambda: number in self._descriptors, timeout=_DESCRIPTOR_SECONDS
            ):
                raise TimeoutError(f"the descriptors of request {number} did not arrive")
            return self._descriptors.pop(number)

    # --- The thread -------------------------------------------------------------------------------

    def _watch(self) -> None:
        poll = select.poll()
        poll.register(self._control, select.POLLIN)
        poll.register(self._wake_read, select.POLLIN)
        control = self._control.fileno()
        while True:
            for fd, _ in poll.poll(self._tick()):
                if fd == control:
                    self._take(*self._receive())
                else:
                    os.read(self._wake_read, 4096)

    def _receive(self) -> tuple[bytes, list[int]]:
        fds = array.array("i")
        datagram, ancillary, _, _ = self._control.recvmsg(
            ASK.size + PIECE,
            socket.CMSG_SPACE(_MOST_DESCRIPTORS * fds.itemsize),
            socket.MSG_CMSG_CLOEXEC,
        )
        for _, _, data in ancillary:
            fds.frombytes(data[: len(data) - len(data) % fds.itemsize])
        return datagram, list(fds)

    def _tick(self) -> float | None:
        """Do what is due, and return the milliseconds until there is something to do again."""
        with self._lock:
            if not self._running:
                # The next request with a deadline wakes the thread, unless it wakes in time.
                self._wakes_at = math.inf
                return None
            now = time.monotonic()
            nearest = math.inf
            for number, _, deadline in (*self._outer, (self._running, None, self._deadline)):
                if deadline <= now:
                    self._targets.add(number)
                    self._timed_out.add(number)
                else:
                    nearest = min(nearest, deadline)
            if self._targets and self._interrupt is not None:
                # The innermost: those around it cannot go on before it has ended.
                self._interrupt()
                self._wakes_at = now + _REPEAT_SECONDS
                return _REPEAT_SECONDS * 1000
            self._wakes_at = nearest
            return None if nearest == math.inf else (nearest - now) * 1000

    def _take(self, datagram: bytes, descriptors: list[int]) -> None:
        if not datagram:
            os._exit(0)
        kind = datagram[0]
        if kind in (PEEK, POKE, SIZE, GROW):
            self._control.send(self._access(kind, datagram))
            return
        _, number = CONTROL.unpack(datagram)
        if kind == DESCRIPTORS:
            with self._arrived:
                self._descriptors[number] = descriptors
                self._arrived.notify_all()
            return
        if kind not in (INTERRUPT, WITHDRAW):
            os._exit(1)
        with self._lock:
            begun = self._begun if number < NESTED else self._nested_begun
            if number > begun or number in self._put_off:
                self._to_skip.add(number)
                self._control.send(CONTROL.pack(SKIPPED, number))
            elif kind == INTERRUPT and (
                number == self._running or any(number == outer for outer, _, _ in self._outer)
            ):
                self._targets.add(number)
            # Otherwise it has ended, and its answer is on the way.

    def _access(self, kind: int, datagram: bytes) -> bytes:
        """Read or write the memory of the host call that waits."""
        _, call, offset, length = ASK.unpack_from(datagram)
        lent, memory = self.lent
        answer = b""
        try:
            if call != lent or memory is None:
                raise WasmEdgeError(
                    ErrCode.RuntimeError,
                    "the host call is over, or a call that it has made is running: await that "
                    "first",
                )
            if kind == PEEK:
                answer = memory.get_data(offset, min(length, PIECE))
            elif kind == POKE:
                memory.set_data(datagram[ASK.size :], offset)
            elif kind == SIZE:
                answer = memory.page_size.to_bytes(8, "big")
            else:
                memory.grow_page(length)
        except WasmEdgeError as error:
            return bytes([REFUSAL, error.code]) + str(error).encode()[:1024]
        return bytes([ANSWER]) + answer

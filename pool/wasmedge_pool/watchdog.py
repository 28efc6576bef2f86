"""The worker's second thread: interrupts, deadlines, and the parent's end.

It works while the engine runs a guest, because guest code runs without the interpreter lock.
"""

from __future__ import annotations

import math
import os
import select
import socket
import threading
import time
from collections.abc import Callable

from wasmedge_pool.protocol import CONTROL, INTERRUPT, SKIPPED, WITHDRAW

__all__ = ["Watchdog"]

# An interruption is repeated until the request ends: the first may have come before the guest
# was entered.
_REPEAT_SECONDS = 0.002


class Watchdog:
    """Watches over the request that is running.

    The thread starts with the object and ends the process, by `os._exit`, when the control socket
    hangs up: the parent has ended, or wants this worker to.
    """

    def __init__(self, control: socket.socket) -> None:
        self._control = control
        # Held while an interrupt is sent and while the running request changes, so that an
        # interrupt never hits the request after the one it was meant for.
        self._lock = threading.Lock()
        self._begun = 0  # the last request that began
        self._running = 0  # 0 between requests
        self._interrupt: Callable[[], None] | None = None
        self._deadline = math.inf
        self._target = 0  # the request that is to end
        self._timed_out = 0  # the last request that was to end because of its deadline
        self._to_skip: set[int] = set()
        self._wakes_at = math.inf
        self._wake_read, self._wake_write = os.pipe()
        threading.Thread(target=self._watch, name="wasmedge-watchdog", daemon=True).start()

    def begin(self, number: int, interrupt: Callable[[], None] | None, timeout: int | None) -> bool:
        """Note that a request begins; False when it is to be skipped.

        Args:
            number: the request.
            interrupt: ends the guest's call from another thread; None when nothing can.
            timeout: microseconds from now, None for no limit.
        """
        deadline = math.inf if timeout is None else time.monotonic() + timeout / 1e6
        with self._lock:
            self._begun = number
            if number in self._to_skip:
                self._to_skip.discard(number)
                return False
            self._running = number
            self._interrupt = interrupt
            self._deadline = deadline
            wake = deadline < self._wakes_at
        if wake:
            os.write(self._wake_write, b"\0")
        return True

    def end(self, number: int) -> bool:
        """Note that the request has ended; True when its deadline made it end."""
        with self._lock:
            self._running = 0
            self._deadline = math.inf
            return self._timed_out == number

    # --- The thread -------------------------------------------------------------------------------

    def _watch(self) -> None:
        poll = select.poll()
        poll.register(self._control, select.POLLIN)
        poll.register(self._wake_read, select.POLLIN)
        control = self._control.fileno()
        while True:
            for fd, _ in poll.poll(self._tick()):
                if fd == control:
                    self._take(self._control.recv(CONTROL.size))
                else:
                    os.read(self._wake_read, 4096)

    def _tick(self) -> float | None:
        """Do what is due, and return the milliseconds until there is something to do again."""
        with self._lock:
            if not self._running:
                # The next request with a deadline wakes the thread, unless it wakes in time.
                self._wakes_at = math.inf
                return None
            now = time.monotonic()
            if self._deadline <= now:
                self._target = self._timed_out = self._running
            if self._target == self._running and self._interrupt is not None:
                self._interrupt()
                self._wakes_at = now + _REPEAT_SECONDS
                return _REPEAT_SECONDS * 1000
            self._wakes_at = self._deadline
            return None if self._deadline == math.inf else (self._deadline - now) * 1000

    def _take(self, datagram: bytes) -> None:
        if not datagram:
            os._exit(0)
        kind, number = CONTROL.unpack(datagram)
        if kind not in (INTERRUPT, WITHDRAW):
            os._exit(1)
        with self._lock:
            if number > self._begun:
                self._to_skip.add(number)
                self._control.send(CONTROL.pack(SKIPPED, number))
            elif number == self._running and kind == INTERRUPT:
                self._target = number
            # Otherwise it has ended, and its answer is on the way.

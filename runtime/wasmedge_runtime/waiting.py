"""Host functions that wait for the system, and interruptions that end the waiting.

A thread in `poll(2)` does not come back for the interrupt signal, whose handler is not Python's, so
that Python waits on. So each thread that waits also watches an event descriptor of its own, and
`wake` writes to it.
"""

from __future__ import annotations

import os
import select
import threading
import time
from collections.abc import Callable, Mapping

__all__ = ["wait", "wake"]

_lock = threading.RLock()  # a signal handler may come here while its thread is here
_waiting: dict[int, int] = {}  # native thread id -> its event descriptor, while it waits
_own = threading.local()

_LONGEST_MS = 1 << 30


class _Event:
    """The event descriptor of a thread, closed when the thread ends."""

    def __init__(self) -> None:
        self.descriptor = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)

    def __del__(self) -> None:
        os.close(self.descriptor)


def _event() -> _Event:
    """The event of this thread, made when it first waits."""
    if not hasattr(_own, "event"):
        _own.event = _Event()
    event: _Event = _own.event
    return event


def _renew() -> None:
    """In a forked process: events are its own, so that it and its parent do not wake each other's
    threads; and nobody holds the lock."""
    global _lock
    _lock = threading.RLock()
    _waiting.clear()
    _own.__dict__.clear()


os.register_at_fork(after_in_child=_renew)


def wake(thread_id: int) -> None:
    """Let the `wait` of a thread return, if it is in one."""
    if thread_id in _waiting:
        # Locked: the thread must not end, and close its descriptor, in between.
        with _lock:
            descriptor = _waiting.get(thread_id)
            if descriptor is not None:
                os.eventfd_write(descriptor, 1)


def wait(
    wanted: Mapping[int, int], timeout_ns: int | None, stop: Callable[[], bool]
) -> list[tuple[int, int]] | None:
    """Wait until one of the descriptors is ready.

    Args:
        wanted: for each descriptor, the events of `select.poll` to wait for.
        timeout_ns: nanoseconds, or None for any time.
        stop: whether to give up; asked before waiting, and when `wake` was called.

    Returns:
        What is ready, as `select.poll` gives it; [] when the time is over; None when `stop` says
        so.
    """
    poll = select.poll()
    for descriptor, events in wanted.items():
        poll.register(descriptor, events)
    own = _event()  # kept open while this waits, also when a signal handler forks meanwhile
    event = own.descriptor
    poll.register(event, select.POLLIN)
    end = None if timeout_ns is None else time.monotonic_ns() + timeout_ns
    thread_id = threading.get_native_id()
    with _lock:
        nested = thread_id in _waiting  # a signal handler of Python that runs a guest
        _waiting[thread_id] = event
    try:
        while not stop():
            milliseconds: float | None = None
            if end is not None:
                left = max(end - time.monotonic_ns(), 0)
                milliseconds = min(left // 1_000_000, _LONGEST_MS)
            ready = poll.poll(milliseconds)
            if ready and any(descriptor == event for descriptor, _ in ready):
                os.eventfd_read(event)
                ready = [one for one in ready if one[0] != event]
            if ready:
                return ready
            if end is not None and (left := end - time.monotonic_ns()) < 1_000_000:
                # `poll` counts milliseconds; what is left is too short to be worth a wake-up.
                if left > 0:
                    time.sleep(left / 1e9)
                return []
        return None
    finally:
        if not nested:
            with _lock:
                _waiting.pop(thread_id, None)

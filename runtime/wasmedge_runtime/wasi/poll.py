"""Waiting for time and for descriptors: `poll_oneoff`."""

from __future__ import annotations

import array
import fcntl
import os
import select
import termios
import time
from typing import TYPE_CHECKING, NamedTuple

from . import abi
from .abi import EVENT, SUBSCRIPTION, U32, Errno, FileType, WasiError
from .clocks import clock_of
from .guest import window

if TYPE_CHECKING:
    from .descriptors import Descriptor
    from .state import Wasi

_MOST_SUBSCRIPTIONS = 4096
"""Far more than a guest has descriptors; each costs an object here."""

_CLOCKS = (0, 1)  # CPU time does not pass while one waits


class _Event:
    """What happened to one subscription."""

    __slots__ = ("bytes", "error", "flags", "kind", "userdata")

    def __init__(
        self, userdata: int, kind: int, error: Errno = Errno.SUCCESS, bytes: int = 0
    ) -> None:
        self.userdata = userdata
        self.kind = kind
        self.error = error
        self.bytes = bytes
        self.flags = 0


class _Awaited(NamedTuple):
    """A subscription to a descriptor that is not ready at once."""

    userdata: int
    kind: int
    descriptor: Descriptor


def poll_oneoff(
    wasi: Wasi, memory: memoryview, subscriptions: int, events: int, count: int, result: int
) -> None:
    if not 0 < count <= _MOST_SUBSCRIPTIONS:
        raise WasiError(Errno.INVAL)
    source = window(memory, subscriptions, count * SUBSCRIPTION.size)
    target = window(memory, events, count * EVENT.size)
    happened = _Poll(wasi, source).run()
    for number, event in enumerate(happened):
        EVENT.pack_into(
            target,
            number * EVENT.size,
            *(event.userdata, event.error, event.kind, event.bytes, event.flags),
        )
    U32.pack_into(memory, result, len(happened))


class _Poll:
    """The subscriptions of one call."""

    def __init__(self, wasi: Wasi, source: memoryview) -> None:
        self._wasi = wasi
        self._events: list[_Event] = []
        self._awaited: list[_Awaited] = []
        self._clocks: list[tuple[int, int]] = []  # userdata, when by the monotonic clock
        now = time.monotonic_ns()
        for at in range(0, len(source), SUBSCRIPTION.size):
            userdata, kind, which, timeout, _, flags = SUBSCRIPTION.unpack_from(source, at)
            try:
                if kind == abi.EVENTTYPE_CLOCK:
                    self._clocks.append((userdata, now + _duration(which, timeout, flags)))
                elif kind in (abi.EVENTTYPE_FD_READ, abi.EVENTTYPE_FD_WRITE):
                    self._subscribe(userdata, kind, wasi.table[which])
                else:
                    raise WasiError(Errno.INVAL)
            except WasiError as error:
                self._events.append(_Event(userdata, kind, error.errno))

    def _subscribe(self, userdata: int, kind: int, descriptor: Descriptor) -> None:
        descriptor.require(abi.POLL_FD_READWRITE)
        descriptor.require(abi.FD_READ if kind == abi.EVENTTYPE_FD_READ else abi.FD_WRITE)
        if descriptor.fd < 0:
            self._events.append(_Event(userdata, kind, bytes=1))  # a file object never waits
        elif descriptor.filetype is FileType.REGULAR_FILE:
            event = _Event(userdata, kind, bytes=1)
            if kind == abi.EVENTTYPE_FD_READ:
                end = os.fstat(descriptor.fd).st_size
                event.bytes = max(end - os.lseek(descriptor.fd, 0, os.SEEK_CUR), 0)
            self._events.append(event)
        else:
            self._awaited.append(_Awaited(userdata, kind, descriptor))

    def run(self) -> list[_Event]:
        """Wait for the first event, and give all there are then."""
        wanted: dict[int, int] = {}
        for one in self._awaited:
            mask = select.POLLIN if one.kind == abi.EVENTTYPE_FD_READ else select.POLLOUT
            wanted[one.descriptor.fd] = wanted.get(one.descriptor.fd, 0) | mask
        timeout = None
        if self._events:
            timeout = 0
        elif self._clocks:
            first = min(when for _, when in self._clocks)
            timeout = max(first - time.monotonic_ns(), 0)
        ready = dict(self._wasi.wait(wanted, timeout))
        for one in self._awaited:
            self._note(one, ready.get(one.descriptor.fd, 0))
        now = time.monotonic_ns()
        for userdata, when in self._clocks:
            if when <= now:
                self._events.append(_Event(userdata, abi.EVENTTYPE_CLOCK))
        return self._events

    def _note(self, one: _Awaited, ready: int) -> None:
        reading = one.kind == abi.EVENTTYPE_FD_READ
        # An error is ready both ways: the function that comes next reports it.
        over = ready & (select.POLLHUP | select.POLLERR)
        if ready & (select.POLLIN if reading else select.POLLOUT) or over:
            event = _Event(one.userdata, one.kind, bytes=0 if reading else 1)
            if reading:
                event.bytes = _available(one.descriptor.fd)
            if over:
                event.flags = abi.EVENT_FD_READWRITE_HANGUP
            self._events.append(event)


def _available(fd: int) -> int:
    """How many bytes can be read at once; 1 where the system does not say."""
    size = array.array("i", [0])
    try:
        fcntl.ioctl(fd, termios.FIONREAD, size)
    except OSError:
        return 1
    return size[0]


def _duration(clock: int, timeout: int, flags: int) -> int:
    """Nanoseconds from now until a clock subscription is due."""
    if flags >= 2:
        raise WasiError(Errno.INVAL)
    if clock not in _CLOCKS:
        raise WasiError(Errno.INVAL if clock > 3 else Errno.NOTSUP)
    if flags & abi.SUBSCRIPTION_CLOCK_ABSTIME:
        return max(timeout - time.clock_gettime_ns(clock_of(clock)), 0)
    return timeout

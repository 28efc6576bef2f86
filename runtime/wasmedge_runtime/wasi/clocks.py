"""Clocks."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from .abi import U64, Errno, WasiError

if TYPE_CHECKING:
    from .state import Wasi

__all__ = ["clock_of", "clock_res_get", "clock_time_get"]

# By clockid: realtime, monotonic, CPU time of the process, CPU time of the thread.
_CLOCKS = (
    time.CLOCK_REALTIME,
    time.CLOCK_MONOTONIC,
    time.CLOCK_PROCESS_CPUTIME_ID,
    time.CLOCK_THREAD_CPUTIME_ID,
)


def clock_of(number: int) -> int:
    """The system's clock for a clockid; WasiError INVAL when there is none."""
    if number >= len(_CLOCKS):
        raise WasiError(Errno.INVAL)
    return _CLOCKS[number]


def clock_res_get(wasi: Wasi, memory: memoryview, clock: int, resolution: int) -> None:
    U64.pack_into(memory, resolution, max(round(time.clock_getres(clock_of(clock)) * 1e9), 1))


def clock_time_get(wasi: Wasi, memory: memoryview, clock: int, precision: int, result: int) -> None:
    U64.pack_into(memory, result, time.clock_gettime_ns(clock_of(clock)))

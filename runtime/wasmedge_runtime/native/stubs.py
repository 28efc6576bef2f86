"""Stubs of functions that have no code yet.

The stub of a function in the function table of its module makes `provide_code` of the support
routines have Python provide the code. Which function it is follows from where the stub is: the
n-th stub stands for own function n of any module, so that all modules share them.
"""

from __future__ import annotations

import array
import ctypes
import platform
import threading

from ..limits import MAX_FUNCTIONS
from . import libc
from .code import flush_instruction_cache
from .support import support
from .support_ir import STUB_BYTES

_lock = threading.RLock()  # a signal handler may come here while its thread is here


class _Stubs:
    """Address space for the stubs of the largest module, filled as far as was asked for."""

    def __init__(self) -> None:
        size = MAX_FUNCTIONS * STUB_BYTES
        self.start = libc.reserve(size)
        self._filled = 0
        code = support().code
        target = code.address("provide_code").to_bytes(8, "little")
        if platform.machine() == "x86_64":
            stub = b"\x49\xbb" + target + b"\x41\xff\xd3"  # mov r11, target; call r11
        else:
            # adr x16, .; ldr x17, .+12; br x17
            stub = bytes.fromhex("10000010 71000058 20021fd6 00000000") + target
        self._stub = stub.ljust(STUB_BYTES, b"\xcc")

    def fill(self, count: int) -> None:
        ctypes.c_uint64.from_address(support().code.address("stubs_start")).value = self.start
        end = libc.page_ceil(count * STUB_BYTES)
        size = end - self._filled
        if size <= 0:
            return
        at = self.start + self._filled
        libc.protect(at, size, libc.PROT_READ | libc.PROT_WRITE)
        ctypes.memmove(at, self._stub * (size // STUB_BYTES), size)
        libc.protect(at, size, libc.PROT_READ | libc.PROT_EXEC)
        flush_instruction_cache(at, size)
        self._filled = max(self._filled, end)  # a signal handler may have filled more meanwhile


_stubs: _Stubs | None = None


def stub_addresses(count: int) -> array.array[int]:
    """The addresses of the stubs of a module's own functions."""
    global _stubs
    with _lock:
        if _stubs is None:
            made = _Stubs()
            if _stubs is None:  # no signal handler has been here meanwhile
                _stubs = made
        _stubs.fill(count)
        start = _stubs.start
    return array.array("Q", range(start, start + count * STUB_BYTES, STUB_BYTES))

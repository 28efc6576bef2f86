"""The loaded support routines, threads made ready for guest code, and signal handlers.

`support()` gives the one instance of the process: it loads the support object (compiling it when
the cache does not have it), and installs the handlers. `Support.check_handlers` puts them back
where something else, such as faulthandler, has taken their place.
"""

from __future__ import annotations

import ctypes
import os
import signal
import threading
from typing import ClassVar

from .. import cache
from . import libc
from .code import CodeRegion, LoadedCode, load_or_make
from .layout import ThreadRecord
from .support_ir import EXTERNALS, support_module


def _interrupt_signal() -> int:
    chosen = os.environ.get("WASMEDGE_INTERRUPT_SIGNAL", "7")
    most = signal.SIGRTMAX - signal.SIGRTMIN
    if not chosen.isdecimal() or int(chosen) > most:
        raise ValueError(f"WASMEDGE_INTERRUPT_SIGNAL must be a number from 0 to {most}: {chosen!r}")
    return signal.SIGRTMIN + int(chosen)


INTERRUPT_SIGNAL = _interrupt_signal()
"""The real-time signal that stops a running call; WASMEDGE_INTERRUPT_SIGNAL=n means SIGRTMIN+n."""

_ALTERNATE_STACK_BYTES = 1 << 16
_SMALLEST_ALTERNATE_STACK = 1 << 14
_SS_DISABLE = 2
_SA_SIGINFO, _SA_ONSTACK, _SA_RESTART, _SA_NODEFER = 4, 0x08000000, 0x10000000, 0x40000000

_GUARD_BYTES = 1 << 20
"""Below the lowest address of a stack, faults still count as overflow (the kernel's own gap)."""


class _SigAction(ctypes.Structure):
    _fields_: ClassVar = [
        ("handler", ctypes.c_uint64),
        ("mask", ctypes.c_uint8 * 128),
        ("flags", ctypes.c_int),
        ("restorer", ctypes.c_void_p),
    ]


class _Stack(ctypes.Structure):
    _fields_: ClassVar = [
        ("address", ctypes.c_void_p),
        ("flags", ctypes.c_int),
        ("size", ctypes.c_size_t),
    ]


# Signal, routine, index in @previous_actions.
_HANDLERS = (
    (signal.SIGSEGV, "on_fault", 0),
    (signal.SIGBUS, "on_fault", 1),
    (INTERRUPT_SIGNAL, "on_interrupt", 2),
    (signal.SIGINT, "on_keyboard", 3),
)


class Support:
    """The run-time routines of this process; made by `support()`, never freed."""

    def __init__(self) -> None:
        name = cache.key("support", cache.machine())
        self.code: LoadedCode = load_or_make(name, _object, EXTERNALS)
        region = CodeRegion.get()
        self.pid = os.getpid()
        self._libc = libc.library()
        self._libc.sigaction.argtypes = [ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p]
        self._lock = threading.RLock()

        self._handlers = [
            (int(number), self.code.address(routine), index) for number, routine, index in _HANDLERS
        ]
        self.enter = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p)(self.code.address("enter"))
        self.helpers = self.code.address("helpers")
        self.host_returned = self.code.address("host_returned")
        self.memory_grow = ctypes.PYFUNCTYPE(ctypes.c_int64, ctypes.c_uint64, ctypes.c_uint64)(
            self.code.address("memory_grow")
        )
        # With the interpreter's lock: Python code sees the memory before or after, never between.
        self.memory_reset = ctypes.PYFUNCTYPE(ctypes.c_int64, ctypes.c_uint64, ctypes.c_uint64)(
            self.code.address("memory_reset")
        )
        self.place_references = ctypes.PYFUNCTYPE(None, *[ctypes.c_uint64] * 4)(
            self.code.address("place_references")
        )
        key = ctypes.c_uint()
        destructor = ctypes.c_void_p(self.code.address("thread_ended"))
        if self._libc.pthread_key_create(ctypes.byref(key), destructor) != 0:
            raise OSError("no thread-specific key is left for the engine")
        self._key = key
        ctypes.c_uint32.from_address(self.code.address("thread_key")).value = key.value
        for symbol, value in (
            ("guest_start", region.guest.start),
            ("guest_end", region.guest.end),
            ("main_thread", self.pid),  # on Linux, the main thread has the number of the process
        ):
            ctypes.c_uint64.from_address(self.code.address(symbol)).value = value

    def begin(self) -> None:
        """Install the handlers, for signals and for forks."""
        os.register_at_fork(after_in_child=self._forget_thread)
        self.check_handlers()

    def _forget_thread(self) -> None:
        """In a forked child: entering guest code needs `prepare_thread`, which refuses."""
        self._libc.pthread_setspecific(self._key, None)

    def _check_process(self) -> None:
        if os.getpid() != self.pid:
            raise RuntimeError(
                "the WebAssembly engine was used before this process was forked; "
                "start the child with multiprocessing's 'spawn' method, or use a VMPool"
            )

    def prepare_thread(self) -> None:
        """Give the calling thread a stack limit for guest code, and a stack for signals, and let
        the signals through: a fault while its signal is blocked would end the process."""
        self._check_process()
        ours = (number for number, _, _ in _HANDLERS if number != signal.SIGINT)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, ours)
        low, size = self._stack_of_this_thread()
        record_bytes = ctypes.sizeof(ThreadRecord)
        malloc = self._libc.malloc
        malloc.restype = ctypes.c_void_p
        malloc.argtypes = [ctypes.c_size_t]
        address = malloc(record_bytes + _ALTERNATE_STACK_BYTES)
        if not address:
            raise MemoryError("no memory for the record of a thread")
        record = ThreadRecord.from_address(address)
        record.activation = 0
        record.stack_limit = low + min(max(size // 8, 1 << 16), 1 << 20)
        record.stack_guard = low - _GUARD_BYTES
        record.thread_id = threading.get_native_id()

        old = _Stack()
        self._libc.sigaltstack(None, ctypes.byref(old))
        if old.flags & _SS_DISABLE or old.size < _SMALLEST_ALTERNATE_STACK:
            new = _Stack(address + record_bytes, 0, _ALTERNATE_STACK_BYTES)
            self._libc.sigaltstack(ctypes.byref(new), None)
        if self._libc.pthread_setspecific(self._key, ctypes.c_void_p(address)) != 0:
            raise MemoryError("no memory for the record of a thread")

    def _stack_of_this_thread(self) -> tuple[int, int]:
        attributes = ctypes.create_string_buffer(256)
        self._libc.pthread_self.restype = ctypes.c_void_p
        thread = ctypes.c_void_p(self._libc.pthread_self())
        if self._libc.pthread_getattr_np(thread, attributes) != 0:
            raise OSError("cannot find the limits of this thread's stack")
        low, size = ctypes.c_void_p(), ctypes.c_size_t()
        self._libc.pthread_attr_getstack(attributes, ctypes.byref(low), ctypes.byref(size))
        self._libc.pthread_attr_destroy(attributes)
        return low.value or 0, size.value

    def check_handlers(self) -> None:
        """Install the handlers, or put them back in front of those installed after them."""
        self._check_process()
        current = _SigAction()  # not shared: a signal handler of Python may come here as well
        reference = ctypes.byref(current)
        with self._lock:
            for number, ours, index in self._handlers:
                if self._libc.sigaction(number, None, reference) != 0:
                    raise OSError(f"cannot read the handler of signal {number}")
                # A SIGINT handler that does not raise would see its calls stopped for nothing.
                if current.handler != ours and (
                    number != signal.SIGINT
                    or signal.getsignal(signal.SIGINT) is signal.default_int_handler
                ):
                    self._install(number, ours, index, current)

    def _install(self, number: int, ours: int, index: int, current: _SigAction) -> None:
        """Put a handler in front of the current one, which it hands on to."""
        place = self.code.address("previous_actions") + index * ctypes.sizeof(_SigAction)
        ctypes.memmove(place, ctypes.byref(current), ctypes.sizeof(_SigAction))
        flags = _SA_SIGINFO | _SA_ONSTACK | _SA_RESTART
        if number in (signal.SIGSEGV, signal.SIGBUS):
            flags |= _SA_NODEFER  # the handler does not return; the others unblock their signal
        if number == signal.SIGINT:
            flags &= ~_SA_RESTART  # as Python installs it, so that blocking calls notice Ctrl-C
        new = _SigAction(handler=ours, flags=flags)
        if self._libc.sigaction(number, ctypes.byref(new), None) != 0:
            raise OSError(f"cannot install the handler of signal {number}")

    def send_interrupt(self, thread_id: int) -> None:
        """Send the interrupt signal to one thread of this process (its native id)."""
        self._libc.tgkill(self.pid, thread_id, INTERRUPT_SIGNAL)


def _object() -> bytes:
    from ..codegen.llvm import compile_object

    return compile_object(support_module(), 2)


_support: Support | None = None
_support_lock = threading.RLock()


def support() -> Support:
    """The support routines of this process, loaded on first use."""
    global _support
    if _support is None:
        with _support_lock:
            if _support is None:
                made = Support()
                if _support is None:  # no signal handler has been here meanwhile
                    _support = made
                    made.begin()
    return _support

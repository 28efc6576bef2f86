"""The support routines: the LLVM IR in `ir/`, with the names of `layout` filled in.

They are compiled once (and cached) as an object of their own that is never freed. Guest code
reaches them through the helper table of its vmctx, so that its object needs no external symbol.

Rules that hold throughout:
- Every routine keeps a frame pointer: a trap walks the chain from where it happens up to the entry.
- A trap crosses generated frames only. Host functions report a status to their stub, which traps.
- Only what calls go through often is optimised, the rest is COLD: the optimiser would take 100 ms,
  which is seen when nothing is in the cache.
- Signal handlers act only while the program counter is in a guest body: everywhere else registers
  and the activation may be half way through a change.
"""

from __future__ import annotations

import ctypes
import platform
import re
import signal
from pathlib import Path

from ..errors import ErrCode
from . import layout
from .layout import (
    Activation,
    CallDescriptor,
    ContextHeader,
    FunctionRecord,
    HostContext,
    MemoryRange,
    MemoryRecord,
    ModuleHeader,
    Segment,
    TableRecord,
    ThreadRecord,
)

ATTRIBUTES = 'nounwind "frame-pointer"="all" "disable-tail-calls"="true"'

EXTERNALS = (
    "_setjmp",
    "longjmp",
    "pthread_getspecific",
    "memmove",
    "memset",
    "mprotect",
    "madvise",
    "raise",
    "sigaction",
    "pthread_sigmask",
    "sigaltstack",
    "free",
)
"""C library functions that the support object calls. Signal handlers use only those that POSIX or
glibc allow there: the first three, `raise`, `sigaction` and `pthread_sigmask`."""

_FOLDER = Path(__file__).parent / "ir"
_PARTS = ("entry", "traps", "signals", "memory", "tables", "provide", "declarations")

STUB_BYTES = 16 if platform.machine() == "x86_64" else 32
"""Distance between the stubs of functions without code (`stubs.py`)."""

_POLL_BYTES = 1 << 20
"""Long operations look for an interruption each time they have worked on this many bytes."""

_QUICK_BYTES = 1 << 12
"""Copies up to this size do not look for one at all."""

# Offsets in ucontext_t, and of si_addr and si_code in siginfo_t (Linux).
_CONTEXT = {
    "x86_64": {"pc": 168, "fp": 120},
    "aarch64": {"pc": 440, "fp": 416},
}
_FAULT_ADDRESS = 16
_SIGNAL_CODE = 8

_STRUCTURES = {
    "act": Activation,
    "thread": ThreadRecord,
    "call": CallDescriptor,
    "function": FunctionRecord,
    "host": HostContext,
    "memory": MemoryRecord,
    "range": MemoryRange,
    "table": TableRecord,
    "segment": Segment,
    "context": ContextHeader,
    "module": ModuleHeader,
}


def _expand(text: str) -> str:
    """Replace `&act.field(%p)` by the address of that field: `getelementptr i8, ptr %p, i64 N`."""

    def address(match: re.Match[str]) -> str:
        structure, field, pointer = match.groups()
        offset = _STRUCTURES[structure].offset(field)
        return f"getelementptr i8, ptr {pointer}, i64 {offset}"

    return re.sub(r"&(\w+)\.(\w+)\((%[\w.]+)\)", address, text)


def support_module() -> str:
    """The support routines for this machine, as the text of one LLVM module."""
    context = _CONTEXT[platform.machine()]
    constants = {
        "ATTRIBUTES": ATTRIBUTES,
        "COLD": "optnone noinline",
        "NEEDS_THREAD": layout.STATUS_NEEDS_THREAD,
        "CALL_SLOTS": layout.CALL_SLOTS,
        "MAX_FRAMES": layout.MAX_FRAMES,
        "THREAD_RECORD_BYTES": ctypes.sizeof(ThreadRecord),
        "SS_DISABLE": 2,
        "MADV_DONTNEED": 4,
        "SIG_UNBLOCK": int(signal.SIG_UNBLOCK),
        "CONTEXT_PC": context["pc"],
        "CONTEXT_FP": context["fp"],
        "FAULT_ADDRESS": _FAULT_ADDRESS,
        "SIGNAL_CODE": _SIGNAL_CODE,
        "STUB_SHIFT": STUB_BYTES.bit_length() - 1,
        "MODULE_HEADER_BYTES": ctypes.sizeof(ModuleHeader),
        "STACK_OVERFLOW": layout.STATUS_STACK_OVERFLOW,
        "NOT_PROVIDED": layout.STATUS_NOT_PROVIDED,
        "COST_LIMIT_EXCEEDED": int(ErrCode.CostLimitExceeded),
        "INTERRUPTED": int(ErrCode.Interrupted),
        "MEMORY_OUT_OF_BOUNDS": int(ErrCode.MemoryOutOfBounds),
        "TABLE_OUT_OF_BOUNDS": int(ErrCode.TableOutOfBounds),
        "POLL_BYTES": _POLL_BYTES,
        "QUICK_BYTES": _QUICK_BYTES,
        "PAGE_ELEMENTS_1": layout.TABLE_COMMIT_ELEMENTS - 1,
        "PAGE_ELEMENTS_MASK": -layout.TABLE_COMMIT_ELEMENTS,
    }
    names = re.compile(r"\b(" + "|".join(constants) + r")\b")
    table = ", ".join(f"ptr @{name}" for name in layout.HELPERS)
    text = "\n".join(
        (
            *(_expand((_FOLDER / f"{name}.ll").read_text()) for name in _PARTS),
            (_FOLDER / f"provide.{platform.machine()}.ll").read_text(),
            f"@helpers = dso_local constant [{len(layout.HELPERS)} x ptr] [{table}]",
        )
    )
    return names.sub(lambda match: str(constants[match.group()]), text)

"""Structures that generated code and Python share, in one place.

Every offset used by emitted LLVM IR, by the support routines and by Python comes from here; a test
holds the offsets against the code that LLVM makes of them. All fields are 8 bytes wide unless said
otherwise, so that no layout depends on a platform's padding rules.
"""

from __future__ import annotations

import ctypes
from typing import ClassVar

SLOT_BYTES = 16
"""Width of one argument or result slot of a call: a v128 fits, smaller values use the low bytes."""

TABLE_COMMIT_ELEMENTS = 8192
"""Tables become accessible in steps of this many elements (64 KiB: a multiple of any page size)."""

MAX_FRAMES = 64
"""Return addresses that a trap records, innermost first."""


class Record(ctypes.Structure):
    """A C structure of 8-byte fields; `offset(name)` gives a field's byte offset."""

    _pack_: ClassVar[int] = 8

    @classmethod
    def offset(cls, name: str) -> int:
        return int(getattr(cls, name).offset)


class Activation(Record):
    """What belongs to the call that a Store is running; one per Store.

    `stack_limit`, `caller`, `jump_buffer`, `outer` and `in_host` belong to the innermost entry: the
    entry routine saves the values of the one before in its frame and puts them back at its end.
    """

    _fields_: ClassVar = [
        ("stack_limit", ctypes.c_uint64),
        ("caller", ctypes.c_uint64),  # vmctx of the guest function that calls out
        ("jump_buffer", ctypes.c_uint64),
        ("outer", ctypes.c_uint64),  # activation that this thread ran before, or 0
        ("depth", ctypes.c_uint64),  # entries in progress; 0 when the Store is idle
        ("call_id", ctypes.c_uint64),  # of the outermost entry; 0 when the Store is idle
        ("last_call_id", ctypes.c_uint64),
        ("interrupt_request", ctypes.c_uint64),  # call_id of the call to stop
        ("thread_id", ctypes.c_uint64),  # native id of the thread of the outermost entry
        ("in_host", ctypes.c_uint64),  # host functions in progress
        ("provided", ctypes.c_uint64),  # 0 when Python has given a function code
        ("trap_code", ctypes.c_uint64),
        ("instructions", ctypes.c_uint64),
        ("gas", ctypes.c_uint64),
        ("gas_limit", ctypes.c_uint64),
        ("gas_function", ctypes.c_uint64),  # the own function of a module that gas ended in,
        ("gas_run", ctypes.c_uint64),  # which of its runs of instructions,
        ("gas_context", ctypes.c_uint64),  # and its vmctx
        ("memory_ranges", ctypes.c_uint64),  # array of MemoryRange, ended by a zero base
        ("results", ctypes.c_uint64),  # slots for functions with two or more results
        ("frame_count", ctypes.c_uint64),
        ("frames", ctypes.c_uint64 * MAX_FRAMES),
    ]


class ThreadRecord(Record):
    """What the engine knows of one operating system thread."""

    _fields_: ClassVar = [
        ("activation", ctypes.c_uint64),  # running now on this thread, or 0
        ("stack_limit", ctypes.c_uint64),  # guest code must not go below
        ("stack_guard", ctypes.c_uint64),  # lowest address that counts as stack overflow
        ("thread_id", ctypes.c_uint64),  # native id
    ]


class MemoryRange(Record):
    """A reservation in which a fault of guest code is an out-of-bounds access."""

    _fields_: ClassVar = [("base", ctypes.c_uint64), ("bytes", ctypes.c_uint64)]


class MemoryRecord(Record):
    """A memory instance. The base never moves."""

    _fields_: ClassVar = [
        ("base", ctypes.c_uint64),
        ("bytes", ctypes.c_uint64),  # current size
        ("max_pages", ctypes.c_uint64),  # growth beyond fails: declared, configured, reserved
        ("growing", ctypes.c_uint64),  # 1 while a thread changes `bytes`
    ]


class TableRecord(Record):
    """A table instance: an array of references. The base never moves."""

    _fields_: ClassVar = [
        ("base", ctypes.c_uint64),
        ("size", ctypes.c_uint64),  # elements
        ("max_size", ctypes.c_uint64),
        ("committed", ctypes.c_uint64),  # elements that are backed by accessible pages
    ]


class FunctionRecord(Record):
    """A function instance, at a stable address; function references are addresses of these."""

    _fields_: ClassVar = [
        ("code", ctypes.c_uint64),
        ("context", ctypes.c_uint64),  # first argument: a vmctx, or a HostContext
        ("type", ctypes.c_uint64),  # canonical number of the function type, 0 matches none
    ]


class ModuleHeader(Record):
    """What the instances of a module in a process share, in front of its function table: an array
    with the current code of each own function, which calls between units go through."""

    _fields_: ClassVar = [
        ("provide", ctypes.c_uint64),  # void (*)(own function, free stack, activation)
        ("reserved", ctypes.c_uint64),  # aligns the table
    ]


class HostContext(Record):
    """What the stub of a host function needs: one per host function and Store."""

    _fields_: ClassVar = [
        ("activation", ctypes.c_uint64),
        ("callback", ctypes.c_uint64),  # void (*)(void), a ctypes callback
        ("slots", ctypes.c_uint64),  # arguments in, results out
        ("status", ctypes.c_uint64),  # an ErrCode; the stub writes FAILED, completion writes 0
        ("returned", ctypes.c_uint64),  # the support routine `host_returned`
    ]


class Segment(Record):
    """A data or element segment; dropping it sets `length` to 0."""

    _fields_: ClassVar = [("address", ctypes.c_uint64), ("length", ctypes.c_uint64)]


class CallDescriptor(Record):
    """What Python hands to the entry routine; argument slots follow the header."""

    _fields_: ClassVar = [
        ("activation", ctypes.c_uint64),
        ("record", ctypes.c_uint64),
        ("thunk", ctypes.c_uint64),  # enters the record's code from slots
        ("reserved", ctypes.c_uint64),  # aligns the slots
    ]


CALL_SLOTS = ctypes.sizeof(CallDescriptor)
"""Offset of the first slot in a call descriptor; slots are 16-byte aligned."""

HELPERS = (
    "trap",
    "stop_out_of_gas",
    "memory_grow",
    "memory_copy",
    "memory_fill",
    "memory_init",
    "table_grow",
    "table_copy",
    "table_fill",
    "table_init",
)
"""Support routines that guest code reaches through its vmctx, in the order of the helper table."""


class ContextHeader(Record):
    """Start of every vmctx; what follows depends on the module (`codegen.context`)."""

    _fields_: ClassVar = [
        ("activation", ctypes.c_uint64),
        ("helpers", ctypes.c_uint64),
        ("costs", ctypes.c_uint64),  # per own function, the gas of each run of instructions
        ("module", ctypes.c_uint64),  # ModuleHeader
    ]


# Statuses of the entry routine and of host callbacks beside the ErrCode values (all below 0x100).
STATUS_NEEDS_THREAD = 0x1000
STATUS_HOST_FAILED = 0x1001
"""Python never got to run a host function's body, or to end it."""
STATUS_HOST_RAISED = 0x1002
"""A host function raised what is in `StoreCore.pending`."""
STATUS_STACK_OVERFLOW = 0x1003
STATUS_NOT_PROVIDED = 0x1004
"""A function that was called did not get code: why not is in `StoreCore.pending`."""

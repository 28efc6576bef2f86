"""The support routines, as LLVM IR: entry, traps, signal handlers, memory and table operations.

They are compiled once (and cached) as an object of their own that is never freed. Guest code
reaches them through the helper table of its vmctx, so that its object needs no external symbol.

Rules that hold throughout:
- Every routine keeps a frame pointer: a trap walks the chain from where it happens up to the entry.
- A trap crosses generated frames only. Host functions report a status to their stub, which traps.
- Signal handlers act only while the program counter is in a guest body: everywhere else registers
  and the activation may be half way through a change.
"""

from __future__ import annotations

import ctypes
import platform
import re
import signal

from ..errors import ErrCode
from . import layout
from .layout import (
    Activation,
    CallDescriptor,
    FunctionRecord,
    HostContext,
    MemoryRange,
    MemoryRecord,
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
    "raise",
    "sigaction",
    "pthread_sigmask",
    "sigaltstack",
    "free",
)
"""C library functions that the support object calls. Signal handlers use only those that POSIX or
glibc allow there: the first three, `raise`, `sigaction` and `pthread_sigmask`."""

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
}


def _expand(text: str) -> str:
    """Replace `&act.field(%p)` by the address of that field: `getelementptr i8, ptr %p, i64 N`."""

    def address(match: re.Match[str]) -> str:
        structure, field, pointer = match.groups()
        offset = _STRUCTURES[structure].offset(field)
        return f"getelementptr i8, ptr {pointer}, i64 {offset}"

    return re.sub(r"&(\w+)\.(\w+)\((%[\w.]+)\)", address, text)


_ENTRY = """
; Runs the function of a call descriptor. Gives 0, the code of a trap, or NEEDS_THREAD when this
; thread was not prepared. The jump buffer is published after _setjmp has returned the first time.
define i32 @enter(ptr %call) ATTRIBUTES {
  %buffer = alloca [512 x i8], align 16
  %key = load i32, ptr @thread_key
  %thread = call ptr @pthread_getspecific(i32 %key)
  %unknown = icmp eq ptr %thread, null
  br i1 %unknown, label %needs_thread, label %known
needs_thread:
  ret i32 NEEDS_THREAD
known:
  %p.act = &call.activation(%call)
  %act = load ptr, ptr %p.act
  %p.record = &call.record(%call)
  %record = load ptr, ptr %p.record
  %slots = getelementptr i8, ptr %call, i64 CALL_SLOTS
  %p.current = &thread.activation(%thread)
  %p.limit = &thread.stack_limit(%thread)
  %p.act.limit = &act.stack_limit(%act)
  %p.jump = &act.jump_buffer(%act)
  %p.outer = &act.outer(%act)
  %p.depth = &act.depth(%act)
  %p.id = &act.call_id(%act)
  %p.host = &act.in_host(%act)
  %p.caller = &act.caller(%act)
  %previous = load ptr, ptr %p.current
  %previous.jump = load ptr, ptr %p.jump
  %previous.outer = load ptr, ptr %p.outer
  %previous.host = load i64, ptr %p.host
  %previous.caller = load i64, ptr %p.caller
  %depth = load i64, ptr %p.depth
  %limit = load i64, ptr %p.limit
  %nested = icmp ne i64 %depth, 0
  br i1 %nested, label %prepare, label %number
number:
  %p.last = &act.last_call_id(%act)
  %last = load i64, ptr %p.last
  %id = add i64 %last, 1
  store i64 %id, ptr %p.last
  %p.tid = &thread.thread_id(%thread)
  %tid = load i64, ptr %p.tid
  %p.act.tid = &act.thread_id(%act)
  store i64 %tid, ptr %p.act.tid
  store volatile i64 %id, ptr %p.id
  br label %prepare
prepare:
  %r = call i32 @_setjmp(ptr %buffer) returns_twice
  %first = icmp eq i32 %r, 0
  br i1 %first, label %run, label %trapped
run:
  %same = icmp eq ptr %previous, %act
  %outer = select i1 %same, ptr %previous.outer, ptr %previous
  store ptr %outer, ptr %p.outer
  store i64 %limit, ptr %p.act.limit
  %deeper = add i64 %depth, 1
  store i64 %deeper, ptr %p.depth
  store volatile i64 0, ptr %p.host
  store volatile ptr %buffer, ptr %p.jump
  store volatile ptr %act, ptr %p.current
  call void @poll(ptr %act)
  %p.code = &function.code(%record)
  %code = load atomic ptr, ptr %p.code monotonic, align 8
  %p.context = &function.context(%record)
  %context = load ptr, ptr %p.context
  %p.thunk = &function.thunk(%record)
  %thunk = load ptr, ptr %p.thunk
  call void %thunk(ptr %context, ptr %code, ptr %slots)
  br label %leave
trapped:
  %p.trap = &act.trap_code(%act)
  %trap = load volatile i64, ptr %p.trap
  %trap.code = trunc i64 %trap to i32
  br label %leave
leave:
  %status = phi i32 [ 0, %run ], [ %trap.code, %trapped ]
  store volatile ptr %previous, ptr %p.current
  store volatile ptr %previous.jump, ptr %p.jump
  store ptr %previous.outer, ptr %p.outer
  store volatile i64 %previous.host, ptr %p.host
  store i64 %previous.caller, ptr %p.caller
  store i64 %depth, ptr %p.depth
  br i1 %nested, label %done, label %idle
idle:
  store volatile i64 0, ptr %p.id
  br label %done
done:
  ret i32 %status
}
"""

_TRAPS = """
; Records where a trap happened: the return addresses on the frame-pointer chain below the entry.
; All of them lie behind the instruction in question, that of the trap (%pc) too.
define internal void @record_frames(ptr %act, i64 %pc, ptr %frame) ATTRIBUTES {
entry:
  %p.frames = &act.frames(%act)
  %p.count = &act.frame_count(%act)
  %p.jump = &act.jump_buffer(%act)
  %top = load i64, ptr %p.jump
  store i64 %pc, ptr %p.frames
  br label %walk
walk:
  %n = phi i64 [ 1, %entry ], [ %n.next, %step ]
  %at = phi ptr [ %frame, %entry ], [ %next, %step ]
  %low = phi i64 [ 0, %entry ], [ %at.i, %step ]
  %at.i = ptrtoint ptr %at to i64
  %above = icmp ugt i64 %at.i, %low
  %below = icmp ult i64 %at.i, %top
  %odd = and i64 %at.i, 7
  %aligned = icmp eq i64 %odd, 0
  %room = icmp ult i64 %n, MAX_FRAMES
  %ok.1 = and i1 %above, %below
  %ok.2 = and i1 %aligned, %room
  %ok = and i1 %ok.1, %ok.2
  br i1 %ok, label %step, label %end
step:
  %next = load ptr, ptr %at
  %p.return = getelementptr i8, ptr %at, i64 8
  %return = load i64, ptr %p.return
  %slot = getelementptr i64, ptr %p.frames, i64 %n
  store i64 %return, ptr %slot
  %n.next = add i64 %n, 1
  br label %walk
end:
  store i64 %n, ptr %p.count
  ret void
}

; Ends the innermost call of an activation.
define internal void @unwind(ptr %act, i32 %code) noreturn ATTRIBUTES {
  %p.trap = &act.trap_code(%act)
  %wide = zext i32 %code to i64
  store volatile i64 %wide, ptr %p.trap
  %p.jump = &act.jump_buffer(%act)
  %buffer = load volatile ptr, ptr %p.jump
  call void @longjmp(ptr %buffer, i32 1)
  unreachable
}

define void @trap(ptr %act, i32 %code) noreturn noinline ATTRIBUTES {
  %return = call ptr @llvm.returnaddress(i32 0)
  %pc = ptrtoint ptr %return to i64
  %own = call ptr @llvm.frameaddress.p0(i32 0)
  %frame = load ptr, ptr %own
  call void @record_frames(ptr %act, i64 %pc, ptr %frame)
  call void @unwind(ptr %act, i32 %code)
  unreachable
}

; Gas would pass its limit within a run of instructions: the total shows the limit.
define void @stop_out_of_gas(ptr %act, i64 %segment) noreturn ATTRIBUTES {
  %p.segment = &act.gas_segment(%act)
  store i64 %segment, ptr %p.segment
  call void @trap(ptr %act, i32 COST_LIMIT_EXCEEDED)
  unreachable
}

define internal i1 @interrupt_requested(ptr %act) ATTRIBUTES {
  %p.request = &act.interrupt_request(%act)
  %request = load volatile i64, ptr %p.request
  %p.id = &act.call_id(%act)
  %id = load volatile i64, ptr %p.id
  %equal = icmp eq i64 %request, %id
  %idle = icmp eq i64 %id, 0
  %busy = xor i1 %idle, true
  %hit = and i1 %equal, %busy
  ret i1 %hit
}

; Whether the call of this activation, or one that it is part of, is to stop. Outer activations can
; form a ring when two Stores call each other, so that the search has an end.
define internal i1 @stop_requested(ptr %act) ATTRIBUTES {
entry:
  br label %search
search:
  %at = phi ptr [ %act, %entry ], [ %outer, %miss ]
  %n = phi i32 [ 0, %entry ], [ %n.next, %miss ]
  %end = icmp eq ptr %at, null
  %deep = icmp ugt i32 %n, 64
  %over = or i1 %end, %deep
  br i1 %over, label %no, label %look
look:
  %hit = call i1 @interrupt_requested(ptr %at)
  br i1 %hit, label %yes, label %miss
miss:
  %p.outer = &act.outer(%at)
  %outer = load ptr, ptr %p.outer
  %n.next = add i32 %n, 1
  br label %search
yes:
  ret i1 true
no:
  ret i1 false
}

; What code outside guest bodies does instead of being stopped by the signal.
define void @poll(ptr %act) ATTRIBUTES {
  %hit = call i1 @stop_requested(ptr %act)
  br i1 %hit, label %stop, label %go
stop:
  call void @trap(ptr %act, i32 INTERRUPTED)
  unreachable
go:
  ret void
}

; The end of a host function's stub: gives back normally, or traps with the host's status.
define void @host_returned(ptr %act, i64 %status) ATTRIBUTES {
  %fine = icmp eq i64 %status, 0
  br i1 %fine, label %check, label %failed
failed:
  %code = trunc i64 %status to i32
  call void @trap(ptr %act, i32 %code)
  unreachable
check:
  call void @poll(ptr %act)
  ret void
}
"""

_SIGNALS = """
@thread_key = dso_local global i32 0
@guest_start = dso_local global i64 0
@guest_end = dso_local global i64 0
@chaining = dso_local global i32 0

; struct sigaction of the handlers that were there before ours: SIGSEGV, SIGBUS, interrupt, SIGINT.
@previous_actions = dso_local global [4 x [152 x i8]] zeroinitializer

define internal i1 @in_guest(i64 %pc) ATTRIBUTES {
  %start = load i64, ptr @guest_start
  %end = load i64, ptr @guest_end
  %a = icmp uge i64 %pc, %start
  %b = icmp ult i64 %pc, %end
  %in = and i1 %a, %b
  ret i1 %in
}

define internal ptr @current_activation() ATTRIBUTES {
  %key = load i32, ptr @thread_key
  %thread = call ptr @pthread_getspecific(i32 %key)
  %unknown = icmp eq ptr %thread, null
  br i1 %unknown, label %none, label %known
none:
  ret ptr null
known:
  %p = &thread.activation(%thread)
  %act = load volatile ptr, ptr %p
  ret ptr %act
}

; A thread ends: its record goes, and with it the stack for signals that lies behind the record,
; which a late signal must not use any more.
define void @thread_ended(ptr %thread) ATTRIBUTES {
  %stack = alloca [24 x i8], align 8
  %r.0 = call i32 @sigaltstack(ptr null, ptr %stack)
  %current = load ptr, ptr %stack
  %own = getelementptr i8, ptr %thread, i64 THREAD_RECORD_BYTES
  %is.own = icmp eq ptr %current, %own
  br i1 %is.own, label %disable, label %end
disable:
  %p.flags = getelementptr i8, ptr %stack, i64 8
  store i32 SS_DISABLE, ptr %p.flags
  %r.1 = call i32 @sigaltstack(ptr %stack, ptr null)
  br label %end
end:
  call void @free(ptr %thread)
  ret void
}

; Whether a signal comes from an instruction (si_code is positive), not from kill() or raise().
define internal i1 @is_fault(ptr %info) ATTRIBUTES {
  %p = getelementptr i8, ptr %info, i64 SIGNAL_CODE
  %code = load i32, ptr %p
  %fault = icmp sgt i32 %code, 0
  ret i1 %fault
}

; Hands a signal to the handler that was installed before ours. A default action is restored, and
; happens when the instruction faults again, or when a signal that was sent is sent again. A
; previous handler that raises the signal anew (as faulthandler does) finds itself here a second
; time: then the default action takes over.
define internal void @chain(
    i32 %signal, ptr %info, ptr %context, i64 %which, i1 %fault) ATTRIBUTES {
  %previous = getelementptr [4 x [152 x i8]], ptr @previous_actions, i64 0, i64 %which
  %handler = load i64, ptr %previous
  %is.default = icmp ult i64 %handler, 2
  br i1 %is.default, label %default, label %installed
default:
  br i1 %fault, label %restore, label %ignore
ignore:
  ret void
restore:
  %blank = alloca [152 x i8], align 8
  call void @llvm.memset.p0.i64(ptr %blank, i8 0, i64 152, i1 false)
  %r = call i32 @sigaction(i32 %signal, ptr %blank, ptr null)
  %returns = call i1 @is_fault(ptr %info)
  br i1 %returns, label %ignore, label %again_sent
again_sent:
  %r.0 = call i32 @raise(i32 %signal)
  ret void
installed:
  br i1 %fault, label %once, label %call
once:
  %seen = atomicrmw xchg ptr @chaining, i32 1 seq_cst
  %again = icmp ne i32 %seen, 0
  br i1 %again, label %give_up, label %call
give_up:
  %blank.2 = alloca [152 x i8], align 8
  call void @llvm.memset.p0.i64(ptr %blank.2, i8 0, i64 152, i1 false)
  %r.2 = call i32 @sigaction(i32 %signal, ptr %blank.2, ptr null)
  %r.3 = call i32 @raise(i32 %signal)
  ret void
call:
  %function = inttoptr i64 %handler to ptr
  call void %function(i32 %signal, ptr %info, ptr %context)
  store atomic i32 0, ptr @chaining seq_cst, align 4
  ret void
}

; SIGSEGV and SIGBUS: an access of guest code outside its memory, or beyond the end of the stack.
define void @on_fault(i32 %signal, ptr %info, ptr %context) ATTRIBUTES {
entry:
  %is.segv = icmp eq i32 %signal, 11
  %which = select i1 %is.segv, i64 0, i64 1
  %p.pc = getelementptr i8, ptr %context, i64 CONTEXT_PC
  %pc = load i64, ptr %p.pc
  %guest = call i1 @in_guest(i64 %pc)
  %fault = call i1 @is_fault(ptr %info)
  %own = and i1 %guest, %fault
  br i1 %own, label %find, label %other
find:
  %key = load i32, ptr @thread_key
  %thread = call ptr @pthread_getspecific(i32 %key)
  %unknown = icmp eq ptr %thread, null
  br i1 %unknown, label %other, label %known
known:
  %p.act = &thread.activation(%thread)
  %act = load volatile ptr, ptr %p.act
  %idle = icmp eq ptr %act, null
  br i1 %idle, label %other, label %running
running:
  %p.address = getelementptr i8, ptr %info, i64 FAULT_ADDRESS
  %address = load i64, ptr %p.address
  %p.guard = &thread.stack_guard(%thread)
  %guard = load i64, ptr %p.guard
  %p.limit = &thread.stack_limit(%thread)
  %limit = load i64, ptr %p.limit
  %above = icmp uge i64 %address, %guard
  %below = icmp ult i64 %address, %limit
  %overflow = and i1 %above, %below
  br i1 %overflow, label %stack, label %memories
memories:
  %p.ranges = &act.memory_ranges(%act)
  %ranges = load ptr, ptr %p.ranges
  %none = icmp eq ptr %ranges, null
  br i1 %none, label %other, label %search
search:
  %range = phi ptr [ %ranges, %memories ], [ %range.next, %miss ]
  %p.base = &range.base(%range)
  %base = load i64, ptr %p.base
  %ended = icmp eq i64 %base, 0
  br i1 %ended, label %other, label %compare
compare:
  %p.bytes = &range.bytes(%range)
  %bytes = load i64, ptr %p.bytes
  %distance = sub i64 %address, %base
  %inside = icmp ult i64 %distance, %bytes
  br i1 %inside, label %memory, label %miss
miss:
  %range.next = getelementptr i8, ptr %range, i64 16
  br label %search
stack:
  br label %hit
memory:
  br label %hit
hit:
  %code = phi i32 [ STACK_OVERFLOW, %stack ], [ MEMORY_OUT_OF_BOUNDS, %memory ]
  %p.fp = getelementptr i8, ptr %context, i64 CONTEXT_FP
  %fp = load ptr, ptr %p.fp
  %after = add i64 %pc, 1
  call void @record_frames(ptr %act, i64 %after, ptr %fp)
  call void @unwind(ptr %act, i32 %code)
  unreachable
other:
  call void @chain(i32 %signal, ptr %info, ptr %context, i64 %which, i1 true)
  ret void
}

; The interrupt signal: stops the call that the request names, or the call of an outer Store.
define void @on_interrupt(i32 %signal, ptr %info, ptr %context) ATTRIBUTES {
  %act = call ptr @current_activation()
  %hit = call i1 @stop_requested(ptr %act)
  br i1 %hit, label %found, label %other
found:
  call void @stop_guest(ptr %act, ptr %context, i32 %signal)
  ret void
other:
  call void @chain(i32 %signal, ptr %info, ptr %context, i64 2, i1 false)
  ret void
}

; SIGINT: Python's own handler first, which takes note of it; then the running call is stopped, so
; that Python gets to raise KeyboardInterrupt. Host functions are Python: they see it by themselves.
define void @on_keyboard(i32 %signal, ptr %info, ptr %context) ATTRIBUTES {
  call void @chain(i32 %signal, ptr %info, ptr %context, i64 3, i1 false)
  %act = call ptr @current_activation()
  %idle = icmp eq ptr %act, null
  br i1 %idle, label %done, label %running
running:
  %p.host = &act.in_host(%act)
  %host = load volatile i64, ptr %p.host
  %in.host = icmp ne i64 %host, 0
  br i1 %in.host, label %done, label %request
request:
  %p.id = &act.call_id(%act)
  %id = load volatile i64, ptr %p.id
  %p.request = &act.interrupt_request(%act)
  store volatile i64 %id, ptr %p.request
  call void @stop_guest(ptr %act, ptr %context, i32 %signal)
  br label %done
done:
  ret void
}

; Traps when the interrupted instruction is in a guest body; all other code polls. The signal was
; blocked so far, so that many that arrive together do not pile up on the small stack for signals;
; those that wait are handled, one by one and in vain, when it is unblocked.
define internal void @stop_guest(ptr %act, ptr %context, i32 %signal) ATTRIBUTES {
  %p.pc = getelementptr i8, ptr %context, i64 CONTEXT_PC
  %pc = load i64, ptr %p.pc
  %guest = call i1 @in_guest(i64 %pc)
  br i1 %guest, label %stop, label %elsewhere
stop:
  %p.fp = getelementptr i8, ptr %context, i64 CONTEXT_FP
  %fp = load ptr, ptr %p.fp
  %after = add i64 %pc, 1
  call void @record_frames(ptr %act, i64 %after, ptr %fp)
  %set = alloca [128 x i8], align 8
  call void @llvm.memset.p0.i64(ptr %set, i8 0, i64 128, i1 false)
  %number = sub i32 %signal, 1
  %word = lshr i32 %number, 6
  %bit = and i32 %number, 63
  %bit.wide = zext i32 %bit to i64
  %member = shl i64 1, %bit.wide
  %p.word = getelementptr i64, ptr %set, i32 %word
  store i64 %member, ptr %p.word
  %r = call i32 @pthread_sigmask(i32 SIG_UNBLOCK, ptr %set, ptr null)
  call void @unwind(ptr %act, i32 INTERRUPTED)
  unreachable
elsewhere:
  ret void
}
"""

_BOUNDS = """
define internal void @check_range(ptr %act, i64 %at, i64 %n, i64 %size, i32 %code) ATTRIBUTES {
  %long = icmp ugt i64 %n, %size
  %room = sub i64 %size, %n
  %far = icmp ugt i64 %at, %room
  %out = or i1 %long, %far
  br i1 %out, label %outside, label %inside
outside:
  call void @trap(ptr %act, i32 %code)
  unreachable
inside:
  ret void
}
"""

_MEMORY = """
; memory.grow: the old size in pages, or -1. No call back into Python. The host may grow a memory
; while a guest does in another thread: one waits for the other, which makes one system call.
define i64 @memory_grow(ptr %memory, i64 %pages) ATTRIBUTES {
entry:
  %p = &memory.growing(%memory)
  br label %acquire
acquire:
  %seen = atomicrmw xchg ptr %p, i64 1 acquire
  %free = icmp eq i64 %seen, 0
  br i1 %free, label %locked, label %acquire
locked:
  %old = call i64 @grow_alone(ptr %memory, i64 %pages)
  store atomic i64 0, ptr %p release, align 8
  ret i64 %old
}

define internal i64 @grow_alone(ptr %memory, i64 %pages) ATTRIBUTES {
  %p.base = &memory.base(%memory)
  %base = load i64, ptr %p.base
  %p.bytes = &memory.bytes(%memory)
  %bytes = load i64, ptr %p.bytes
  %p.max = &memory.max_pages(%memory)
  %max = load i64, ptr %p.max
  %old = lshr i64 %bytes, 16
  %room = sub i64 %max, %old
  %none = icmp ugt i64 %old, %max
  %many = icmp ugt i64 %pages, %room
  %fails = or i1 %none, %many
  br i1 %fails, label %fail, label %zero
zero:
  %nothing = icmp eq i64 %pages, 0
  br i1 %nothing, label %same, label %commit
same:
  ret i64 %old
commit:
  %size = shl i64 %pages, 16
  %end = add i64 %base, %bytes
  %address = inttoptr i64 %end to ptr
  %r = call i32 @mprotect(ptr %address, i64 %size, i32 3)
  %refused = icmp ne i32 %r, 0
  br i1 %refused, label %fail, label %grown
grown:
  %new = add i64 %bytes, %size
  store volatile i64 %new, ptr %p.bytes
  ret i64 %old
fail:
  ret i64 -1
}

define void @memory_fill(ptr %act, ptr %memory, i64 %at, i32 %value, i64 %n) ATTRIBUTES {
entry:
  %p.bytes = &memory.bytes(%memory)
  %bytes = load volatile i64, ptr %p.bytes
  call void @check_range(ptr %act, i64 %at, i64 %n, i64 %bytes, i32 MEMORY_OUT_OF_BOUNDS)
  %p.base = &memory.base(%memory)
  %base = load ptr, ptr %p.base
  br label %loop
loop:
  %done = phi i64 [ 0, %entry ], [ %done.next, %body ]
  %left = sub i64 %n, %done
  %end = icmp eq i64 %left, 0
  br i1 %end, label %out, label %body
body:
  %chunk = call i64 @llvm.umin.i64(i64 %left, i64 POLL_BYTES)
  %offset = add i64 %at, %done
  %to = getelementptr i8, ptr %base, i64 %offset
  %r = call ptr @memset(ptr %to, i32 %value, i64 %chunk)
  %done.next = add i64 %done, %chunk
  call void @poll(ptr %act)
  br label %loop
out:
  ret void
}

; Copies n bytes in chunks, in the order that an overlap needs, and polls behind each. Copies that
; take no longer than a few instructions of the guest do not: there, a signal hits the guest.
define internal void @move(ptr %act, ptr %to, ptr %from, i64 %n) ATTRIBUTES {
entry:
  %small = icmp ule i64 %n, QUICK_BYTES
  br i1 %small, label %at_once, label %chunks
at_once:
  %r.0 = call ptr @memmove(ptr %to, ptr %from, i64 %n)
  ret void
chunks:
  %backward = icmp ugt ptr %to, %from
  br label %loop
loop:
  %done = phi i64 [ 0, %chunks ], [ %done.next, %body ]
  %left = sub i64 %n, %done
  %end = icmp eq i64 %left, 0
  br i1 %end, label %out, label %body
body:
  %chunk = call i64 @llvm.umin.i64(i64 %left, i64 POLL_BYTES)
  %from.end = sub i64 %left, %chunk
  %offset = select i1 %backward, i64 %from.end, i64 %done
  %to.at = getelementptr i8, ptr %to, i64 %offset
  %from.at = getelementptr i8, ptr %from, i64 %offset
  %r = call ptr @memmove(ptr %to.at, ptr %from.at, i64 %chunk)
  %done.next = add i64 %done, %chunk
  call void @poll(ptr %act)
  br label %loop
out:
  ret void
}

define void @memory_copy(
    ptr %act, ptr %to, i64 %to.at, ptr %from, i64 %from.at, i64 %n) ATTRIBUTES {
  %p.to.bytes = &memory.bytes(%to)
  %to.bytes = load volatile i64, ptr %p.to.bytes
  %p.from.bytes = &memory.bytes(%from)
  %from.bytes = load volatile i64, ptr %p.from.bytes
  call void @check_range(ptr %act, i64 %from.at, i64 %n, i64 %from.bytes, i32 MEMORY_OUT_OF_BOUNDS)
  call void @check_range(ptr %act, i64 %to.at, i64 %n, i64 %to.bytes, i32 MEMORY_OUT_OF_BOUNDS)
  %p.to.base = &memory.base(%to)
  %to.base = load ptr, ptr %p.to.base
  %p.from.base = &memory.base(%from)
  %from.base = load ptr, ptr %p.from.base
  %to.ptr = getelementptr i8, ptr %to.base, i64 %to.at
  %from.ptr = getelementptr i8, ptr %from.base, i64 %from.at
  call void @move(ptr %act, ptr %to.ptr, ptr %from.ptr, i64 %n)
  ret void
}

define void @memory_init(
    ptr %act, ptr %memory, i64 %at, ptr %segment, i64 %from, i64 %n) ATTRIBUTES {
  %p.length = &segment.length(%segment)
  %length = load i64, ptr %p.length
  %p.bytes = &memory.bytes(%memory)
  %bytes = load volatile i64, ptr %p.bytes
  call void @check_range(ptr %act, i64 %from, i64 %n, i64 %length, i32 MEMORY_OUT_OF_BOUNDS)
  call void @check_range(ptr %act, i64 %at, i64 %n, i64 %bytes, i32 MEMORY_OUT_OF_BOUNDS)
  %p.base = &memory.base(%memory)
  %base = load ptr, ptr %p.base
  %p.address = &segment.address(%segment)
  %address = load ptr, ptr %p.address
  %to.ptr = getelementptr i8, ptr %base, i64 %at
  %from.ptr = getelementptr i8, ptr %address, i64 %from
  call void @move(ptr %act, ptr %to.ptr, ptr %from.ptr, i64 %n)
  ret void
}
"""

_TABLE = """
; Writes one reference into n elements. A table is small enough to do it at one go; callers poll.
define internal void @spread(ptr %to, i64 %value, i64 %n) ATTRIBUTES {
entry:
  br label %loop
loop:
  %i = phi i64 [ 0, %entry ], [ %i.next, %body ]
  %end = icmp eq i64 %i, %n
  br i1 %end, label %out, label %body
body:
  %p = getelementptr i64, ptr %to, i64 %i
  store i64 %value, ptr %p
  %i.next = add i64 %i, 1
  br label %loop
out:
  ret void
}

; table.grow: the old size, or -1. New pages are zero, which is the null reference: nothing may
; stop the work between writing other references there and making them part of the table.
define i64 @table_grow(ptr %act, ptr %table, i64 %n, i64 %value) ATTRIBUTES {
  call void @poll(ptr %act)
  %p.base = &table.base(%table)
  %base = load ptr, ptr %p.base
  %p.size = &table.size(%table)
  %size = load i64, ptr %p.size
  %p.max = &table.max_size(%table)
  %max = load i64, ptr %p.max
  %room = sub i64 %max, %size
  %many = icmp ugt i64 %n, %room
  br i1 %many, label %fail, label %fits
fits:
  %new = add i64 %size, %n
  %p.committed = &table.committed(%table)
  %committed = load i64, ptr %p.committed
  %enough = icmp ule i64 %new, %committed
  br i1 %enough, label %fill, label %commit
commit:
  %more = sub i64 %new, %committed
  %more.up = add i64 %more, PAGE_ELEMENTS_1
  %elements = and i64 %more.up, PAGE_ELEMENTS_MASK
  %bytes = shl i64 %elements, 3
  %end = getelementptr i64, ptr %base, i64 %committed
  %r = call i32 @mprotect(ptr %end, i64 %bytes, i32 3)
  %refused = icmp ne i32 %r, 0
  br i1 %refused, label %fail, label %committed_more
committed_more:
  %committed.new = add i64 %committed, %elements
  store i64 %committed.new, ptr %p.committed
  br label %fill
fill:
  %from = getelementptr i64, ptr %base, i64 %size
  %null = icmp eq i64 %value, 0
  br i1 %null, label %filled, label %write
write:
  call void @spread(ptr %from, i64 %value, i64 %n)
  br label %filled
filled:
  store i64 %new, ptr %p.size
  ret i64 %size
fail:
  ret i64 -1
}

define void @table_fill(ptr %act, ptr %table, i64 %at, i64 %value, i64 %n) ATTRIBUTES {
  %p.size = &table.size(%table)
  %size = load i64, ptr %p.size
  call void @check_range(ptr %act, i64 %at, i64 %n, i64 %size, i32 TABLE_OUT_OF_BOUNDS)
  call void @poll(ptr %act)
  %p.base = &table.base(%table)
  %base = load ptr, ptr %p.base
  %to = getelementptr i64, ptr %base, i64 %at
  call void @spread(ptr %to, i64 %value, i64 %n)
  ret void
}

define void @table_copy(ptr %act, ptr %to, i64 %to.at, ptr %from, i64 %from.at, i64 %n) ATTRIBUTES {
  %p.to.size = &table.size(%to)
  %to.size = load i64, ptr %p.to.size
  %p.from.size = &table.size(%from)
  %from.size = load i64, ptr %p.from.size
  call void @check_range(ptr %act, i64 %from.at, i64 %n, i64 %from.size, i32 TABLE_OUT_OF_BOUNDS)
  call void @check_range(ptr %act, i64 %to.at, i64 %n, i64 %to.size, i32 TABLE_OUT_OF_BOUNDS)
  %p.to.base = &table.base(%to)
  %to.base = load ptr, ptr %p.to.base
  %p.from.base = &table.base(%from)
  %from.base = load ptr, ptr %p.from.base
  %to.ptr = getelementptr i64, ptr %to.base, i64 %to.at
  %from.ptr = getelementptr i64, ptr %from.base, i64 %from.at
  %bytes = shl i64 %n, 3
  call void @move(ptr %act, ptr %to.ptr, ptr %from.ptr, i64 %bytes)
  ret void
}

define void @table_init(ptr %act, ptr %table, i64 %at, ptr %segment, i64 %from, i64 %n) ATTRIBUTES {
  %p.length = &segment.length(%segment)
  %length = load i64, ptr %p.length
  %p.size = &table.size(%table)
  %size = load i64, ptr %p.size
  call void @check_range(ptr %act, i64 %from, i64 %n, i64 %length, i32 TABLE_OUT_OF_BOUNDS)
  call void @check_range(ptr %act, i64 %at, i64 %n, i64 %size, i32 TABLE_OUT_OF_BOUNDS)
  %p.base = &table.base(%table)
  %base = load ptr, ptr %p.base
  %p.address = &segment.address(%segment)
  %address = load ptr, ptr %p.address
  %to.ptr = getelementptr i64, ptr %base, i64 %at
  %from.ptr = getelementptr i64, ptr %address, i64 %from
  %bytes = shl i64 %n, 3
  call void @move(ptr %act, ptr %to.ptr, ptr %from.ptr, i64 %bytes)
  ret void
}
"""

_DECLARATIONS = """
declare i32 @_setjmp(ptr) returns_twice
declare void @longjmp(ptr, i32) noreturn
declare ptr @pthread_getspecific(i32)
declare ptr @memmove(ptr, ptr, i64)
declare ptr @memset(ptr, i32, i64)
declare i32 @mprotect(ptr, i64, i32)
declare i32 @raise(i32)
declare i32 @sigaction(i32, ptr, ptr)
declare i32 @sigaltstack(ptr, ptr)
declare i32 @pthread_sigmask(i32, ptr, ptr)
declare void @free(ptr)
"""


def support_module() -> str:
    """The support routines for this machine, as the text of one LLVM module."""
    context = _CONTEXT[platform.machine()]
    constants = {
        "ATTRIBUTES": ATTRIBUTES,
        "NEEDS_THREAD": layout.STATUS_NEEDS_THREAD,
        "CALL_SLOTS": layout.CALL_SLOTS,
        "MAX_FRAMES": layout.MAX_FRAMES,
        "THREAD_RECORD_BYTES": ctypes.sizeof(ThreadRecord),
        "SS_DISABLE": 2,
        "SIG_UNBLOCK": int(signal.SIG_UNBLOCK),
        "CONTEXT_PC": context["pc"],
        "CONTEXT_FP": context["fp"],
        "FAULT_ADDRESS": _FAULT_ADDRESS,
        "SIGNAL_CODE": _SIGNAL_CODE,
        "STACK_OVERFLOW": layout.STATUS_STACK_OVERFLOW,
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
            _expand(_ENTRY + _TRAPS + _SIGNALS + _BOUNDS + _MEMORY + _TABLE),
            _DECLARATIONS,
            f"@helpers = dso_local constant [{len(layout.HELPERS)} x ptr] [{table}]",
        )
    )
    return names.sub(lambda match: str(constants[match.group()]), text)

; Signal handlers: faults of guest code, interruption, Ctrl-C.

@thread_key = dso_local global i32 0
@main_thread = dso_local global i64 0
@guest_start = dso_local global i64 0
@guest_end = dso_local global i64 0
@chaining = dso_local global i32 0

; struct sigaction of the handlers that were there before ours: SIGSEGV, SIGBUS, interrupt, SIGINT.
@previous_actions = dso_local global [4 x [152 x i8]] zeroinitializer

define internal i1 @in_guest(i64 %pc) ATTRIBUTES COLD {
  %start = load i64, ptr @guest_start
  %end = load i64, ptr @guest_end
  %a = icmp uge i64 %pc, %start
  %b = icmp ult i64 %pc, %end
  %in = and i1 %a, %b
  ret i1 %in
}

define internal ptr @current_activation() ATTRIBUTES COLD {
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
define void @thread_ended(ptr %thread) ATTRIBUTES COLD {
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
define internal i1 @is_fault(ptr %info) ATTRIBUTES COLD {
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
    i32 %signal, ptr %info, ptr %context, i64 %which, i1 %fault) ATTRIBUTES COLD {
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
define void @on_fault(i32 %signal, ptr %info, ptr %context) ATTRIBUTES COLD {
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
define void @on_interrupt(i32 %signal, ptr %info, ptr %context) ATTRIBUTES COLD {
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
; Python raises it in the main thread only, so calls of other threads go on.
define void @on_keyboard(i32 %signal, ptr %info, ptr %context) ATTRIBUTES COLD {
  call void @chain(i32 %signal, ptr %info, ptr %context, i64 3, i1 false)
  %act = call ptr @current_activation()
  %idle = icmp eq ptr %act, null
  br i1 %idle, label %done, label %running
running:
  %p.thread = &act.thread_id(%act)
  %thread = load i64, ptr %p.thread
  %main.thread = load i64, ptr @main_thread
  %is.main = icmp eq i64 %thread, %main.thread
  br i1 %is.main, label %main, label %done
main:
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
define internal void @stop_guest(ptr %act, ptr %context, i32 %signal) ATTRIBUTES COLD {
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

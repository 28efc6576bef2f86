; Into guest code and out of it again.

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
  %p.thunk = &call.thunk(%call)
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

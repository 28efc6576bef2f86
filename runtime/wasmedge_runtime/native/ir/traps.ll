; How a call ends before its time, and how code outside guest bodies notices that it should.

; Records where a trap happened: the return addresses on the frame-pointer chain below the entry.
; All of them lie behind the instruction in question, that of the trap (%pc) too.
define internal void @record_frames(ptr %act, i64 %pc, ptr %frame) ATTRIBUTES COLD {
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

define void @trap(ptr %act, i32 %code) noreturn noinline ATTRIBUTES COLD {
  %return = call ptr @llvm.returnaddress(i32 0)
  %pc = ptrtoint ptr %return to i64
  %own = call ptr @llvm.frameaddress.p0(i32 0)
  %frame = load ptr, ptr %own
  call void @record_frames(ptr %act, i64 %pc, ptr %frame)
  call void @unwind(ptr %act, i32 %code)
  unreachable
}

; Gas would pass its limit within a run of instructions: the total shows the limit.
define void @stop_out_of_gas(ptr %act, i64 %function, i64 %run) noreturn ATTRIBUTES COLD {
  %p.function = &act.gas_function(%act)
  store i64 %function, ptr %p.function
  %p.run = &act.gas_run(%act)
  store i64 %run, ptr %p.run
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

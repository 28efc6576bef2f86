; memory.grow, fill, copy and init; reset; bounds of memories and tables.

define internal void @check_range(ptr %act, i64 %at, i64 %n, i64 %size, i32 %code) ATTRIBUTES COLD {
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

; memory.grow: the old size in pages, or -1. No call back into Python. The host may grow a memory
; while a guest does in another thread: one waits for the other, which makes one system call.
define i64 @memory_grow(ptr %memory, i64 %pages) ATTRIBUTES COLD {
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

define internal i64 @grow_alone(ptr %memory, i64 %pages) ATTRIBUTES COLD {
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

; For Python: takes a memory back to its first bytes, which then read as they were mapped: as zeros,
; or as their image. Pages beyond are no longer accessible, so growing gives zeros again. 0, or -1
; when the system refuses. Callers know that no guest uses the memory; the host may be growing it.
define i64 @memory_reset(ptr %memory, i64 %bytes) ATTRIBUTES COLD {
entry:
  %p = &memory.growing(%memory)
  br label %acquire
acquire:
  %seen = atomicrmw xchg ptr %p, i64 1 acquire
  %free = icmp eq i64 %seen, 0
  br i1 %free, label %locked, label %acquire
locked:
  %p.base = &memory.base(%memory)
  %base = load ptr, ptr %p.base
  %p.bytes = &memory.bytes(%memory)
  %old = load i64, ptr %p.bytes
  %r.0 = call i32 @madvise(ptr %base, i64 %old, i32 MADV_DONTNEED)
  %refused.0 = icmp ne i32 %r.0, 0
  br i1 %refused.0, label %end, label %discarded
discarded:
  %grown = icmp ugt i64 %old, %bytes
  br i1 %grown, label %shrink, label %end
shrink:
  %first = getelementptr i8, ptr %base, i64 %bytes
  %more = sub i64 %old, %bytes
  %r.1 = call i32 @mprotect(ptr %first, i64 %more, i32 0)
  %refused.1 = icmp ne i32 %r.1, 0
  br i1 %refused.1, label %end, label %shrunk
shrunk:
  store volatile i64 %bytes, ptr %p.bytes
  br label %end
end:
  %result = phi i64 [ -1, %locked ], [ 0, %discarded ], [ -1, %shrink ], [ 0, %shrunk ]
  store atomic i64 0, ptr %p release, align 8
  ret i64 %result
}

define void @memory_fill(ptr %act, ptr %memory, i64 %at, i32 %value, i64 %n) ATTRIBUTES COLD {
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
define internal void @move(ptr %act, ptr %to, ptr %from, i64 %n) ATTRIBUTES COLD {
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
    ptr %act, ptr %memory, i64 %at, ptr %segment, i64 %from, i64 %n) ATTRIBUTES COLD {
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

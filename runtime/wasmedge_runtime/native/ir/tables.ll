; table.grow, fill, copy and init; element segments at instantiation.

; Writes one reference into n elements. A table is small enough to do it at one go; callers poll.
define internal void @spread(ptr %to, i64 %value, i64 %n) ATTRIBUTES COLD {
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
define i64 @table_grow(ptr %act, ptr %table, i64 %n, i64 %value) ATTRIBUTES COLD {
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

define void @table_fill(ptr %act, ptr %table, i64 %at, i64 %value, i64 %n) ATTRIBUTES COLD {
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

define void @table_copy(ptr %act, ptr %to, i64 %to.at, ptr %from, i64 %from.at, i64 %n) ATTRIBUTES COLD {
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

define void @table_init(ptr %act, ptr %table, i64 %at, ptr %segment, i64 %from, i64 %n) ATTRIBUTES COLD {
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

; For Python: writes n references to functions of one instance, which are given as the offsets of
; their records in its vmctx. 0, where no record can be, is the null reference.
define void @place_references(ptr %to, ptr %offsets, i64 %n, i64 %context) ATTRIBUTES COLD {
entry:
  br label %loop
loop:
  %i = phi i64 [ 0, %entry ], [ %i.next, %body ]
  %end = icmp eq i64 %i, %n
  br i1 %end, label %out, label %body
body:
  %p.offset = getelementptr i64, ptr %offsets, i64 %i
  %offset = load i64, ptr %p.offset
  %null = icmp eq i64 %offset, 0
  %record = add i64 %offset, %context
  %value = select i1 %null, i64 0, i64 %record
  %p.to = getelementptr i64, ptr %to, i64 %i
  store i64 %value, ptr %p.to
  %i.next = add i64 %i, 1
  br label %loop
out:
  ret void
}

; Functions that have no code yet. Their place in the function table of the module, and in function
; records, has a stub (`stubs.py`), which comes to @provide_code with the arguments of the call in
; their registers and on the stack. They stay there while Python provides the code.

@stubs_start = dso_local global i64 0

; The code of the function whose stub was called; traps when Python could not provide it. The status
; says *not provided* until Python has completed: what a signal's exception cut short has not, also
; when the code is there. Another status may be in use by a call that a signal handler interrupted.
define internal ptr @provide(ptr %context, i64 %stub, i64 %stack) ATTRIBUTES COLD {
  %start = load i64, ptr @stubs_start
  %offset = sub i64 %stub, %start
  %index = lshr i64 %offset, STUB_SHIFT
  %p.act = &context.activation(%context)
  %act = load ptr, ptr %p.act
  %p.module = &context.module(%context)
  %module = load ptr, ptr %p.module
  %p.provide = &module.provide(%module)
  %provide = load ptr, ptr %p.provide
  %p.limit = &act.stack_limit(%act)
  %limit = load i64, ptr %p.limit
  %room = sub i64 %stack, %limit
  %p.host = &act.in_host(%act)
  %host = load i64, ptr %p.host
  %deeper = add i64 %host, 1
  store volatile i64 %deeper, ptr %p.host
  %p.status = &act.provided(%act)
  %status.before = load volatile i64, ptr %p.status
  store volatile i64 NOT_PROVIDED, ptr %p.status
  call void %provide(i64 %index, i64 %room, ptr %act)
  %status = load volatile i64, ptr %p.status
  store volatile i64 %status.before, ptr %p.status
  store volatile i64 %host, ptr %p.host
  %table = getelementptr i8, ptr %module, i64 MODULE_HEADER_BYTES
  %slot = getelementptr ptr, ptr %table, i64 %index
  %code = load volatile ptr, ptr %slot
  call void @host_returned(ptr %act, i64 %status)
  ret ptr %code
}

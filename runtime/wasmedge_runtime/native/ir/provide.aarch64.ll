; From a stub: x16 is its address. All registers that can hold arguments are kept.
define void @provide_code() naked noinline nounwind {
  call void asm sideeffect "
    stp x29, x30, [sp, #-16]!
    mov x29, sp
    stp x0, x1, [sp, #-208]!
    stp x2, x3, [sp, #16]
    stp x4, x5, [sp, #32]
    stp x6, x7, [sp, #48]
    str x8, [sp, #64]
    stp q0, q1, [sp, #80]
    stp q2, q3, [sp, #112]
    stp q4, q5, [sp, #144]
    stp q6, q7, [sp, #176]
    mov x1, x16
    mov x2, sp
    bl $0
    mov x16, x0
    ldp q0, q1, [sp, #80]
    ldp q2, q3, [sp, #112]
    ldp q4, q5, [sp, #144]
    ldp q6, q7, [sp, #176]
    ldr x8, [sp, #64]
    ldp x6, x7, [sp, #48]
    ldp x4, x5, [sp, #32]
    ldp x2, x3, [sp, #16]
    ldp x0, x1, [sp], #208
    ldp x29, x30, [sp], #16
    br x16", "i"(ptr @provide)
  unreachable
}

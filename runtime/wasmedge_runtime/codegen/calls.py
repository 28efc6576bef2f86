"""Calls, and the LLVM functions around them: thunks for Python, stubs for host functions.

Specification 4.4.8 (call, call_indirect) and 4.4.10. A wasm function takes its vmctx and its
parameters by LLVM's C convention; one result comes back by value, more through the activation.
"""

from __future__ import annotations

from ..errors import ErrCode
from ..native.layout import (
    SLOT_BYTES,
    STATUS_HOST_FAILED,
    Activation,
    FunctionRecord,
    HostContext,
    TableRecord,
)
from ..types import FunctionType
from . import immediates
from .function import FunctionTranslator
from .rules import IR_TYPE, emits


def result_type(kind: FunctionType) -> str:
    """LLVM's return type of a wasm function."""
    return IR_TYPE[kind.returns[0]] if len(kind.returns) == 1 else "void"


@emits("call")
def call(t: FunctionTranslator, code: int, pos: int) -> int:
    index, pos = immediates.unsigned(t.ast.data, pos)
    kind = t.ast.function_types[index]
    t.checkpoint()
    own = index - t.ast.imported_functions
    if own >= 0:
        target = f"@f{index}"
        if not t.unit.is_here(index):
            slot = f"getelementptr (i8, ptr @functions, i64 {own * 8})"
            target = t.value(f"load volatile ptr, ptr {slot}, align 8")
        _call(t, kind, target, "%c")
        return pos
    record = t.context_pointer(t.layout.imported_function(index))
    _call_record(t, kind, record)
    return pos


@emits("call_indirect")
def call_indirect(t: FunctionTranslator, code: int, pos: int) -> int:
    type_index, pos = immediates.unsigned(t.ast.data, pos)
    table, pos = immediates.unsigned(t.ast.data, pos)
    t.checkpoint()
    index = t.widen(t.stack.pop())
    size = _table_size(t, table)
    t.trap_if(t.value(f"icmp uge i64 {index}, {size}"), int(ErrCode.UndefinedElement))
    base = t.context_pointer(t.layout.table_base(table))
    slot = t.value(f"getelementptr i64, ptr {base}, i64 {index}")
    record = t.value(f"load ptr, ptr {slot}")
    t.trap_if(t.value(f"icmp eq ptr {record}, null"), int(ErrCode.UninitializedElement))
    actual = t.value(f"load i64, ptr {t.field(record, FunctionRecord.offset('type'))}")
    wanted_slot = t.context_address(t.layout.type_number(type_index))
    wanted = t.prepare(f"%type.{type_index}", f"load i64, ptr {wanted_slot}, !invariant.load !0")
    t.trap_if(t.value(f"icmp ne i64 {actual}, {wanted}"), int(ErrCode.IndirectCallTypeMismatch))
    _call_record(t, t.ast.types[type_index], record)
    return pos


def _table_size(t: FunctionTranslator, table: int) -> str:
    limit = t.ast.table_types[table].limit
    if table >= t.ast.imported_tables and limit.max == limit.min:
        return str(limit.min)
    record = t.context_pointer(t.layout.table_record(table))
    return t.value(f"load i64, ptr {t.field(record, TableRecord.offset('size'))}")


def _call_record(t: FunctionTranslator, kind: FunctionType, record: str) -> None:
    """Call through a function record. A host function asks whose memory it may use."""
    code = t.value(f"load volatile ptr, ptr {record}, align 8")
    context = t.value(f"load ptr, ptr {t.field(record, FunctionRecord.offset('context'))}")
    t.out.append(f"store ptr %c, ptr {t.activation_field('caller')}")
    _call(t, kind, code, context)


def _call(t: FunctionTranslator, kind: FunctionType, code: str, context: str) -> None:
    count = len(kind.parameters)
    operands = t.stack[len(t.stack) - count :]
    del t.stack[len(t.stack) - count :]
    typed = [f"{IR_TYPE[p]} {o}" for p, o in zip(kind.parameters, operands, strict=True)]
    instruction = f"call {result_type(kind)} {code}({', '.join([f'ptr {context}', *typed])})"
    t.has_calls = True
    if len(kind.returns) == 1:
        results = [t.value(instruction)]
    else:
        t.out.append(instruction)
        results = _load_results(t, kind)
    if t.metering:
        t.refetch()
    t.stack += results


def _load_results(t: FunctionTranslator, kind: FunctionType) -> list[str]:
    if not kind.returns:
        return []
    t.unit.move(len(kind.returns))
    slots = t.value(f"load ptr, ptr {t.activation_field('results')}")
    return [
        t.value(f"load {IR_TYPE[code]}, ptr {t.field(slots, i * SLOT_BYTES)}, align 8")
        for i, code in enumerate(kind.returns)
    ]


def thunk(name: str, kind: FunctionType) -> str:
    """An LLVM function with the C convention that calls a wasm function with arguments from slots,
    and puts its results there."""
    lines = [f"define hidden void @{name}(ptr %c, ptr %code, ptr %slots) #1 {{"]
    arguments = ["ptr %c"]
    for i, code in enumerate(kind.parameters):
        lines.append(f"%p{i} = getelementptr i8, ptr %slots, i64 {i * SLOT_BYTES}")
        lines.append(f"%a{i} = load {IR_TYPE[code]}, ptr %p{i}, align 8")
        arguments.append(f"{IR_TYPE[code]} %a{i}")
    call = f"call {result_type(kind)} %code({', '.join(arguments)})"
    if len(kind.returns) == 1:
        lines.append(f"%r = {call}")
        lines.append(f"store {IR_TYPE[kind.returns[0]]} %r, ptr %slots, align 8")
    else:
        lines.append(call)
        if kind.returns:
            offset = Activation.offset("results")
            lines.append("%act = load ptr, ptr %c")
            lines.append(f"%results.p = getelementptr i8, ptr %act, i64 {offset}")
            lines.append("%results = load ptr, ptr %results.p")
            lines.append(_copy_loop(len(kind.returns)))
    return "\n".join([*lines, "ret void", "}\n"])


def _copy_loop(slots: int) -> str:
    return f"""br label %copy
copy:
%i = phi i64 [ 0, %0 ], [ %i.next, %copy ]
%from = getelementptr <2 x i64>, ptr %results, i64 %i
%to = getelementptr <2 x i64>, ptr %slots, i64 %i
%slot = load volatile <2 x i64>, ptr %from, align 8
store volatile <2 x i64> %slot, ptr %to, align 8
%i.next = add i64 %i, 1
%more = icmp ult i64 %i.next, {slots}
br i1 %more, label %copy, label %copied
copied:"""


def host_stub(name: str, kind: FunctionType) -> str:
    """An LLVM function that wasm calls in place of a host function of this type.

    It puts the arguments into the slots of its `HostContext`, calls back into Python, and takes the
    results from the same slots. The status says *failed* until Python has completed. Slots and
    status are put back afterwards: a signal handler of Python can run before the arguments are
    taken, or behind the results, and call the same function; and a call that fails may have had
    nested ones that went well.
    """

    def field(name: str) -> str:
        return f"getelementptr i8, ptr %host, i64 {HostContext.offset(name)}"

    parameters = [f"{IR_TYPE[code]} %a{i}" for i, code in enumerate(kind.parameters)]
    lines = [
        f"define hidden {result_type(kind)} @{name}({', '.join(['ptr %host', *parameters])}) #1 {{",
        f"%slots.p = {field('slots')}",
        "%slots = load ptr, ptr %slots.p",
        f"%status.p = {field('status')}",
        "%status.before = load volatile i64, ptr %status.p",
    ]
    shared = range(max(len(kind.parameters), len(kind.returns)))
    for i in shared:
        lines.append(f"%k{i} = getelementptr i8, ptr %slots, i64 {i * SLOT_BYTES}")
        lines.append(f"%before{i} = load <2 x i64>, ptr %k{i}, align 8")
    for i, code in enumerate(kind.parameters):
        lines.append(f"%p{i} = getelementptr i8, ptr %slots, i64 {i * SLOT_BYTES}")
        lines.append(f"store {IR_TYPE[code]} %a{i}, ptr %p{i}, align 8")
    lines += [
        "%act = load ptr, ptr %host",
        f"%in_host.p = getelementptr i8, ptr %act, i64 {Activation.offset('in_host')}",
        "%in_host = load i64, ptr %in_host.p",
        "%deeper = add i64 %in_host, 1",
        "store volatile i64 %deeper, ptr %in_host.p",
        f"store volatile i64 {STATUS_HOST_FAILED}, ptr %status.p",
        f"%callback.p = {field('callback')}",
        "%callback = load ptr, ptr %callback.p",
        "call void %callback()",
        "store volatile i64 %in_host, ptr %in_host.p",
        "%status = load volatile i64, ptr %status.p",
    ]
    for i, code in enumerate(kind.returns):
        lines.append(f"%r{i} = load {IR_TYPE[code]}, ptr %k{i}, align 8")
    lines += [f"store <2 x i64> %before{i}, ptr %k{i}, align 8" for i in shared]
    lines += [
        "store volatile i64 %status.before, ptr %status.p",
        f"%returned.p = {field('returned')}",
        "%returned = load ptr, ptr %returned.p",
        "call void %returned(ptr %act, i64 %status)",
    ]
    if len(kind.returns) == 1:
        ir_type = IR_TYPE[kind.returns[0]]
        lines.append(f"ret {ir_type} %r0")
    else:
        if kind.returns:
            lines += [
                f"%results.p = getelementptr i8, ptr %act, i64 {Activation.offset('results')}",
                "%results = load ptr, ptr %results.p",
            ]
            for i, code in enumerate(kind.returns):
                lines += [
                    f"%s{i} = getelementptr i8, ptr %results, i64 {i * SLOT_BYTES}",
                    f"store {IR_TYPE[code]} %r{i}, ptr %s{i}, align 8",
                ]
        lines.append("ret void")
    return "\n".join([*lines, "}\n"])

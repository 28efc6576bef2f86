"""Memory instructions beside plain loads and stores (specification 4.4.7)."""

from __future__ import annotations

from ..native.layout import MemoryRecord
from . import immediates
from .function import FunctionTranslator
from .rules import emits


def _record(t: FunctionTranslator, memory: int) -> str:
    return t.context_pointer(t.layout.memory_record(memory))


def transfer(t: FunctionTranslator, helper: str, target: str, source: str) -> None:
    """`copy` and `init` of memories and tables: from a position of the source (a record or a
    segment) to one of the target, the support routine checks and copies."""
    t.checkpoint()
    count, start, at = (t.widen(t.stack.pop()) for _ in range(3))
    t.out.append(
        f"call void {t.helper(helper)}(ptr {t.activation()}, ptr {target}, i64 {at}, "
        f"ptr {source}, i64 {start}, i64 {count})"
    )


@emits("memory.size")
def memory_size(t: FunctionTranslator, code: int, pos: int) -> int:
    memory, pos = immediates.unsigned(t.ast.data, pos)
    slot = t.field(_record(t, memory), MemoryRecord.offset("bytes"))
    size = t.value(f"load volatile i64, ptr {slot}")
    pages = t.value(f"lshr i64 {size}, 16")
    t.stack.append(t.value(f"trunc i64 {pages} to i32"))
    return pos


@emits("memory.grow")
def memory_grow(t: FunctionTranslator, code: int, pos: int) -> int:
    memory, pos = immediates.unsigned(t.ast.data, pos)
    t.account()
    pages = t.widen(t.stack.pop())
    helper = t.helper("memory_grow")
    old = t.value(f"call i64 {helper}(ptr {_record(t, memory)}, i64 {pages})")
    t.stack.append(t.value(f"trunc i64 {old} to i32"))
    return pos


@emits("memory.fill")
def memory_fill(t: FunctionTranslator, code: int, pos: int) -> int:
    memory, pos = immediates.unsigned(t.ast.data, pos)
    t.checkpoint()
    count, value, at = t.widen(t.stack.pop()), t.stack.pop(), t.widen(t.stack.pop())
    helper = t.helper("memory_fill")
    t.out.append(
        f"call void {helper}(ptr {t.activation()}, ptr {_record(t, memory)}, "
        f"i64 {at}, i32 {value}, i64 {count})"
    )
    return pos


@emits("memory.copy")
def memory_copy(t: FunctionTranslator, code: int, pos: int) -> int:
    target, pos = immediates.unsigned(t.ast.data, pos)
    source, pos = immediates.unsigned(t.ast.data, pos)
    transfer(t, "memory_copy", _record(t, target), _record(t, source))
    return pos


@emits("memory.init")
def memory_init(t: FunctionTranslator, code: int, pos: int) -> int:
    segment, pos = immediates.unsigned(t.ast.data, pos)
    memory, pos = immediates.unsigned(t.ast.data, pos)
    place = t.context_address(t.layout.data_segment(segment))
    transfer(t, "memory_init", _record(t, memory), place)
    return pos


@emits("data.drop")
def data_drop(t: FunctionTranslator, code: int, pos: int) -> int:
    segment, pos = immediates.unsigned(t.ast.data, pos)
    t.account()
    length = t.context_address(t.layout.data_segment(segment) + 8)
    t.out.append(f"store volatile i64 0, ptr {length}")
    return pos

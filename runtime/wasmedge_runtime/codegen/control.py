"""Control instructions: blocks, branches, the function's end (specification 4.4.8)."""

from __future__ import annotations

from typing import Final

from ..errors import ErrCode
from . import immediates
from .function import Frame, FunctionTranslator
from .rules import IR_TYPE, emits

_FUNCTION: Final = 0
_BLOCK: Final = 0x02
_LOOP: Final = 0x03
_IF: Final = 0x04
_ELSE: Final = 0x05


def _block_type(t: FunctionTranslator, pos: int) -> tuple[tuple[int, ...], tuple[int, ...], int]:
    number, pos = immediates.signed(t.ast.data, pos)
    if number >= 0:
        kind = t.ast.types[number]
        return tuple(map(int, kind.parameters)), tuple(map(int, kind.returns)), pos
    return (), () if number == -0x40 else (number & 0x7F,), pos


def _take(t: FunctionTranslator, count: int) -> list[str]:
    """Pop `count` operands, in their order."""
    if not count:
        return []
    operands = t.stack[-count:]
    del t.stack[-count:]
    return operands


@emits("unreachable")
def unreachable(t: FunctionTranslator, code: int, pos: int) -> int:
    t.checkpoint()
    t.out.append(f"call void @trap(ptr %c, i32 {int(ErrCode.Unreachable)})")
    t.out.append("unreachable")
    return _dead(t, pos)


@emits("nop")
def nop(t: FunctionTranslator, code: int, pos: int) -> int:
    return pos


@emits("block")
def block(t: FunctionTranslator, code: int, pos: int) -> int:
    params, results, pos = _block_type(t, pos)
    t.frames.append(Frame(_BLOCK, t.fresh_label(), params, results, len(t.stack) - len(params)))
    return pos


@emits("loop")
def loop(t: FunctionTranslator, code: int, pos: int) -> int:
    params, results, pos = _block_type(t, pos)
    t.account()
    label = t.fresh_label()
    operands = _take(t, len(params))
    frame = Frame(_LOOP, label, params, results, len(t.stack))
    frame.arrivals.append((operands, t.block))
    t.out.append(f"br label %{label}")
    t.start_block(label)
    frame.phis = len(t.out)
    t.out.append("")  # completed at the end, when all branches are known
    t.stack += [f"%{label}.{i}" for i in range(len(params))]
    t.frames.append(frame)
    if not t.guarded:
        t.poll()
    return pos


@emits("if")
def if_(t: FunctionTranslator, code: int, pos: int) -> int:
    params, results, pos = _block_type(t, pos)
    condition = t.condition(t.stack.pop())
    t.account()
    frame = Frame(_IF, t.fresh_label(), params, results, len(t.stack) - len(params))
    then, otherwise = t.fresh_label(), t.fresh_label()
    frame.alternative = (otherwise, t.stack[frame.height :])
    t.out.append(f"br i1 {condition}, label %{then}, label %{otherwise}")
    t.start_block(then)
    t.frames.append(frame)
    return pos


@emits("else")
def else_(t: FunctionTranslator, code: int, pos: int) -> int:
    frame = t.frames[-1]
    t.account()
    _arrive(t, frame, _take(t, len(frame.results)))
    t.out.append(f"br label %{frame.label}")
    _start_alternative(t, frame)
    return pos


def _start_alternative(t: FunctionTranslator, frame: Frame) -> None:
    label, operands = frame.alternative
    frame.kind = _ELSE
    del t.stack[frame.height :]
    t.stack += operands
    t.start_block(label)
    t.run.clear()
    if t.metering:
        t.run.append(_ELSE)


def _arrive(t: FunctionTranslator, frame: Frame, operands: list[str]) -> None:
    if len(operands) > 1:
        t.unit.move(len(operands))
    frame.arrivals.append((operands, t.block))


@emits("end")
def end(t: FunctionTranslator, code: int, pos: int) -> int:
    frame = t.frames[-1]
    if frame.kind == _FUNCTION:
        t.account()
        _return(t, _take(t, len(frame.results)))
        t.frames.pop()
        return pos
    if frame.kind in (_BLOCK, _LOOP) and not (frame.kind == _BLOCK and frame.arrivals):
        # Only control falling through gets here: the basic block goes on.
        t.frames.pop()
        _complete_loop(t, frame)
        return pos
    t.account()
    _arrive(t, frame, _take(t, len(frame.results)))
    t.out.append(f"br label %{frame.label}")
    _finish(t, frame)
    return pos


def _complete_loop(t: FunctionTranslator, frame: Frame) -> None:
    if frame.kind == _LOOP:
        t.out[frame.phis] = _phis(frame, [f"%{frame.label}.{i}" for i in range(len(frame.params))])


def _phis(frame: Frame, names: list[str]) -> str:
    lines = []
    for i, (name, code) in enumerate(zip(names, frame.branch_types, strict=True)):
        arrivals = ", ".join(f"[ {values[i]}, %{block} ]" for values, block in frame.arrivals)
        lines.append(f"{name} = phi {IR_TYPE[code]} {arrivals}")
    return "\n".join(lines)


def _finish(t: FunctionTranslator, frame: Frame) -> bool:
    """Close the innermost frame after its last instruction; whether code behind it is reachable."""
    if frame.kind == _IF:
        # No else: its place is the end, which counts on this way too.
        label, operands = frame.alternative
        t.start_block(label)
        if t.metering:
            t.run[:] = [0x0B]
            t.account()
        frame.arrivals.append((operands, t.block))
        t.out.append(f"br label %{frame.label}")
    t.frames.pop()
    del t.stack[frame.height :]
    if frame.kind == _LOOP:
        _complete_loop(t, frame)
        return False
    if not frame.arrivals:
        return False
    t.start_block(frame.label)
    names = [f"%{frame.label}.{i}" for i in range(len(frame.results))]
    if names:
        t.out.append(_phis(frame, names))
    t.stack += names
    return True


def _dead(t: FunctionTranslator, pos: int) -> int:
    """After an instruction that does not fall through: go on where code is reachable again."""
    t.run.clear()
    while True:
        pos = t.skip_unreachable(pos)
        code = t.ast.data[pos]
        pos += 1
        frame = t.frames[-1]
        if code == _ELSE:
            _start_alternative(t, frame)
            return pos
        if frame.kind == _FUNCTION:
            t.frames.pop()
            return pos
        if _finish(t, frame):
            return pos


def _return(t: FunctionTranslator, operands: list[str]) -> None:
    if t.metering:
        t.publish()
    types = t.type.returns
    if len(operands) == 1:
        t.out.append(f"ret {IR_TYPE[types[0]]} {operands[0]}")
        return
    if operands:
        t.unit.move(len(operands))
        slots = t.value(f"load ptr, ptr {t.activation_field('results')}")
        for i, (operand, code) in enumerate(zip(operands, types, strict=True)):
            t.out.append(f"store {IR_TYPE[code]} {operand}, ptr {t.field(slots, i * 16)}, align 8")
    t.out.append("ret void")


def _branch_label(t: FunctionTranslator, depth: int) -> Frame:
    return t.frames[-1 - depth]


def _operands_for(t: FunctionTranslator, frame: Frame) -> list[str]:
    count = len(frame.branch_types)
    return t.stack[-count:] if count else []


@emits("br")
def br(t: FunctionTranslator, code: int, pos: int) -> int:
    depth, pos = immediates.unsigned(t.ast.data, pos)
    t.account()
    _jump(t, _branch_label(t, depth))
    return _dead(t, pos)


def _jump(t: FunctionTranslator, frame: Frame) -> None:
    """An unconditional branch with the operands that the label takes."""
    operands = _operands_for(t, frame)
    if frame.kind == _FUNCTION:
        _return(t, operands)
        return
    _arrive(t, frame, operands)
    t.out.append(f"br label %{frame.label}")


@emits("return")
def return_(t: FunctionTranslator, code: int, pos: int) -> int:
    t.account()
    _jump(t, t.frames[0])
    return _dead(t, pos)


@emits("br_if")
def br_if(t: FunctionTranslator, code: int, pos: int) -> int:
    depth, pos = immediates.unsigned(t.ast.data, pos)
    condition = t.condition(t.stack.pop())
    t.account()
    frame = _branch_label(t, depth)
    onward = t.fresh_label()
    if frame.kind == _FUNCTION:
        leave = t.fresh_label()
        t.out.append(f"br i1 {condition}, label %{leave}, label %{onward}")
        t.out.append(leave + ":")
        _return(t, _operands_for(t, frame))
    else:
        _arrive(t, frame, _operands_for(t, frame))
        t.out.append(f"br i1 {condition}, label %{frame.label}, label %{onward}")
    # The block before is the only way here, so what is known of locals stays true.
    t.out.append(onward + ":")
    t.block = onward
    return pos


@emits("br_table")
def br_table(t: FunctionTranslator, code: int, pos: int) -> int:
    data = t.ast.data
    count, pos = immediates.unsigned(data, pos)
    depths = []
    for _ in range(count + 1):
        depth, pos = immediates.unsigned(data, pos)
        depths.append(depth)
    selector = t.stack.pop()
    t.account()
    # One block per target frame, so that a target appears once in the phis of its label.
    labels = {depth: t.fresh_label() for depth in dict.fromkeys(depths)}
    cases = " ".join(f"i32 {i}, label %{labels[d]}" for i, d in enumerate(depths[:-1]))
    t.out.append(f"switch i32 {selector}, label %{labels[depths[-1]]} [ {cases} ]")
    for depth, label in labels.items():
        t.out.append(label + ":")
        t.block = label
        _jump(t, _branch_label(t, depth))
    return _dead(t, pos)


@emits("drop")
def drop(t: FunctionTranslator, code: int, pos: int) -> int:
    t.stack.pop()
    return pos


@emits("select")
def select(t: FunctionTranslator, code: int, pos: int) -> int:
    if code == 0x1B:
        value_type = t.select_types[pos - 1]
    else:
        _, pos = immediates.unsigned(t.ast.data, pos)
        value_type, pos = immediates.unsigned(t.ast.data, pos)
    condition = t.condition(t.stack.pop())
    second, first = t.stack.pop(), t.stack.pop()
    ir_type = IR_TYPE[value_type]
    t.stack.append(t.value(f"select i1 {condition}, {ir_type} {first}, {ir_type} {second}"))
    return pos

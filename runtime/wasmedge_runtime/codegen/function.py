"""One function body from wasm to LLVM IR text: the loop over its instructions, and its frame.

The operand stack holds IR operands (`%12`, `7`); each emitted line that defines a value takes its
number from the length of the output, so that no counter has to be kept. LLVM reads such numbers,
which only have to grow, much faster than names. Locals live in stack slots, which LLVM promotes;
within a basic block their values are remembered instead of loaded again.

Metering (counting, gas) works on runs of instructions: a run ends before anything that can trap,
have an effect or leave the basic block, and is accounted for as a whole just before its last
instruction. Nothing in front of that instruction can be observed from outside.
"""

from __future__ import annotations

import array
from typing import TYPE_CHECKING, Final

from ..errors import ErrCode
from ..native.layout import STATUS_STACK_OVERFLOW, Activation, ContextHeader
from . import immediates
from .rules import (
    BINARY,
    CALL,
    COMPARE,
    EMIT,
    I32_CONST,
    IR_TYPE,
    LOAD,
    LOCAL_GET,
    LOCAL_SET,
    LOCAL_TEE,
    SEQUENCE,
    STORE,
    UNARY,
)

if TYPE_CHECKING:
    from .unit import UnitTranslator

_FUNCTION: Final = 0
_END: Final = 0x0B
_ELSE: Final = 0x05
_TAKES_CONDITION: Final = (0x04, 0x0D, 0x1B, 0x1C)
"""if, br_if, select: a comparison in front of one of these is needed as an i1 only."""
_HUGE: Final = 32_000
"""Lines of IR beyond which a function is not optimised. LLVM takes more than proportional time for
large functions (40 s were seen for one of 60 KB, made for the purpose); the largest of real
programs, interpreters' main loops, stay below."""
_INLINED_LINES: Final = 10  # what a call of a function of the lowering amounts to

_LARGE_FRAME: Final = 1 << 14
"""A leaf whose frame takes less than this needs no stack check: the headroom covers it, which has
four times as much. A larger frame can end just above the end of the stack, where the call that
traps would fault in its turn: its function looks whether there is something below."""
_VALUE_BYTES: Final = 16
"""What a value can add to a frame: without optimisation, LLVM gives each one that is used in
another basic block a place of its own."""
_EDGE_BYTES: Final = 4096
"""How far below a large frame to look: no more than a guard page, or it could be beyond that."""


class Frame:
    """A control frame: a block, loop, if, else arm, or the function itself."""

    __slots__ = ("alternative", "arrivals", "height", "kind", "label", "params", "phis", "results")

    def __init__(
        self, kind: int, label: str, params: tuple[int, ...], results: tuple[int, ...], height: int
    ) -> None:
        self.kind = kind  # the opcode; 0 for the function
        self.label = label  # where a branch goes
        self.params = params
        self.results = results
        self.height = height  # of the operand stack below the parameters
        self.arrivals: list[tuple[list[str], str]] = []  # values and block of each branch
        self.phis = -1  # of a loop: the output line to complete at its end
        self.alternative: tuple[str, list[str]] = ("", [])  # of an if: else label, parameters

    @property
    def branch_types(self) -> tuple[int, ...]:
        return self.params if self.kind == 0x03 else self.results


class FunctionTranslator:
    """Translates one function; emitters of the instruction families work on its state."""

    def __init__(self, unit: UnitTranslator, index: int) -> None:
        self.unit = unit
        self.ast = unit.ast
        self.layout = unit.layout
        self.index = index
        self.own_index = index - unit.ast.imported_functions
        self.body = unit.ast.bodies[self.own_index]
        self.type = unit.ast.function_types[index]
        self.select_types = unit.ast.select_types[self.own_index]
        self.guarded = unit.variant.guarded
        self.metering = unit.variant.counting or unit.variant.gas

        self.out: list[str] = []
        self.stack: list[str] = []
        self.frames: list[Frame] = []
        self.prologue: list[str] = []  # of the entry block, in front of everything
        self.booleans: dict[str, str] = {}  # an i32 that came from an i1, or an i1 -> that i1
        self.known: dict[int, str] = {}  # values of locals in this basic block
        self.wide: dict[str, str] = {}  # an i32 -> the same as an i64, in this basic block
        self.run: list[int] = []  # opcodes not yet accounted for
        self.block = "body"
        self.has_calls = False
        self.inlined = 0
        self.traps: set[int] = set()
        self._prepared: set[str] = set()
        self._labels = 0
        self._memory = ""  # base address of memory 0, when it has been asked for

        self.local_types: list[str] = [IR_TYPE[t] for t in self.type.parameters]
        for count, code in self.body.locals:
            self.local_types += [IR_TYPE[code]] * count
        # The value with the number of a local is its stack slot.
        self.out += [f"%{i} = alloca {ir_type}" for i, ir_type in enumerate(self.local_types)]

    # Small steps that emitters share.

    def value(self, instruction: str) -> str:
        """Emit an instruction and name its result."""
        name = f"%{len(self.out)}"
        self.out.append(f"{name} = {instruction}")
        return name

    def fresh_label(self) -> str:
        number = self._labels
        self._labels = number + 1
        return f"b{number}"

    def start_block(self, label: str) -> None:
        self.out.append(label + ":")
        self.block = label
        self.known.clear()
        self.wide.clear()

    def prepare(self, name: str, instruction: str) -> str:
        """A value that the entry block computes once, when anything in the body asks for it."""
        if name not in self._prepared:
            self._prepared.add(name)
            self.prologue.append(f"{name} = {instruction}")
        return name

    def context_pointer(self, offset: int) -> str:
        """A pointer of the vmctx that never changes during the life of the instance."""
        name = f"%c{offset}"
        if name not in self._prepared:
            self.prepare(name, f"load ptr, ptr {self.context_address(offset)}, !invariant.load !0")
        return name

    def context_address(self, offset: int) -> str:
        return self.prepare(f"%c{offset}.p", f"getelementptr i8, ptr %c, i64 {offset}")

    def activation(self) -> str:
        return self.prepare("%act", "load ptr, ptr %c, !invariant.load !0")

    def activation_field(self, field: str) -> str:
        offset = Activation.offset(field)
        return self.prepare(
            f"%act.{field}", f"getelementptr i8, ptr {self.activation()}, i64 {offset}"
        )

    def field(self, pointer: str, offset: int) -> str:
        """The address of a field of a record."""
        return self.value(f"getelementptr i8, ptr {pointer}, i64 {offset}") if offset else pointer

    def helper(self, name: str) -> str:
        """The address of a support routine."""
        table = self.context_pointer(8)
        offset = self.unit.helper_offset(name)
        slot = self.prepare(f"%h.{name}.p", f"getelementptr i8, ptr {table}, i64 {offset}")
        return self.prepare(f"%h.{name}", f"load ptr, ptr {slot}, !invariant.load !0")

    def widen(self, operand: str) -> str:
        """An i32 operand as an unsigned i64."""
        if operand[0] != "%":
            return str(int(operand) & 0xFFFFFFFF)
        wide = self.wide.get(operand)
        if wide is None:
            wide = self.wide[operand] = self.value(f"zext i32 {operand} to i64")
        return wide

    def condition(self, operand: str) -> str:
        """An i32 operand as an i1."""
        known = self.booleans.get(operand)
        return known if known is not None else self.value(f"icmp ne i32 {operand}, 0")

    def trap_if(self, condition: str, code: int) -> None:
        """Trap when an i1 holds. Traps of a kind share a block at the end of the function."""
        self.traps.add(code)
        label = self.fresh_label()
        self.out.append(f"br i1 {condition}, label %trap.{code}, label %{label}, !prof !2")
        self.out.append(label + ":")
        self.block = label

    def poll(self) -> None:
        """Where signals may not be had, functions and loops look for an interruption themselves."""
        request = self.value(f"load volatile i64, ptr {self.activation_field('interrupt_request')}")
        call = self.value(f"load volatile i64, ptr {self.activation_field('call_id')}")
        self.trap_if(self.value(f"icmp eq i64 {request}, {call}"), int(ErrCode.Interrupted))

    # Metering.

    def account(self) -> None:
        """Account for the pending run: its last instruction is about to be executed."""
        run = self.run
        if not run:
            return
        variant = self.unit.variant
        if variant.gas:
            number = len(self.unit.runs[-1])
            self.unit.runs[-1].append(array.array("H", run).tobytes())
            slot = self.value(f"getelementptr i64, ptr {self.costs()}, i64 {number}")
            cost = self.value(f"load i64, ptr {slot}")
            before = self.value("load i64, ptr %gas")
            after = self.value(f"call i64 @llvm.uadd.sat.i64(i64 {before}, i64 {cost})")
            over = self.value(f"icmp ugt i64 {after}, %gas.limit")
            stop, go = self.fresh_label(), self.fresh_label()
            self.out.append(f"br i1 {over}, label %{stop}, label %{go}, !prof !2")
            self.out.append(f"{stop}:")
            self.publish()
            self.out.append(f"store ptr %c, ptr {self.activation_field('gas_context')}")
            stopper = self.helper("stop_out_of_gas")
            self.out.append(
                f"call void {stopper}(ptr {self.activation()}, i64 {self.own_index}, i64 {number})"
            )
            self.out.append("unreachable")
            self.out.append(f"{go}:")
            self.block = go
            self.out.append(f"store i64 {after}, ptr %gas")
        if variant.counting:
            before = self.value("load i64, ptr %count")
            after = self.value(f"add i64 {before}, {len(run)}")
            self.out.append(f"store i64 {after}, ptr %count")
        run.clear()

    def costs(self) -> str:
        """The array of the gas of each run of this function."""
        table = self.context_pointer(ContextHeader.offset("costs"))
        slot = self.prepare("%costs.p", f"getelementptr ptr, ptr {table}, i64 {self.own_index}")
        return self.prepare("%costs", f"load ptr, ptr {slot}, !invariant.load !0")

    def publish(self) -> None:
        """Write counters to the activation, where a trap, a callee or the caller finds them."""
        variant = self.unit.variant
        if variant.counting:
            count = self.value("load i64, ptr %count")
            self.out.append(
                f"store volatile i64 {count}, ptr {self.activation_field('instructions')}"
            )
        if variant.gas:
            gas = self.value("load i64, ptr %gas")
            self.out.append(f"store volatile i64 {gas}, ptr {self.activation_field('gas')}")

    def refetch(self) -> None:
        """Read counters back after a call."""
        variant = self.unit.variant
        if variant.counting:
            count = self.value(f"load volatile i64, ptr {self.activation_field('instructions')}")
            self.out.append(f"store i64 {count}, ptr %count")
        if variant.gas:
            gas = self.value(f"load volatile i64, ptr {self.activation_field('gas')}")
            self.out.append(f"store i64 {gas}, ptr %gas")

    def checkpoint(self) -> None:
        """What comes next can trap: counters have to be exact."""
        if self.metering:
            self.account()
            self.publish()

    # Memory accesses, the one irregular thing that is frequent enough for the loop.

    def memory_address(self, operand: str, offset: int, size: int) -> str:
        """A pointer for an access of `size` bytes; the checked variant tests it here."""
        out = self.out
        base = self._memory
        if not base:
            base = self._memory = self.context_pointer(self.layout.memory_base(0))
        if operand[0] != "%":
            address, offset = str((int(operand) & 0xFFFFFFFF) + offset), 0
        else:
            known = self.wide.get(operand)
            if known is None:
                known = self.wide[operand] = f"%{len(out)}"
                out.append(f"{known} = zext i32 {operand} to i64")
            address = known
        if self.guarded:
            pointer = f"%{len(out)}"
            if offset:  # added to the address
                out.append(
                    f"{pointer} = getelementptr [1 x i8], ptr {base}, i64 {address}, i64 {offset}"
                )
            else:
                out.append(f"{pointer} = getelementptr i8, ptr {base}, i64 {address}")
            return pointer
        if offset:
            address = self.value(f"add i64 {address}, {offset}")
        end = self.value(f"add i64 {address}, {size}")
        record = self.context_pointer(self.layout.memory_record(0))
        slot = self.field(record, 8)
        limit = self.value(f"load volatile i64, ptr {slot}")
        self.trap_if(self.value(f"icmp ugt i64 {end}, {limit}"), int(ErrCode.MemoryOutOfBounds))
        return self.value(f"getelementptr i8, ptr {base}, i64 {address}")

    # The loop.

    def translate(self) -> str:
        """The text of the function."""
        results = tuple(map(int, self.type.returns))
        self.frames.append(Frame(_FUNCTION, "return", (), results, 0))
        if not self.guarded:
            self.poll()
        self._translate_body()
        return self._assemble()

    def _translate_body(self) -> None:
        data = self.ast.data
        pos, end = self.body.code, self.body.end
        out, stack, run = self.out, self.stack, self.run
        known, booleans, local_types = self.known, self.booleans, self.local_types
        metering = self.metering
        rules, prefixed = self.unit.rules.plain, self.unit.rules.prefixed
        while pos < end:
            code = data[pos]
            pos += 1
            rule = rules[code]
            if rule is None:
                code, pos = immediates.opcode(data, pos - 1)
                rule = prefixed[code]
            kind, a, b, c = rule
            if metering:
                run.append(code)
            if kind == LOCAL_GET:
                index = data[pos]
                pos += 1
                if index >= 0x80:
                    index, pos = immediates.unsigned(data, pos - 1)
                operand = known.get(index)
                if operand is None:
                    operand = f"%{len(out)}"
                    out.append(f"{operand} = load {local_types[index]}, ptr %{index}")
                    known[index] = operand
                stack.append(operand)
            elif kind == EMIT:
                pos = a(self, code, pos)
            elif kind == I32_CONST:
                number = data[pos]
                pos += 1
                if number >= 0x80:
                    number, pos = immediates.signed(data, pos - 1)
                elif number & 0x40:
                    number -= 0x80
                stack.append(str(number))
            elif kind == BINARY:
                operand = f"%{len(out)}"
                second = stack.pop()
                out.append(f"{operand} = {a}{stack[-1]}, {second}")
                stack[-1] = operand
            elif kind == LOAD:
                offset = data[pos + 1]
                if data[pos] < 0x80 and offset < 0x80:
                    pos += 2
                else:
                    pos, offset = self.memarg(data, pos)
                if metering:
                    self.checkpoint()
                pointer = self.memory_address(stack[-1], offset, c)
                operand = f"%{len(out)}"
                out.append(f"{operand} = load volatile {a}, ptr {pointer}, align 1")
                if b is not None:
                    narrow, operand = operand, f"%{len(out)}"
                    out.append(f"{operand} = {b % narrow}")
                stack[-1] = operand
            elif kind in (LOCAL_SET, LOCAL_TEE):
                index = data[pos]
                pos += 1
                if index >= 0x80:
                    index, pos = immediates.unsigned(data, pos - 1)
                operand = stack.pop() if kind == LOCAL_SET else stack[-1]
                out.append(f"store {local_types[index]} {operand}, ptr %{index}")
                known[index] = operand
            elif kind == COMPARE:
                second = stack.pop()
                boolean = f"%{len(out)}"
                out.append(f"{boolean} = {a}{stack[-1]}, {second}")
                operand = boolean
                if data[pos] not in _TAKES_CONDITION:
                    operand = f"%{len(out)}"
                    out.append(f"{operand} = zext i1 {boolean} to i32")
                booleans[operand] = boolean
                stack[-1] = operand
            elif kind == STORE:
                offset = data[pos + 1]
                if data[pos] < 0x80 and offset < 0x80:
                    pos += 2
                else:
                    pos, offset = self.memarg(data, pos)
                if metering:
                    self.checkpoint()
                operand = stack.pop()
                pointer = self.memory_address(stack.pop(), offset, c)
                if b is not None:
                    operand = self.value(b % operand)
                out.append(f"store volatile {a} {operand}, ptr {pointer}, align 1")
            elif kind == UNARY:
                operand = f"%{len(out)}"
                out.append(f"{operand} = {a}{stack[-1]}{b}")
                stack[-1] = operand
            elif kind == SEQUENCE:
                operand = f"%{len(out)}"
                operands = stack[-b:]
                del stack[-b:]
                out.append(a.format(*operands, r=operand, t=f"%t{len(out)}"))
                stack.append(operand)
            elif kind == CALL:
                if metering:
                    self.checkpoint()
                operands = stack[len(stack) - len(b) :]
                del stack[len(stack) - len(b) :]
                operand = f"%{len(out)}"
                out.append(f"{operand} = {a}{', '.join(map(str.__add__, b, operands))})")
                self.unit.used.add(c)
                self.inlined += 1
                stack.append(operand)
            else:  # TEMPLATE
                operands = stack[-b:]
                del stack[-b:]
                operand = f"%{len(out)}"
                out.append(f"{operand} = {a.format(*operands)}")
                if c:
                    boolean = operand
                    if data[pos] not in _TAKES_CONDITION:
                        operand = f"%{len(out)}"
                        out.append(f"{operand} = zext i1 {boolean} to i32")
                    booleans[operand] = boolean
                stack.append(operand)

    @staticmethod
    def memarg(data: bytes, pos: int) -> tuple[int, int]:
        """Position behind a memory immediate, and its offset; the alignment is only a hint."""
        while data[pos] >= 0x80:
            pos += 1
        pos += 1
        offset = data[pos]
        pos += 1
        if offset >= 0x80:
            offset, pos = immediates.unsigned(data, pos - 1)
        return pos, offset

    def skip_unreachable(self, pos: int) -> int:
        """The position of the `else` or `end` that ends unreachable code."""
        data = self.ast.data
        depth = 0
        while True:
            at = pos
            code, pos = immediates.opcode(data, pos)
            if code in (0x02, 0x03, 0x04):
                depth += 1
            elif code == _END:
                if depth == 0:
                    return at
                depth -= 1
            elif code == _ELSE and depth == 0:
                return at
            pos = immediates.skip(data, pos, code)

    # The frame of the function.

    @property
    def result_type(self) -> str:
        """No result or one is returned by value; more go through the activation's slots."""
        returns = self.type.returns
        return IR_TYPE[returns[0]] if len(returns) == 1 else "void"

    def _assemble(self) -> str:
        parameters = [f"{IR_TYPE[t]} %p{i}" for i, t in enumerate(self.type.parameters)]
        size = len(self.out) + _INLINED_LINES * self.inlined
        self.unit.largest_function = max(self.unit.largest_function, size)
        attributes = "#3" if size > _HUGE else "#0"
        lines = [
            f"define hidden {self.result_type} @f{self.index}"
            f'({", ".join(["ptr %c", *parameters])}) {attributes} section ".guest" {{',
            "entry:",
        ]
        count = len(self.local_types)
        lines += self.out[:count]
        body = "\n".join(self.out[count:])
        values = body.count(" = ") + _INLINED_LINES * self.inlined + len(self.prologue)
        frame = _VALUE_BYTES * values
        frame += sum(16 if ir_type == "<2 x i64>" else 8 for ir_type in self.local_types)
        variant = self.unit.variant
        if variant.counting:
            field = self.activation_field("instructions")
            self.prologue.append(f"%count.0 = load volatile i64, ptr {field}")
            self.prologue.append("%count = alloca i64")
            self.prologue.append("store i64 %count.0, ptr %count")
        if variant.gas:
            field = self.activation_field("gas")
            self.prologue.append(f"%gas.0 = load volatile i64, ptr {field}")
            self.prologue.append("%gas = alloca i64")
            self.prologue.append("store i64 %gas.0, ptr %gas")
            limit = self.activation_field("gas_limit")
            self.prologue.append(f"%gas.limit = load i64, ptr {limit}")
        checks_stack = self.has_calls or frame > _LARGE_FRAME
        if checks_stack:
            limit = self.activation_field("stack_limit")
            self.traps.add(STATUS_STACK_OVERFLOW)
        lines += self.prologue
        if checks_stack:
            lines.append("%stack = call i64 @llvm.read_register.i64(metadata !1)")
        if frame > _LARGE_FRAME:
            lines += [
                f"%stack.edge = sub i64 %stack, {_EDGE_BYTES}",
                "%stack.edge.p = inttoptr i64 %stack.edge to ptr",
                "%stack.probe = load volatile i8, ptr %stack.edge.p",
            ]
        lines += self._initial_locals()
        if checks_stack:
            lines += [
                f"%stack.limit = load i64, ptr {limit}",
                "%stack.low = icmp ult i64 %stack, %stack.limit",
                f"br i1 %stack.low, label %trap.{STATUS_STACK_OVERFLOW}, label %body, !prof !2",
            ]
        else:
            lines.append("br label %body")
        lines.append("body:")
        lines.append(body)
        for code in sorted(self.traps):
            lines += [f"trap.{code}:", f"call void @trap(ptr %c, i32 {code})", "unreachable"]
        lines.append("}\n")
        return "\n".join(lines)

    def _initial_locals(self) -> list[str]:
        lines = []
        parameters = len(self.type.parameters)
        for index, ir_type in enumerate(self.local_types):
            if index < parameters:
                initial = f"%p{index}"
            elif ir_type in ("float", "double"):
                # A zero that LLVM knew could be dropped from arithmetic: see `numeric`.
                initial = f"%zero.{ir_type}"
            else:
                initial = "zeroinitializer" if ir_type[0] == "<" else "0"
            lines.append(f"store {ir_type} {initial}, ptr %{index}")
        for ir_type in ("double", "float"):
            if ir_type in self.local_types[parameters:]:
                lines.insert(0, f"%zero.{ir_type} = {self.unit.opaque_zero(ir_type)}")
        return lines

"""Function bodies: one loop over their bytes, driven by the table of instructions.

The algorithm is the specification's (appendix 7.3), which `stack` spells out. The loop here does
the frequent instructions itself as long as everything is as it should be: operands of the expected
types, immediates of one byte. Whatever falls through a branch goes to the instruction's rule in
`rules`, which knows unreachable code, long immediates and what to say about mistakes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from wasmedge_runtime import limits
from wasmedge_runtime.errors import ErrCode
from wasmedge_runtime.module import AST
from wasmedge_runtime.validate.context import Context
from wasmedge_runtime.validate.dispatch import (
    ALIGNMENT,
    BINARY,
    BLOCK,
    BR,
    BR_IF,
    END,
    FIRST_FC,
    FIRST_FD,
    FLOAT_CONST,
    GLOBAL_GET,
    I32_CONST,
    I64_CONST,
    IMMEDIATE_SIZE,
    LOAD,
    LOCAL_GET,
    LOCAL_SET,
    LOCAL_TEE,
    OPERAND,
    PREFIX_FC,
    PREFIX_FD,
    RESULT,
    STORE,
    UNARY,
    kinds,
)
from wasmedge_runtime.validate.immediates import EMPTY_BLOCK_TYPE
from wasmedge_runtime.validate.rules import Rules, rules
from wasmedge_runtime.validate.stack import FLOOR, CtrlFrame

if TYPE_CHECKING:
    from mypy_extensions import i64

# As literals, mypyc compiles them in.
I32: Final = 0x7F
I64: Final = 0x7E

_NO_TYPES: list[int] = []


class FunctionValidator(Rules):
    """Validates the bodies of one module.

    `validate` raises LoadError where a body is malformed and ValidationError where it breaks a
    rule; then the validator is of no further use.
    """

    def __init__(self, ast: AST, context: Context) -> None:
        super().__init__(ast, context)
        self._kinds = kinds(context.proposals, context.has_memory)
        self._rules = rules(context.proposals, context.has_memory)

    def validate(self, index: int) -> dict[int, int]:
        """Validate body `index`.

        Returns:
            The types that each `select` without a type chooses between, by the offset of its
            opcode in the file.
        """
        body = self.ast.bodies[index]
        params, results = self.context.functions[self.ast.imported_functions + index]
        self.body = body
        self.base = body.code
        self.code = list(self.ast.data[body.code : body.end])
        self.select_types = {}
        self.locals = params.copy()
        for count, val_type in body.locals:
            self.locals += [val_type] * count
        self.vals.clear()
        self.ctrls.clear()
        self.push_ctrl(0, _NO_TYPES, results)
        try:
            height, pos = self._instructions()
        except IndexError:
            # Only the end of `code` can be passed: the stack has its FLOOR, and indices of the
            # module's spaces are compared before they are used.
            raise self.unexpected_end() from None
        if pos != len(self.code):
            left = len(self.code) - pos
            raise self.malformed(ErrCode.SectionSizeMismatch, f": {left} bytes behind the end", pos)
        if height > limits.MAX_OPERANDS:
            raise self.mismatch(f"{height} operands on the stack")
        return self.select_types

    def _instructions(self) -> tuple[int, int]:
        """Validate `code`; return the greatest height and the position behind the last `end`."""
        code, base = self.code, self.base
        vals, ctrls = self.vals, self.ctrls
        operands, results, alignments = OPERAND, RESULT, ALIGNMENT
        local_types = self.locals
        local_count = len(local_types)
        global_types = self.context.globals
        kind_of, rule_of = self._kinds, self._rules
        # The top of the stack is kept outside of `vals`, which spares most instructions a push, a
        # pop, or both. Between instructions it is the FLOOR where the frame has no operand.
        top: i64 = vals.pop()
        # The greatest length of `vals` so far with one FLOOR below the top discounted for each
        # frame inside the function's. Looked at before the stack shrinks.
        greatest: i64 = 0
        pos: i64 = 0
        # Types for mypyc: machine integers, where it would make objects of larger numbers.
        at: i64
        op: i64
        kind: i64
        number: i64
        index: i64
        start: i64
        depth: i64
        below: i64
        operand: i64
        while True:
            at = pos
            op = code[pos]
            pos += 1
            if op >= PREFIX_FC:
                number = code[pos]
                if op <= PREFIX_FD and number < 0x80:
                    pos += 1
                    op = number + (FIRST_FC if op == PREFIX_FC else FIRST_FD)
                else:
                    self.at = base + at
                    op, pos = self.prefixed(op, pos)
            kind = kind_of[op]
            if kind == LOCAL_GET:
                index = code[pos]
                if index < local_count and index < 0x80:
                    pos += 1
                    vals.append(top)
                    top = local_types[index]
                    continue
            elif kind == BINARY:
                operand = operands[op]
                if top == operand:
                    if len(vals) > greatest:
                        greatest = len(vals)
                    below = vals.pop()
                    if below == operand:
                        top = results[op]
                        continue
                    vals.append(below)
            elif kind == I32_CONST:
                start = pos
                while code[pos] >= 0x80:
                    pos += 1
                pos += 1
                if pos - start < 5:
                    vals.append(top)
                    top = I32
                    continue
                pos = start
            elif kind == LOAD:
                if top == I32 and code[pos] <= alignments[op]:
                    start = pos
                    pos += 1
                    while code[pos] >= 0x80:
                        pos += 1
                    pos += 1
                    if pos - start < 6:
                        top = results[op]
                        continue
                    pos = start
            elif kind == LOCAL_SET:
                index = code[pos]
                if index < local_count and index < 0x80 and top == local_types[index]:
                    pos += 1
                    if len(vals) > greatest:
                        greatest = len(vals)
                    top = vals.pop()
                    continue
            elif kind == LOCAL_TEE:
                index = code[pos]
                if index < local_count and index < 0x80 and top == local_types[index]:
                    pos += 1
                    continue
            elif kind == STORE:
                if top == operands[op] and code[pos] <= alignments[op]:
                    start = pos
                    pos += 1
                    while code[pos] >= 0x80:
                        pos += 1
                    pos += 1
                    if pos - start < 6:
                        if len(vals) > greatest:
                            greatest = len(vals)
                        below = vals.pop()
                        if below == I32:
                            top = vals.pop()
                            continue
                        vals.append(below)
                    pos = start
            elif kind == BR_IF:
                depth = code[pos]
                if (
                    top == I32
                    and depth < 0x80
                    and depth < len(ctrls)
                    and not ctrls[-1 - depth].label_types
                ):
                    pos += 1
                    if len(vals) > greatest:
                        greatest = len(vals)
                    top = vals.pop()
                    continue
            elif kind == END:
                frame = ctrls[-1]
                if (
                    top == FLOOR
                    and len(ctrls) > 1
                    and not frame.end_types
                    and not frame.start_types
                ):
                    ctrls.pop()
                    top = vals.pop()
                    greatest -= 1
                    continue
            elif kind == BLOCK:
                if code[pos] == EMPTY_BLOCK_TYPE and len(ctrls) <= limits.MAX_NESTING:
                    pos += 1
                    vals.append(top)
                    top = FLOOR
                    ctrls.append(CtrlFrame(op, _NO_TYPES, _NO_TYPES, len(vals) + 1, False))
                    greatest += 1
                    continue
            elif kind == UNARY:
                if top == operands[op]:
                    top = results[op]
                    continue
            elif kind == BR:
                depth = code[pos]
                if depth < 0x80 and depth < len(ctrls) and not ctrls[-1 - depth].label_types:
                    pos += 1
                    if len(vals) > greatest:
                        greatest = len(vals)
                    frame = ctrls[-1]
                    del vals[frame.height - 1 :]
                    top = FLOOR
                    frame.unreachable = True
                    continue
            elif kind == GLOBAL_GET:
                index = code[pos]
                if index < 0x80 and index < len(global_types):
                    pos += 1
                    vals.append(top)
                    top = global_types[index][0]
                    continue
            elif kind == I64_CONST:
                start = pos
                while code[pos] >= 0x80:
                    pos += 1
                pos += 1
                if pos - start < 10:
                    vals.append(top)
                    top = I64
                    continue
                pos = start
            elif kind == FLOAT_CONST:
                pos += IMMEDIATE_SIZE[op]
                vals.append(top)
                top = results[op]
                continue
            if len(vals) > greatest:
                greatest = len(vals)
            self.at = base + at
            vals.append(top)
            greatest -= len(ctrls)
            pos = rule_of[op](self, pos, op)
            greatest += len(ctrls)
            if not ctrls:
                return greatest + 1, pos
            top = vals.pop()

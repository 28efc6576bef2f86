"""The operand stack and the control stack of the validation algorithm.

Core specification, appendix 7.3 ("Validation Algorithm"), with its names. One addition makes the
fast paths of `function` possible: below the operands of every control frame lies a FLOOR, which is
no type, so that whoever compares the top of the stack with a type needs no check of the height.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from wasmedge_runtime import limits
from wasmedge_runtime.errors import MESSAGES, ErrCode, ValidationError
from wasmedge_runtime.types import ValType

FLOOR: Final = 0
"""Lies below a frame's operands; equal to no type."""

UNKNOWN: Final = -1
"""An operand that unreachable code conjures up: it has every type."""

_TYPE_NAMES = {int(t): str(t) for t in ValType} | {UNKNOWN: "unknown"}


class CtrlFrame:
    """An open block."""

    __slots__ = ("end_types", "height", "label_types", "opcode", "start_types", "unreachable")

    def __init__(
        self, opcode: int, start_types: list[int], end_types: list[int], height: int, loop: bool
    ) -> None:
        self.opcode = opcode
        self.start_types = start_types
        self.end_types = end_types
        self.label_types = start_types if loop else end_types
        """What a branch to this block takes along."""
        self.height = height
        """Index of the frame's first operand; the FLOOR is one below."""
        self.unreachable = False
        """The rest of the block cannot be reached: operands are found as they are needed."""


class OperandStack:
    """`vals` and `ctrls`, and the operations on them.

    `at` is the offset of the current instruction in the file, for errors. All methods raise
    ValidationError (TypeCheckFailed) where types do not match.
    """

    def __init__(self) -> None:
        self.vals: list[int] = []
        self.ctrls: list[CtrlFrame] = []
        self.at = 0

    def error(self, code: ErrCode, details: str = "") -> ValidationError:
        """A ValidationError at the current instruction, in the test suite's words."""
        return ValidationError(code, MESSAGES[code] + details, self.at)

    def mismatch(self, details: str) -> ValidationError:
        """The error for operands of the wrong type."""
        return self.error(ErrCode.TypeCheckFailed, f": {details}")

    def push_val(self, val_type: int) -> None:
        """Push an operand."""
        self.vals.append(val_type)

    def push_vals(self, types: Sequence[int]) -> None:
        """Push operands, the last one on top. Refused beyond the cap of `limits`."""
        self.vals += types
        if len(self.vals) > limits.MAX_OPERANDS:
            raise self.error(
                ErrCode.TypeCheckFailed, f": more than {limits.MAX_OPERANDS} operands on the stack"
            )

    def pop_val(self, expect: int = UNKNOWN) -> int:
        """Pop an operand of the expected type, and return its type."""
        actual = self.vals.pop()
        if actual == FLOOR:
            self.vals.append(FLOOR)
            if not self.ctrls[-1].unreachable:
                wanted = "a value" if expect == UNKNOWN else _TYPE_NAMES[expect]
                raise self.mismatch(f"expected {wanted}, but nothing is on the stack")
            return expect
        if actual in (expect, UNKNOWN) or expect == UNKNOWN:
            return actual
        raise self.mismatch(f"expected {_TYPE_NAMES[expect]}, found {_TYPE_NAMES[actual]}")

    def pop_vals(self, types: list[int]) -> list[int]:
        """Pop operands of these types, the last one first, and return their types."""
        size = len(types)
        if size == 0:
            return []
        popped = self.vals[-size:]
        if popped == types:
            del self.vals[-size:]
            return popped
        popped = []
        for left in range(size, 0, -1):
            if self.vals[-1] == FLOOR and self.ctrls[-1].unreachable:
                # Whatever is wanted is there. At once, because a call may want a thousand.
                popped += types[left - 1 :: -1]
                break
            popped.append(self.pop_val(types[left - 1]))
        popped.reverse()
        return popped

    def push_ctrl(
        self, opcode: int, start_types: list[int], end_types: list[int], loop: bool = False
    ) -> None:
        """Open a block; its parameters have been popped already."""
        if len(self.ctrls) > limits.MAX_NESTING:
            raise self.error(
                ErrCode.IllegalGrammar, f": more than {limits.MAX_NESTING} blocks in one another"
            )
        self.vals.append(FLOOR)
        self.ctrls.append(CtrlFrame(opcode, start_types, end_types, len(self.vals), loop))
        self.push_vals(start_types)

    def pop_ctrl(self) -> CtrlFrame:
        """Close the innermost block, whose results must be all there is on its stack."""
        frame = self.ctrls[-1]
        self.pop_vals(frame.end_types)
        surplus = len(self.vals) - frame.height
        if surplus:
            raise self.mismatch(f"values remain on the stack at the end of a block: {surplus}")
        self.vals.pop()
        return self.ctrls.pop()

    def label_types(self, depth: int) -> list[int]:
        """What a branch over `depth` blocks takes along (InvalidLabelIdx)."""
        if depth >= len(self.ctrls):
            raise self.error(ErrCode.InvalidLabelIdx, f" {depth}")
        return self.ctrls[-1 - depth].label_types

    def unreachable(self) -> None:
        """Mark what follows in this block as unreachable."""
        frame = self.ctrls[-1]
        del self.vals[frame.height :]
        frame.unreachable = True

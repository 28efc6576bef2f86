"""What the translator's loop does with each opcode: derived from the table and the lowerings.

A rule is `(kind, a, b, c)`. The loop handles the regular kinds itself; a rule of kind EMIT carries
a function registered with `emits`: one for each irregular instruction or family of them.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeAlias

from ..opcodes import INSTRUCTIONS, Instruction
from . import numeric, vector

if TYPE_CHECKING:
    from .function import FunctionTranslator

IR_TYPE: Final = {
    0x7F: "i32",
    0x7E: "i64",
    0x7D: "float",
    0x7C: "double",
    0x7B: "<2 x i64>",
    0x70: "i64",
    0x6F: "i64",
}
"""LLVM type of each value type; a reference is a 64-bit handle, 0 the null reference."""

LOCAL_GET: Final = 0  # local.get
LOCAL_SET: Final = 1  # local.set
LOCAL_TEE: Final = 2  # local.tee
I32_CONST: Final = 3  # i32.const, i64.const
BINARY: Final = 4  # (prefix): `prefix a, b`
UNARY: Final = 5  # (prefix, suffix): `prefix a suffix`
COMPARE: Final = 6  # (prefix): `prefix a, b`, an i1
LOAD: Final = 7  # (loaded type, extension or None, bytes)
STORE: Final = 8  # (stored type, truncation or None, bytes)
TEMPLATE: Final = 9  # (template, operand count, gives i1): any other one-line form
SEQUENCE: Final = 10  # (template, operand count)
CALL: Final = 11  # (prefix, operand prefixes, name): an LLVM function of the lowering
EMIT: Final = 12  # (function): irregular

Rule: TypeAlias = tuple[int, Any, Any, Any]

Emitter: TypeAlias = "Callable[[FunctionTranslator, int, int], int]"
"""Called with the translator, the opcode and the position behind it; gives the position behind the
immediates."""

_EMITTERS: dict[str, Emitter] = {}


def emits(*names: str) -> Callable[[Emitter], Emitter]:
    """Register the emitter of irregular instructions."""

    def register(emitter: Emitter) -> Emitter:
        for name in names:
            _EMITTERS[name] = emitter
        return emitter

    return register


def _memory_rule(row: Instruction) -> Rule:
    """Scalar loads and stores: `i64.load16_u` loads an i16 and extends it with zeros."""
    kind, operation = row.name.split(".")
    full = IR_TYPE[{"i32": 0x7F, "i64": 0x7E, "f32": 0x7D, "f64": 0x7C, "v128": 0x7B}[kind]]
    store = operation.startswith("store")
    digits = "".join(c for c in operation if c.isdigit())
    if not digits:
        size = {"i32": 4, "i64": 8, "float": 4, "double": 8, "<2 x i64>": 16}[full]
        return (STORE if store else LOAD, full, None, size)
    narrow = f"i{digits}"
    if store:
        return (STORE, narrow, f"trunc {full} %s to {narrow}", int(digits) // 8)
    extension = "sext" if operation.endswith("_s") else "zext"
    return (LOAD, narrow, f"{extension} {narrow} %s to {full}", int(digits) // 8)


def _template_rule(row: Instruction, template: str, boolean: bool) -> Rule:
    """The quickest kind that can produce a one-line template."""
    operands = len(row.params or ())
    if template.endswith(" {0}, {1}") and template.count("{") == 2:
        return (COMPARE if boolean else BINARY, template[: -len("{0}, {1}")], None, None)
    if template.count("{") == 1 and operands == 1 and not boolean:
        before, after = template.split("{0}")
        return (UNARY, before, after, None)
    return (TEMPLATE, template, operands, boolean)


def _function_rule(row: Instruction, text: str) -> Rule:
    """A call of an LLVM function of the lowering; lane immediates become its last arguments."""
    params = [f"{IR_TYPE[code]} " for code in row.params or ()]
    (result,) = row.results or ()
    context = "ptr %c, " if "(ptr %ctx" in text.split("{", 1)[0] else ""
    return (CALL, f"call {IR_TYPE[result]} @{row.name}({context}", params, row.name)


class Rules(NamedTuple):
    """The rule of every opcode of the table."""

    plain: list[Rule | None]
    """By one-byte opcode; None where there is none, and for the prefixes."""
    prefixed: dict[int, Rule]
    """By 16-bit opcode."""


@functools.cache
def make_rules() -> Rules:
    """Bring table, lowerings and emitters together, when all emitters have registered."""
    rules = {row.opcode: _rule(row) for row in INSTRUCTIONS}
    return Rules(
        [rules.get(code) for code in range(0x100)],
        {code: rule for code, rule in rules.items() if code > 0xFF},
    )


_REGULAR = {
    "local.get": LOCAL_GET,
    "local.set": LOCAL_SET,
    "local.tee": LOCAL_TEE,
    "i32.const": I32_CONST,
    "i64.const": I32_CONST,
}


def _rule(row: Instruction) -> Rule:
    name = row.name
    operands = len(row.params or ())
    if name in _EMITTERS:
        return (EMIT, _EMITTERS[name], None, None)
    if name in _REGULAR:
        return (_REGULAR[name], None, None, None)
    for operators in (numeric.OPERATORS, vector.OPERATORS):
        if name in operators:
            return _template_rule(row, operators[name], False)
    if name in numeric.COMPARISONS:
        return _template_rule(row, numeric.COMPARISONS[name], True)
    for sequences in (numeric.SEQUENCES, vector.SEQUENCES):
        if name in sequences:
            return (SEQUENCE, sequences[name], operands, None)
    if name in numeric.FUNCTIONS:
        return _function_rule(row, numeric.FUNCTIONS[name])
    return _memory_rule(row)

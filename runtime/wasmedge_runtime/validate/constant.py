"""Constant expressions: core specification 3.3.13.2."""

from __future__ import annotations

from wasmedge_runtime.errors import MESSAGES, ErrCode, ValidationError
from wasmedge_runtime.module import AST, ConstExpr
from wasmedge_runtime.opcodes import BY_OPCODE, GLOBAL_GET, REF_FUNC, REF_NULL
from wasmedge_runtime.types import ValMut, ValType


def check_constant(ast: AST, expr: ConstExpr, expected: int, at: int) -> None:
    """Check that an expression is constant and leaves one value of the type `expected`.

    Functions that it names are noted in `ast.declared_functions`. `at` is the offset of the item
    that it initializes, for errors.

    Raises:
        ValidationError: ConstExprRequired for what is not an imported, immutable global;
            InvalidGlobalIdx, InvalidFuncIdx, TypeCheckFailed.
    """
    types = [_type_of(ast, opcode, immediate, at) for opcode, immediate in expr]
    if types != [expected]:
        found = ", ".join(str(ValType(t)) for t in types) or "nothing"
        raise _error(ErrCode.TypeCheckFailed, f": expected {ValType(expected)}, found {found}", at)


def _type_of(ast: AST, opcode: int, immediate: object, at: int) -> int:
    """The type that a constant instruction pushes: none of them pops."""
    if opcode == REF_NULL and isinstance(immediate, int):
        return immediate
    if opcode == GLOBAL_GET and isinstance(immediate, int):
        # WebAssembly 2.0: only imported globals can be used in initializers.
        if immediate >= ast.imported_globals:
            details = f" {immediate}: only imported globals are known here"
            raise _error(ErrCode.InvalidGlobalIdx, details, at)
        global_type = ast.global_types[immediate]
        if global_type.mutability is not ValMut.CONST:
            raise _error(ErrCode.ConstExprRequired, f": global {immediate} is mutable", at)
        return int(global_type.val_type)
    if opcode == REF_FUNC and isinstance(immediate, int):
        if immediate >= len(ast.function_types):
            raise _error(ErrCode.InvalidFuncIdx, f" {immediate}", at)
        ast.declared_functions.add(immediate)
    results = BY_OPCODE[opcode].results or ()
    return results[0]


def _error(code: ErrCode, details: str, at: int) -> ValidationError:
    return ValidationError(code, MESSAGES[code] + details, at)

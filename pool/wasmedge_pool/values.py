"""Wasm values and timeouts as they travel.

Integers and floats go as they are (msgpack keeps all 64 bits of a float, NaN payloads included), a
vector as its 16 bytes, the null reference as nil, other references as a pair of numbers, which each
side makes and reads in its own way (`wasmedge_pool.references`, `wasmedge_pool.worker.objects`).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any

from wasmedge_pool.messages import (
    FLOAT,
    FUNCTION,
    INTEGER,
    MAX_ARRAY,
    OBJECT,
    SCALARS,
    ProtocolError,
    Value,
)
from wasmedge_runtime.errors import ErrCode, WasmEdgeError
from wasmedge_runtime.types import ValType
from wasmedge_runtime.values import V128

__all__ = ["fits", "from_wire", "microseconds", "to_wire"]


def _no_reference(value: Any) -> Value:
    raise TypeError(f"{value!r} is not a number, a V128 or None")


def _no_object(kind: int, number: int) -> Any:
    raise ProtocolError(f"a reference ({kind}, {number}) where none can be")


def to_wire(
    values: Iterable[Any], reference: Callable[[Any], Value] = _no_reference
) -> tuple[Value, ...]:
    """Turn arguments or results into what travels.

    Args:
        values: the values.
        reference: gives the pair for a value that is neither a number nor a vector nor None.

    Raises:
        OverflowError: an integer fits no wasm type.
        WasmEdgeError: there are more values than any function has.
        whatever `reference` raises.
    """
    values = tuple(values)
    if len(values) > MAX_ARRAY:
        raise WasmEdgeError(
            ErrCode.FuncSigMismatch, f"function signature mismatch: {len(values)} values in a call"
        )
    if SCALARS.issuperset(map(type, values)):
        wire = values
    else:
        wire = tuple([_value_to_wire(value, reference) for value in values])
    for value in wire:
        if type(value) is int and not -(1 << 63) <= value < 1 << 64:
            raise OverflowError(f"{value} is outside the range of i64: -2**63 to 2**64 - 1")
    return wire


def _value_to_wire(value: Any, reference: Callable[[Any], Value]) -> Value:
    if type(value) in SCALARS:
        return value  # type: ignore[no-any-return]
    if isinstance(value, V128):
        return bytes(value)
    if isinstance(value, float):
        return float(value)
    if hasattr(value, "__index__"):
        return int(value.__index__())
    return reference(value)


def from_wire(
    wire: tuple[Value, ...], reference: Callable[[int, int], Any] = _no_object
) -> list[Any]:
    """Turn checked values from the wire into arguments or results.

    `reference` gives what a pair of kind and number stands for.
    """
    if SCALARS.issuperset(map(type, wire)):
        return list(wire)
    return [
        V128.from_bytes(value)
        if type(value) is bytes
        else reference(*value)
        if type(value) is tuple
        else value
        for value in wire
    ]


def fits(value: Value, kind: ValType) -> bool:
    """Whether a value from the wire can be of a type."""
    if kind is ValType.I32:
        return type(value) is int and -(1 << 31) <= value < 1 << 31
    if kind is ValType.I64:
        return type(value) is int and -(1 << 63) <= value < 1 << 63
    if kind is ValType.F32 or kind is ValType.F64:
        return type(value) is float
    if kind is ValType.V128:
        return type(value) is bytes
    kinds = (FUNCTION,) if kind is ValType.FUNCREF else (OBJECT, INTEGER, FLOAT)
    return value is None or (type(value) is tuple and value[0] in kinds)


def microseconds(timeout: float | None) -> int | None:
    """Turn a timeout in seconds, None or infinite for none, into what travels.

    Raises:
        TypeError: not a number.
        ValueError: negative or not a number (NaN).
    """
    if timeout is None or timeout == math.inf:
        return None
    if not timeout >= 0:
        raise ValueError(f"timeout must be 0 or more seconds, not {timeout!r}")
    # Longer than 31 years is never.
    return int(timeout * 1_000_000) if timeout < 1e9 else None

"""Wasm values and timeouts as they travel.

Integers and floats go as they are (msgpack keeps all 64 bits of a float, NaN payloads included), a
vector as its 16 bytes, the null reference as nil. References cannot travel yet.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

from wasmedge_pool.protocol import MAX_ARRAY, SCALARS, Value
from wasmedge_runtime.errors import ErrCode, WasmEdgeError
from wasmedge_runtime.values import V128, ExternRef, FuncRef

__all__ = ["from_wire", "microseconds", "to_wire"]


def to_wire(values: Iterable[Any]) -> tuple[Value, ...]:
    """Turn arguments or results into what travels.

    Raises:
        TypeError: a value has no wasm type, or is a reference.
        OverflowError: an integer fits no wasm type.
        WasmEdgeError: there are more values than any function has.
    """
    values = tuple(values)
    if len(values) > MAX_ARRAY:
        raise WasmEdgeError(
            ErrCode.FuncSigMismatch, f"function signature mismatch: {len(values)} values in a call"
        )
    if SCALARS.issuperset(map(type, values)):
        wire = values
    else:
        wire = tuple([_value_to_wire(value) for value in values])
    for value in wire:
        if type(value) is int and not -(1 << 63) <= value < 1 << 64:
            raise OverflowError(f"{value} is outside the range of i64: -2**63 to 2**64 - 1")
    return wire


def _value_to_wire(value: Any) -> Value:
    if type(value) in SCALARS:
        return value  # type: ignore[no-any-return]
    if isinstance(value, V128):
        return bytes(value)
    if isinstance(value, FuncRef | ExternRef):
        raise TypeError(
            f"a {type(value).__name__} cannot travel between processes yet: "
            "only numbers, V128 and None (the null reference) can"
        )
    if isinstance(value, float):
        return float(value)
    if hasattr(value, "__index__"):
        return int(value.__index__())
    raise TypeError(f"{value!r} is not a wasm value: int, float, V128 or None is needed")


def from_wire(wire: tuple[Value, ...]) -> list[Any]:
    """Turn checked values from the wire into arguments or results."""
    if bytes in map(type, wire):
        return [V128.from_bytes(value) if type(value) is bytes else value for value in wire]
    return list(wire)


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

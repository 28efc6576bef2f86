"""Values of the suite's scripts: bit patterns to and from the API's values, compared bit by bit."""

from __future__ import annotations

import struct
from collections.abc import Mapping
from typing import Any

from wasmedge_runtime.values import V128, ExternRef, FuncRef

LANE_BITS = {"i8": 8, "i16": 16, "i32": 32, "i64": 64, "f32": 32, "f64": 64}

_SIGN_32, _EXPONENT_32, _QUIET_32 = 1 << 31, 0x7F80_0000, 1 << 22
_SIGN_64, _EXPONENT_64, _QUIET_64 = 1 << 63, 0x7FF0_0000_0000_0000, 1 << 51


def f64_from_bits(bits: int) -> float:
    """The float with these 64 bits."""
    value: float = struct.unpack("<d", struct.pack("<Q", bits))[0]
    return value


def f64_to_bits(value: float) -> int:
    """The 64 bits of a float."""
    bits: int = struct.unpack("<Q", struct.pack("<d", value))[0]
    return bits


def f32_from_bits(bits: int) -> float:
    """The float that stands for an f32 with these bits; a NaN keeps its leading payload."""
    if bits & _EXPONENT_32 == _EXPONENT_32 and bits & 0x7F_FFFF:
        return f64_from_bits((bits & _SIGN_32) << 32 | _EXPONENT_64 | (bits & 0x7F_FFFF) << 29)
    value: float = struct.unpack("<f", struct.pack("<I", bits))[0]
    return value


def f32_to_bits(value: float) -> int:
    """The 32 bits of the f32 that a float stands for.

    Raises `ValueError` when the float is not the value of any f32: an engine that returns more
    precision than the type has is wrong.
    """
    if value != value:
        bits = f64_to_bits(value)
        if bits & 0x1FFF_FFFF:
            raise ValueError(f"the NaN 0x{bits:016x} has a payload that no f32 has")
        return (bits & _SIGN_64) >> 32 | _EXPONENT_32 | (bits >> 29) & 0x7F_FFFF
    packed = struct.pack("<f", value)
    if struct.unpack("<f", packed)[0] != value:
        raise ValueError(f"{value!r} is not the value of an f32")
    result: int = struct.unpack("<I", packed)[0]
    return result


def lanes(bits: int, lane_type: str) -> list[int]:
    """The lanes of a 128-bit pattern, the first one first."""
    width = LANE_BITS[lane_type]
    return [bits >> shift & (1 << width) - 1 for shift in range(0, 128, width)]


class Externals:
    """The host objects of a script: `(ref.extern 1)` is the same reference wherever it occurs."""

    def __init__(self) -> None:
        self._references: dict[int, ExternRef] = {}

    def get(self, number: int) -> ExternRef:
        """The reference for a number, made on first use and alive as long as the script runs."""
        if number not in self._references:
            self._references[number] = ExternRef(number)
        return self._references[number]

    def close(self) -> None:
        """Release all references."""
        for reference in self._references.values():
            reference.close()
        self._references.clear()


def argument(value: Mapping[str, Any], externals: Externals) -> Any:
    """The API's value for an argument of a script."""
    kind = value["type"]
    if kind in ("i32", "i64"):
        return int(value["value"])
    if kind == "f32":
        return f32_from_bits(int(value["value"]))
    if kind == "f64":
        return f64_from_bits(int(value["value"]))
    if kind == "v128":
        width = LANE_BITS[value["lane_type"]]
        bits = 0
        for position, lane in enumerate(value["value"]):
            bits |= (int(lane) & (1 << width) - 1) << position * width
        return V128.from_bytes(bits.to_bytes(16, "little"))
    if value["value"] == "null":
        return None
    if kind == "externref":
        return externals.get(int(value["value"]))
    raise ValueError(f"the script passes a {kind}, which this runner does not know")


def _float_agrees(expected: str, bits: int, width: int) -> bool:
    exponent, quiet, sign = (
        (_EXPONENT_32, _QUIET_32, _SIGN_32) if width == 32 else (_EXPONENT_64, _QUIET_64, _SIGN_64)
    )
    if expected == "nan:canonical":
        return bits & ~sign == exponent | quiet
    if expected == "nan:arithmetic":
        return bits & (exponent | quiet) == exponent | quiet
    return bits == int(expected)


def _number_agrees(kind: str, expected: str, bits: int) -> bool:
    if kind in ("f32", "f64"):
        return _float_agrees(expected, bits, LANE_BITS[kind])
    return bits == int(expected) & (1 << LANE_BITS[kind]) - 1


def agrees(expected: Mapping[str, Any], actual: object) -> bool:
    """Whether a result is what a script expects: the Python type, and every bit that is fixed.

    Raises `ValueError` for an expectation of a kind that this runner does not know.
    """
    kind = expected["type"]
    if kind == "either":
        return any(agrees(choice, actual) for choice in expected["values"])
    if kind in ("i32", "i64"):
        limit = 1 << LANE_BITS[kind] - 1  # results are signed
        if type(actual) is not int or not -limit <= actual < limit:
            return False
        return _number_agrees(kind, expected["value"], actual & 2 * limit - 1)
    if kind in ("f32", "f64"):
        if type(actual) is not float:
            return False
        try:
            bits = f32_to_bits(actual) if kind == "f32" else f64_to_bits(actual)
        except (ValueError, OverflowError):
            return False
        return _number_agrees(kind, expected["value"], bits)
    if kind == "v128":
        if not isinstance(actual, V128):
            return False
        lane_type = expected["lane_type"]
        found = lanes(int.from_bytes(bytes(actual), "little"), lane_type)
        return all(
            _number_agrees(lane_type, lane, bits)
            for lane, bits in zip(expected["value"], found, strict=True)
        )
    if kind == "refnull" or expected.get("value") == "null":
        return actual is None
    if kind == "externref":
        if not isinstance(actual, ExternRef):
            return False
        return "value" not in expected or actual.value == int(expected["value"])
    if kind == "funcref":
        return isinstance(actual, FuncRef)
    raise ValueError(f"the script expects a {kind}, which this runner does not know")

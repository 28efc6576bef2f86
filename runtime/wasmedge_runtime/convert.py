"""Numbers and vectors between Python and raw bits (specification 4.2.1).

Generated code takes and gives raw slots: 64 bits, 128 for a vector. Bits are unsigned ints here.
Floats travel as bits because every other way (a C `float`, `struct` with "f") sets the quiet bit
of a signalling NaN. References are not converted here: they need the table of a store.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable
from struct import Struct
from typing import Any, Final

from wasmedge_runtime.types import ValType
from wasmedge_runtime.values import V128

__all__ = ["DECODERS", "ENCODERS", "Number", "from_bits", "to_bits"]

Number = int | float | V128

_MASK32: Final = 0xFFFF_FFFF
_SIGN32: Final = 0x8000_0000
_MASK64: Final = 0xFFFF_FFFF_FFFF_FFFF
_SIGN64: Final = 0x8000_0000_0000_0000

_F32_INFINITY: Final = 0x7F80_0000
_F32_QUIET: Final = 0x0040_0000
_F32_FRACTION: Final = 0x007F_FFFF
_F64_INFINITY: Final = 0x7FF0_0000_0000_0000
_F64_FRACTION: Final = 0x000F_FFFF_FFFF_FFFF
# A f64 fraction has 52 bits, a f32 fraction 23: a NaN keeps the leading ones.
_FRACTION_SHIFT: Final = 52 - 23

_pack_f64 = Struct("<d").pack
_unpack_f64 = Struct("<d").unpack
_pack_f32 = Struct("<f").pack
_unpack_f32 = Struct("<f").unpack
_pack_u32 = Struct("<I").pack
_unpack_u32 = Struct("<I").unpack
_pack_u64 = Struct("<Q").pack
_unpack_u64 = Struct("<Q").unpack


def _wrong_kind(type_name: str, wanted: str, value: object) -> TypeError:
    return TypeError(f"{type_name} needs {wanted}, not {type(value).__name__}: {value!r:.80}")


def _encode_i32(value: Any) -> int:
    if type(value) is int and -_SIGN32 <= value <= _MASK32:
        return value & _MASK32
    return _encode_integer(value, "i32", 32)


def _encode_i64(value: Any) -> int:
    if type(value) is int and -_SIGN64 <= value <= _MASK64:
        return value & _MASK64
    return _encode_integer(value, "i64", 64)


def _encode_integer(value: Any, type_name: str, bits: int) -> int:
    """Everything that is not a plain int in range: int subclasses, `__index__`, errors."""
    try:
        number = operator.index(value)
    except TypeError:
        raise _wrong_kind(type_name, "an int", value) from None
    lowest, highest = -(1 << (bits - 1)), (1 << bits) - 1
    if not lowest <= number <= highest:
        raise OverflowError(
            f"{number:#x} is outside the range of {type_name}: -2**{bits - 1} to 2**{bits} - 1"
        )
    return number & highest


def _encode_f32(value: Any) -> int:
    number = value if type(value) is float else _to_float(value, "f32")
    if number != number:
        nan = _f64_bits(number)
        payload = (nan & _F64_FRACTION) >> _FRACTION_SHIFT
        return (nan >> 63) << 31 | _F32_INFINITY | (payload or _F32_QUIET)
    try:
        bits: int = _unpack_u32(_pack_f32(number))[0]
    except OverflowError:  # rounds to infinity
        return _F32_INFINITY if number > 0 else _SIGN32 | _F32_INFINITY
    return bits


def _encode_f64(value: Any) -> int:
    return _f64_bits(value if type(value) is float else _to_float(value, "f64"))


def _f64_bits(number: float) -> int:
    bits: int = _unpack_u64(_pack_f64(number))[0]
    return bits


def _to_float(value: Any, type_name: str) -> float:
    """The float for anything that is not exactly a float."""
    if isinstance(value, float):  # a subclass; float() of it would run its own __float__
        return _decode_f64(_f64_bits(value))
    if hasattr(type(value), "__float__") and not isinstance(value, int):
        return float(value)
    try:
        number = operator.index(value)
    except TypeError:
        raise _wrong_kind(type_name, "a float or an int", value) from None
    try:
        return _round_to_odd(number) if type_name == "f32" else float(number)
    except OverflowError:
        raise OverflowError(
            f"an int of {number.bit_length()} bits is too large for a float"
        ) from None


def _round_to_odd(number: int) -> float:
    """A float that rounds to the same f32 as `number` does.

    Rounding to nearest twice can be off by one; rounding to odd first keeps ties apart.
    """
    excess = number.bit_length() - 53
    if excess <= 0:
        return float(number)
    magnitude = abs(number)
    kept = magnitude >> excess
    if kept << excess != magnitude:
        kept |= 1
    return math.copysign(math.ldexp(kept, excess), number)


def _encode_v128(value: Any) -> int:
    if not isinstance(value, V128):
        raise _wrong_kind("v128", "a V128", value)
    return value.high << 64 | value.low


def _decode_i32(bits: int) -> int:
    return ((bits & _MASK32) ^ _SIGN32) - _SIGN32


def _decode_i64(bits: int) -> int:
    return (bits ^ _SIGN64) - _SIGN64


def _decode_f32(bits: int) -> float:
    bits &= _MASK32
    if bits & ~_SIGN32 <= _F32_INFINITY:
        number: float = _unpack_f32(_pack_u32(bits))[0]
        return number
    payload = (bits & _F32_FRACTION) << _FRACTION_SHIFT
    return _decode_f64((bits >> 31) << 63 | _F64_INFINITY | payload)


def _decode_f64(bits: int) -> float:
    number: float = _unpack_f64(_pack_u64(bits))[0]
    return number


def _decode_v128(bits: int) -> V128:
    return V128(bits >> 64, bits & _MASK64)


# By ValType or its code; the reference types are absent.
ENCODERS: Final[dict[int, Callable[[Any], int]]] = {
    ValType.I32: _encode_i32,
    ValType.I64: _encode_i64,
    ValType.F32: _encode_f32,
    ValType.F64: _encode_f64,
    ValType.V128: _encode_v128,
}
DECODERS: Final[dict[int, Callable[[int], Number]]] = {
    ValType.I32: _decode_i32,
    ValType.I64: _decode_i64,
    ValType.F32: _decode_f32,
    ValType.F64: _decode_f64,
    ValType.V128: _decode_v128,
}


def to_bits(value: Any, valtype: int) -> int:
    """Return the bits of a Python value for a number or vector type.

    An integer type takes an int (or anything with `__index__`) of the signed or the unsigned
    range. A float type takes a float, an int, or anything with `__float__`; f32 rounds to nearest,
    ties to even, beyond its range to infinity. A NaN keeps its sign and the leading bits of its
    payload; when those are all 0, it becomes the quiet NaN.

    Raises:
        TypeError: the wrong kind of value.
        OverflowError: an int outside the type's range.
    """
    return ENCODERS[valtype](value)


def from_bits(bits: int, valtype: int) -> Number:
    """Return the Python value of the bits of a number or vector type.

    `bits` is what a 64-bit slot holds (128-bit for a vector), unsigned; the upper half of the slot
    of an i32 or f32 is ignored. Integers are signed.
    """
    return DECODERS[valtype](bits)

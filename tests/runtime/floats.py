"""Bits of floating-point numbers, and their classes."""

from __future__ import annotations

import struct

MANTISSA = {32: 23, 64: 52}


def bits(value: float, width: int) -> int:
    """The bits of a number that is exact in 32 or 64 bits."""
    return int.from_bytes(struct.pack("<f" if width == 32 else "<d", value), "little")


def number(pattern: int, width: int) -> float:
    """The number of these bits."""
    (value,) = struct.unpack("<f" if width == 32 else "<d", pattern.to_bytes(width // 8, "little"))
    return float(value)


def nan(width: int, payload: int, sign: int = 0) -> int:
    """A NaN; it is quiet when the payload has its top bit."""
    exponent = (1 << (width - 1)) - (1 << MANTISSA[width])
    return sign << (width - 1) | exponent | payload


def canonical(width: int) -> int:
    """The positive canonical NaN."""
    return nan(width, 1 << (MANTISSA[width] - 1))


def is_nan(pattern: int, width: int) -> bool:
    """Whether it is any NaN."""
    return pattern & ((1 << (width - 1)) - 1) > nan(width, 0)


def is_quiet(pattern: int, width: int) -> bool:
    """Whether it is an arithmetic NaN: one whose payload has the top bit."""
    return is_nan(pattern, width) and bool(pattern >> (MANTISSA[width] - 1) & 1)


def is_canonical(pattern: int, width: int) -> bool:
    """Whether it is one of the two canonical NaNs."""
    return pattern & ((1 << (width - 1)) - 1) == canonical(width)


def interesting(width: int) -> list[int]:
    """Zeros, ones, ties, extremes, denormals, infinities and NaNs of all classes, both signs."""
    top = 1 << (MANTISSA[width] - 1)
    infinity = nan(width, 0)
    values = [0.0, 0.25, 0.5, 0.75, 1.0, 1.5, 2.5, 3.0, 4.5, 2.0**31, 2.0**32, 2.0**63, 2.0**64]
    positive = [bits(value, width) for value in values]
    # The neighbours of the limits of the integer types.
    positive += [pattern + step for pattern in positive[-4:] for step in (-1, 1)]
    positive += [1, (1 << MANTISSA[width]) - 1, 1 << MANTISSA[width], infinity - 1, infinity]
    positive += [nan(width, payload) for payload in (top, top | 1, 1, top >> 1)]
    if width == 64:
        positive += [bits(value, 64) for value in (2.0**31 - 0.5, 2.0**31 + 0.5, 2.0**32 - 0.5)]
    return positive + [pattern | 1 << (width - 1) for pattern in positive]

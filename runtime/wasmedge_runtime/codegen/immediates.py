"""Immediates of validated code: decoding without checks, and skipping by layout."""

from __future__ import annotations

from ..opcodes import BY_OPCODE


def unsigned(data: bytes, pos: int) -> tuple[int, int]:
    """An unsigned LEB128 integer at `pos` (specification 5.2.2); gives it and the next position."""
    byte = data[pos]
    pos += 1
    if byte < 0x80:
        return byte, pos
    value = byte & 0x7F
    shift = 7
    while True:
        byte = data[pos]
        pos += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, pos
        shift += 7


def signed(data: bytes, pos: int) -> tuple[int, int]:
    """A signed LEB128 integer at `pos`; gives it and the next position."""
    value = shift = 0
    while True:
        byte = data[pos]
        pos += 1
        value |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            return (value - (1 << shift) if byte & 0x40 else value), pos


def opcode(data: bytes, pos: int) -> tuple[int, int]:
    """The 16-bit opcode at `pos`, as the table numbers it."""
    byte = data[pos]
    if byte < 0xFC:
        return byte, pos + 1
    number, pos = unsigned(data, pos + 1)
    return byte << 8 | number, pos


# How many LEB128 integers, and then how many plain bytes, each layout of the table has.
_SHAPES: dict[str, tuple[int, int]] = {
    "": (0, 0),
    "block": (1, 0),
    "label": (1, 0),
    "func": (1, 0),
    "call_indirect": (2, 0),
    "local": (1, 0),
    "global": (1, 0),
    "table": (1, 0),
    "memarg": (2, 0),
    "memarg_lane": (2, 1),
    "memory": (1, 0),
    "memory_memory": (2, 0),
    "data_memory": (2, 0),
    "data": (1, 0),
    "elem": (1, 0),
    "elem_table": (2, 0),
    "table_table": (2, 0),
    "i32": (1, 0),
    "i64": (1, 0),
    "f32": (0, 4),
    "f64": (0, 8),
    "v128": (0, 16),
    "lane": (0, 1),
    "shuffle": (0, 16),
    "ref_type": (1, 0),
}

_SKIPS = {code: _SHAPES.get(row.immediates) for code, row in BY_OPCODE.items()}


def skip(data: bytes, pos: int, code: int) -> int:
    """The position behind the immediates of an instruction."""
    shape = _SKIPS[code]
    if shape is None:  # a vector of LEB128 integers; br_table has its default behind it
        count, pos = unsigned(data, pos)
        integers, plain = count + (code == 0x0E), 0
    else:
        integers, plain = shape
    for _ in range(integers):
        while data[pos] >= 0x80:
            pos += 1
        pos += 1
    return pos + plain

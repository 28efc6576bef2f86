"""All code of a module in one piece: linked ahead, so that it only has to be copied into memory.

An image begins with the module's header and function table, which are written to; what follows is
code and constants. Everything in it refers to the rest of it by distances, so it runs wherever it
lies. The one thing that is filled in where it is loaded is the addresses of the few functions of
the C library that LLVM uses.
"""

from __future__ import annotations

import array
import ctypes
import platform
import struct
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from . import elf
from .layout import ModuleHeader

_IS_X86 = platform.machine() in ("x86_64", "AMD64")

ALIGNMENT = 4096 if _IS_X86 else 65536
"""Of segments: the largest pages that the processor may have (and Linux uses, on x86-64)."""

READ, WRITE, EXECUTE = 4, 2, 1
"""Bits of `Segment.flags`, as in an ELF program header."""

_LARGEST = 1 << 30

_FLOAT_FUNCTIONS = ("floor", "ceil", "trunc", "rint", "nearbyint", "roundeven", "fma", "sqrt")
ALLOWED_EXTERNALS = frozenset(
    # What LLVM may call for operations that the processor lacks, or for copies.
    ("memcpy", "memmove", "memset", *_FLOAT_FUNCTIONS, *(f"{name}f" for name in _FLOAT_FUNCTIONS))
)

HEADER_BYTES = ctypes.sizeof(ModuleHeader)

STUB = elf.jump_stub(_IS_X86, 0)
"""Code that calls a function of the C library."""
STUB_ADDRESS = 6 if _IS_X86 else 8
"""Where the address of that function goes in it."""

# Relocations that hold wherever the image lies: all but those that store an address.
_ABSOLUTE = 1 if _IS_X86 else 257


class Segment(NamedTuple):
    """A part of the image with the same access."""

    offset: int
    """Where its first bytes lie in the file; those up to `length` are zero."""
    filled: int
    address: int
    """Where it begins in the image."""
    length: int
    flags: int


class CodeImage(NamedTuple):
    """What to do with the bytes of an image to make it code."""

    length: int
    segments: list[Segment]
    header: int
    """Where the module's header lies, with the function table behind it."""
    addresses: bytes
    """Where each own function begins, as 32-bit numbers."""
    sizes: bytes
    """How long each is."""
    externals: list[tuple[str, int]]
    """Functions of the C library, and where their addresses go."""


def numbers(packed: bytes) -> array.array[int]:
    """32-bit numbers of an image.

    Raises:
        ObjectError: they are cut off.
    """
    result = array.array("I")
    try:
        result.frombytes(packed)
    except ValueError as error:
        raise elf.ObjectError(f"damaged image: {error}") from error
    return result


def check(image: CodeImage, size: int, functions: int) -> None:
    """See whether an image can be loaded from a file of some size, for so many own functions.

    Raises:
        ObjectError: it cannot.
    """
    if image.length > _LARGEST:
        raise elf.ObjectError("the image is too large")
    table = image.header + HEADER_BYTES + 8 * functions
    held = {EXECUTE: 0, WRITE: 0}
    for segment in image.segments:
        if not 0 <= segment.offset <= segment.offset + segment.filled <= size:
            raise elf.ObjectError("a segment lies outside the file")
        if not 0 <= segment.address <= segment.address + segment.length <= image.length:
            raise elf.ObjectError("a segment lies outside the image")
        if not 0 <= segment.filled <= segment.length or segment.address % ALIGNMENT:
            raise elf.ObjectError("a segment lies at an odd address")
        if segment.flags & WRITE and segment.flags & EXECUTE:
            raise elf.ObjectError("code that can be written is not allowed")
        if segment.flags & WRITE and segment.address <= image.header:
            held[WRITE] = max(held[WRITE], segment.address + segment.length)
    addresses, sizes = numbers(image.addresses), numbers(image.sizes)
    if not 0 <= image.header <= table <= held[WRITE]:
        raise elf.ObjectError("no function table")
    if len(addresses) != functions or len(sizes) != functions:
        raise elf.ObjectError("it has other functions")
    if any(map(image.length.__lt__, map(int.__add__, addresses, sizes))):
        raise elf.ObjectError("a function lies outside the image")
    for name, _ in image.externals:
        if name not in ALLOWED_EXTERNALS:
            raise elf.ObjectError(f"code refers to {name!r}, which is not allowed")
    if not all(0 <= at <= image.length - 8 for _, at in image.externals):
        raise elf.ObjectError("an address lies outside the image")


def lay_out(objects: Sequence[bytes], functions: range) -> tuple[bytes, CodeImage]:
    """Link the objects of all units of a module: the bytes of the image, and what it is.

    Raises:
        ObjectError: one is not acceptable.
    """
    parsed = [elf.parse(data) for data in objects]
    externals = sorted({name for each in parsed for name in each.undefined} - {"functions"})
    end = HEADER_BYTES + 8 * len(functions)
    code_start = _rounded(end, ALIGNMENT)
    at = code_start
    for each in parsed:
        if any(section.writable for section in each.sections.values()):
            raise elf.ObjectError("code with writable data is not allowed")
        if any(kind == _ABSOLUTE for _, _, kind, _, _ in each.relocations):
            raise elf.ObjectError("code with absolute addresses is not allowed")
        for section in each.sections.values():
            section.address = at = _rounded(at, section.alignment)
            at += section.size
    at = _rounded(at, elf.STUB_BYTES)
    stubs = {name: at + number * elf.STUB_BYTES for number, name in enumerate(externals)}
    length = at + len(stubs) * elf.STUB_BYTES
    image = bytearray(length - code_start)
    places: dict[str, tuple[int, int]] = {}
    known = {**stubs, "functions": HEADER_BYTES}
    for each in parsed:
        places |= each.defined()
        for number, content in each.link(known).items():
            start = each.sections[number].address - code_start
            image[start : start + len(content)] = content
    for place in stubs.values():
        image[place - code_start : place - code_start + len(STUB)] = STUB
    segments = [
        Segment(0, 0, 0, code_start, READ | WRITE),
        Segment(0, len(image), code_start, len(image), READ | EXECUTE),
    ]
    addresses, sizes = find_functions(places, functions)
    slots = [(name, place + STUB_ADDRESS) for name, place in stubs.items()]
    return bytes(image), CodeImage(length, segments, 0, addresses, sizes, slots)


def find_functions(places: Mapping[str, tuple[int, int]], functions: range) -> tuple[bytes, bytes]:
    """The addresses and sizes of the module's own functions, as an image has them.

    Raises:
        ObjectError: one is not there.
    """
    try:
        found = [places[f"f{index}"] for index in functions]
    except KeyError as error:
        raise elf.ObjectError(f"the code lacks function {error}") from None
    return tuple(  # type: ignore[return-value]  # two
        struct.pack(f"<{len(found)}I", *(entry[part] for entry in found)) for part in (0, 1)
    )


def _rounded(value: int, unit: int) -> int:
    return -(-value // unit) * unit

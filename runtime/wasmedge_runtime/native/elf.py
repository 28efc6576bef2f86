"""Relocatable ELF objects: parsed, checked, and linked to the addresses where they will run.

The engine links its own objects instead of asking LLVM's run-time linker, so that a program whose
code is cached never loads LLVM, guest code lies in one known range of addresses, and closing a
module gives its memory back. Only what LLVM's small position-independent code model emits for
functions and read-only data is accepted; anything else raises `ObjectError`.

Section numbers follow the System V ABI; relocation numbers its x86-64 and the AArch64 supplements.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from typing import NamedTuple

HEADER = struct.Struct("<16sHHIQQQIHHHHHH")
SECTION = struct.Struct("<IIQQQQIIQQ")
SYMBOL = struct.Struct("<IBBHQQ")
_RELOCATION = struct.Struct("<QQq")

_ET_REL = 1
_EM_X86_64, _EM_AARCH64 = 62, 183
_SHT_PROGBITS, _SHT_SYMTAB, _SHT_STRTAB, _SHT_RELA, _SHT_NOBITS = 1, 2, 3, 4, 8
_SHF_WRITE, _SHF_ALLOC, _SHF_EXECINSTR, _SHF_TLS = 1, 2, 4, 0x400
_SHN_UNDEF, _SHN_ABS, _SHN_COMMON = 0, 0xFFF1, 0xFFF2

GUEST_SECTION = ".guest"
"""Section of guest function bodies; everything else executable is support code."""

STUB_BYTES = 16
"""Size of the jump stub through which an object calls a function of the C library."""


class ObjectError(Exception):
    """An object file that this linker does not accept; the message says why."""


class Section:
    """A section to place, by setting its `address`."""

    __slots__ = ("address", "alignment", "data", "executable", "name", "size", "writable")

    def __init__(
        self,
        name: str,
        data: bytes,
        size: int,
        alignment: int,
        executable: bool,
        writable: bool,
    ) -> None:
        self.name = name
        self.data = data
        self.size = size
        self.alignment = alignment
        self.executable = executable
        self.writable = writable
        self.address = 0

    @property
    def is_guest(self) -> bool:
        return self.executable and self.name.startswith(GUEST_SECTION)


class Symbol(NamedTuple):
    name: str
    section: int  # 0: undefined
    value: int
    size: int


class ObjectFile(NamedTuple):
    """A parsed object: sections to place by setting their `address`, then `link`."""

    machine: int
    sections: dict[int, Section]
    symbols: list[Symbol]
    relocations: list[tuple[int, int, int, int, int]]
    """(section, offset, type, symbol, addend)"""

    @property
    def undefined(self) -> list[str]:
        """Names of the external functions and variables that relocations refer to."""
        used = {symbol for _, _, _, symbol, _ in self.relocations}
        return sorted(
            {s.name for i, s in enumerate(self.symbols) if i in used and s.section == _SHN_UNDEF}
        )

    def defined(self) -> dict[str, tuple[int, int]]:
        """Name of each named symbol in a loaded section -> (address, size)."""
        return {
            s.name: (self.sections[s.section].address + s.value, s.size)
            for s in self.symbols
            if s.name and s.section in self.sections
        }

    def link(self, externals: Mapping[str, int]) -> dict[int, bytearray]:
        """Apply every relocation; gives the final bytes of each section by its number.

        `externals` maps undefined variables to their addresses, and undefined functions to those of
        their stubs; all must lie near the code.
        """
        images = {
            number: bytearray(section.data) if section.data else bytearray(section.size)
            for number, section in self.sections.items()
        }
        apply = _apply_x86_64 if self.machine == _EM_X86_64 else _apply_aarch64
        for number, offset, kind, symbol_number, addend in self.relocations:
            symbol = self.symbols[symbol_number]
            if symbol.section == _SHN_UNDEF:
                if symbol.name not in externals:
                    raise ObjectError(f"undefined symbol {symbol.name!r}")
                target = externals[symbol.name] + addend
            elif symbol.section in self.sections:
                target = self.sections[symbol.section].address + symbol.value + addend
            else:
                raise ObjectError(f"relocation against section {symbol.section}, not loaded")
            apply(images[number], offset, kind, target, self.sections[number].address + offset)
        return images


def parse(data: bytes) -> ObjectFile:
    """Read an object file; every offset and index in it is checked. Raises `ObjectError`."""
    try:
        return _parse(data)
    except (struct.error, IndexError, OverflowError, UnicodeDecodeError) as error:
        raise ObjectError(f"damaged object file: {error}") from error


def _parse(data: bytes) -> ObjectFile:
    header = HEADER.unpack_from(data)
    ident, kind, machine, section_offset, section_count = (
        header[0],
        header[1],
        header[2],
        header[6],
        header[12],
    )
    if ident[:6] != b"\x7fELF\x02\x01" or kind != _ET_REL:
        raise ObjectError("not a 64-bit little-endian relocatable ELF file")
    if machine not in (_EM_X86_64, _EM_AARCH64):
        raise ObjectError(f"unsupported machine {machine}")
    headers = [SECTION.unpack_from(data, section_offset + i * 64) for i in range(section_count)]

    def content(index: int) -> bytes:
        _, _, _, _, offset, size, *_ = headers[index]
        if offset + size > len(data):
            raise ObjectError(f"section {index} reaches beyond the file")
        return data[offset : offset + size]

    def text(table: bytes, start: int) -> str:
        end = table.find(b"\0", start)
        if start > len(table) or end < 0:
            raise ObjectError("name outside its string table")
        return table[start:end].decode()

    section_names = content(header[13])
    sections: dict[int, Section] = {}
    for index, (name, sh_type, flags, _, _, size, _, _, alignment, _) in enumerate(headers):
        if not flags & _SHF_ALLOC or size == 0:
            continue
        if sh_type not in (_SHT_PROGBITS, _SHT_NOBITS) or flags & _SHF_TLS:
            raise ObjectError(f"section {text(section_names, name)!r} has unsupported type")
        if alignment > 4096 or alignment & (alignment - 1):
            raise ObjectError(f"section {text(section_names, name)!r} has odd alignment")
        sections[index] = Section(
            text(section_names, name),
            content(index) if sh_type == _SHT_PROGBITS else b"",
            size,
            max(alignment, 1),
            bool(flags & _SHF_EXECINSTR),
            bool(flags & _SHF_WRITE),
        )
        if sh_type == _SHT_NOBITS and size > 1 << 20:
            raise ObjectError("zero-initialised section too large")

    symbols: list[Symbol] = []
    for index, (_, sh_type, _, _, _, _, link, _, _, _) in enumerate(headers):
        if sh_type != _SHT_SYMTAB:
            continue
        names = content(link)
        for name, _, _, section, value, size in SYMBOL.iter_unpack(content(index)):
            if section in sections and value + size > sections[section].size:
                raise ObjectError("symbol outside its section")
            if section == _SHN_COMMON:
                raise ObjectError("common symbols are not supported")
            symbols.append(Symbol(text(names, name), section, value, size))

    relocations: list[tuple[int, int, int, int, int]] = []
    for index, (_, sh_type, _, _, _, _, _, target, _, _) in enumerate(headers):
        if sh_type != _SHT_RELA or target not in sections:
            continue
        limit = sections[target].size
        for offset, information, addend in _RELOCATION.iter_unpack(content(index)):
            symbol = information >> 32
            if offset + 4 > limit or symbol >= len(symbols):
                raise ObjectError("relocation outside its section")
            relocations.append((target, offset, information & 0xFFFFFFFF, symbol, addend))
    return ObjectFile(machine, sections, symbols, relocations)


def _put_signed(image: bytearray, offset: int, value: int, size: int) -> None:
    bits = size * 8
    if offset + size > len(image):
        raise ObjectError("relocation outside its section")
    if not -(1 << bits - 1) <= value < 1 << bits - 1:
        raise ObjectError("relocation out of range")
    image[offset : offset + size] = value.to_bytes(size, "little", signed=True)


def _apply_x86_64(image: bytearray, offset: int, kind: int, target: int, place: int) -> None:
    if kind == 1:  # R_X86_64_64
        _put_signed(image, offset, target, 8)
    elif kind in (2, 4):  # R_X86_64_PC32, R_X86_64_PLT32
        _put_signed(image, offset, target - place, 4)
    elif kind == 24:  # R_X86_64_PC64
        _put_signed(image, offset, target - place, 8)
    else:
        raise ObjectError(f"unsupported x86-64 relocation {kind}")


_AARCH64_LOW12_SHIFT = {277: 0, 278: 0, 284: 1, 285: 2, 286: 3, 299: 4}  # ADD, LDST8..LDST128


def _apply_aarch64(image: bytearray, offset: int, kind: int, target: int, place: int) -> None:
    if kind == 257:  # R_AARCH64_ABS64
        _put_signed(image, offset, target, 8)
        return
    if kind == 260:  # R_AARCH64_PREL64
        _put_signed(image, offset, target - place, 8)
        return
    if kind == 261:  # R_AARCH64_PREL32
        _put_signed(image, offset, target - place, 4)
        return
    word = int.from_bytes(image[offset : offset + 4], "little")
    if kind in (282, 283):  # R_AARCH64_JUMP26, R_AARCH64_CALL26
        distance = target - place
        if not -(1 << 27) <= distance < 1 << 27:
            raise ObjectError("branch out of range")
        word |= distance >> 2 & 0x3FFFFFF
    elif kind == 275:  # R_AARCH64_ADR_PREL_PG_HI21
        pages = (target >> 12) - (place >> 12)
        if not -(1 << 20) <= pages < 1 << 20:
            raise ObjectError("page out of range")
        word |= (pages & 3) << 29 | (pages >> 2 & 0x7FFFF) << 5
    elif kind in _AARCH64_LOW12_SHIFT:
        word |= (target & 0xFFF) >> _AARCH64_LOW12_SHIFT[kind] << 10
    else:
        raise ObjectError(f"unsupported AArch64 relocation {kind}")
    image[offset : offset + 4] = word.to_bytes(4, "little")


def jump_stub(machine_is_x86: bool, target: int) -> bytes:
    """Code that jumps to any address, which lies behind it."""
    if machine_is_x86:
        return b"\xff\x25\0\0\0\0" + target.to_bytes(8, "little") + b"\xcc\xcc"
    # ldr x16, #8; br x16; address
    return b"\x50\0\0\x58\0\x02\x1f\xd6" + target.to_bytes(8, "little")

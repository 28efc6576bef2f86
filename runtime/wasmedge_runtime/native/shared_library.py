"""Shared libraries: the objects of a module linked by the system's linker, and read as an image.

Such a library is an ordinary ELF file, which disassemblers and profilers understand, but nobody
loads it by `dlopen`, which would run code before it can be checked: `CodeRegion.load_image` copies
its segments. So it has no dynamic relocations; the functions of the C library that LLVM uses are
jumps in it whose addresses are filled in.
"""

from __future__ import annotations

import platform
import shutil
import struct
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

from ..errors import ErrCode, WasmEdgeError
from . import elf
from .code_image import (
    ALIGNMENT,
    HEADER_BYTES,
    STUB,
    STUB_ADDRESS,
    CodeImage,
    Segment,
    find_functions,
)

_LINKERS = ("ld", "ld.bfd", "ld.lld", "ld.gold", "mold")
"""Any of them will do; the first that there is."""

_TIMEOUT_SECONDS = 600.0

_PROGRAM_HEADER = struct.Struct("<IIQQQQQQ")
_PT_LOAD = 1
_SHT_SYMTAB, _SHT_RELA, _SHT_REL = 2, 4, 9
_SHF_ALLOC = 2

_NAME_BYTES = 100
"""Of a section's name: what is longer is none of those that matter."""

_MODULE_SECTION = ".wasm"
_HEADER_SYMBOL = "wasmedge_module"


def find_linker() -> str:
    """The path of a linker.

    Raises:
        WasmEdgeError: AOTDisabled when there is none on the search path.
    """
    for name in _LINKERS:
        found = shutil.which(name)
        if found is not None:
            return found
    raise WasmEdgeError(
        ErrCode.AOTDisabled,
        "no linker: the native format needs ld, which is part of binutils; install that "
        "(apt install binutils, dnf install binutils, apk add binutils) or lld, or choose the "
        "universal format",
    )


def link(
    linker: str, wasm: bytes, objects: Sequence[bytes], functions: range
) -> tuple[bytes, CodeImage]:
    """A shared library with the code of all units of a module and with the module itself, and what
    makes it code.

    Raises:
        WasmEdgeError: the linker failed.
    """
    from ..codegen.llvm import compile_object  # whoever comes here has compiled something

    undefined = {name for data in objects for name in elf.parse(data).undefined}
    externals = sorted(undefined - {"functions"})
    with tempfile.TemporaryDirectory(prefix="wasmedge-link-") as name:
        folder = Path(name)
        (folder / "module.wasm").write_bytes(wasm)
        objects = [*objects, compile_object(_common(folder, externals, len(functions)), 0)]
        files = [folder / f"{number}.o" for number in range(len(objects))]
        for file, data in zip(files, objects, strict=True):
            file.write_bytes(data)
        output = folder / "module.so"
        options = ["-shared", "-z", "noexecstack", "-z", f"max-page-size={ALIGNMENT}"]
        try:
            done = subprocess.run(
                [linker, *options, "-o", output, *files],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                timeout=_TIMEOUT_SECONDS,
                check=False,
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            message = f"the linker {linker} failed: {error}"
            raise WasmEdgeError(ErrCode.RuntimeError, message) from error
        if done.returncode:
            said = done.stdout.decode(errors="replace").strip().rpartition("\n")[2]
            raise WasmEdgeError(ErrCode.RuntimeError, f"the linker {linker} failed: {said}")
        data = output.read_bytes()
    try:
        return data, _image(data, functions, externals)
    except (elf.ObjectError, struct.error, ValueError, LookupError) as error:
        message = f"what the linker {linker} made cannot be loaded: {error}"
        raise WasmEdgeError(ErrCode.RuntimeError, message) from error


def _common(folder: Path, externals: Sequence[str], functions: int) -> str:
    """What the units share, as IR: header and function table, jumps to the C library, the module
    itself."""
    size = HEADER_BYTES + 8 * functions
    lines = [
        f"@{_HEADER_SYMBOL} = hidden global [{size} x i8] zeroinitializer, align 16",
        f"@functions = hidden alias i8, getelementptr (i8, ptr @{_HEADER_SYMBOL}, i64 "
        f"{HEADER_BYTES})",
    ]
    assembly = [
        f'.section {_MODULE_SECTION},"",{"%" if platform.machine() == "aarch64" else "@"}progbits',
        f'.incbin "{folder / "module.wasm"}"',
        ".text",
    ]
    for name in externals:
        stub = ",".join(map(str, STUB))
        assembly += [f".hidden {name}", f".globl {name}", f".balign {elf.STUB_BYTES}"]
        assembly += [f"{name}:", f".byte {stub}"]
    escaped = (line.replace('"', "\\22") for line in assembly)
    return "\n".join([*lines, *(f'module asm "{line}"' for line in escaped)])


def module_of(data: bytes) -> bytes | None:
    """The module in a shared library that `link` made; None if there is none."""
    try:
        for name, section in _sections(data):
            if name == _MODULE_SECTION:
                return _content(data, section)
    except (struct.error, ValueError):
        return None
    return None


def _image(data: bytes, functions: range, externals: Sequence[str]) -> CodeImage:
    """What to do with a shared library to make it code."""
    places: dict[str, tuple[int, int]] = {}
    sections = _sections(data)
    for name, section in sections:
        kind, flags, size = section[1], section[2], section[5]
        if kind in (_SHT_RELA, _SHT_REL) and flags & _SHF_ALLOC and size:
            raise elf.ObjectError(f"there are relocations in {name}")
        if kind == _SHT_SYMTAB:
            names = _content(data, sections[section[6]][1])
            for start, _, _, _, value, length in elf.SYMBOL.iter_unpack(_content(data, section)):
                places[names[start : names.index(b"\0", start)].decode()] = (value, length)
    header = elf.HEADER.unpack_from(data)
    segments = []
    for number in range(header[10]):
        at = header[5] + number * _PROGRAM_HEADER.size
        kind, flags, offset, address, _, filled, length, _ = _PROGRAM_HEADER.unpack_from(data, at)
        if kind == _PT_LOAD:
            lead = address % ALIGNMENT  # of the file, too
            segments.append(
                Segment(offset - lead, filled + lead, address - lead, length + lead, flags & 7)
            )
    addresses, sizes = find_functions(places, functions)
    return CodeImage(
        max(segment.address + segment.length for segment in segments),
        segments,
        places[_HEADER_SYMBOL][0],
        addresses,
        sizes,
        [(name, places[name][0] + STUB_ADDRESS) for name in externals],
    )


def _sections(data: bytes) -> list[tuple[str, tuple[int, ...]]]:
    """The name and the header of each section."""
    header = elf.HEADER.unpack_from(data)
    start, count, names_index = header[6], header[12], header[13]
    if names_index >= count:
        return []
    if start + count * elf.SECTION.size > len(data):
        raise ValueError("the section headers reach beyond the file")
    headers = [
        elf.SECTION.unpack_from(data, start + number * elf.SECTION.size) for number in range(count)
    ]
    names = _content(data, headers[names_index])
    return [
        # Cut: thousands of sections may have the same megabytes as their name.
        (names[each[0] : each[0] + _NAME_BYTES].partition(b"\0")[0].decode(errors="replace"), each)
        for each in headers
    ]


def _content(data: bytes, section: tuple[int, ...]) -> bytes:
    offset, size = section[4:6]
    if offset + size > len(data):
        raise ValueError("a section reaches beyond the file")
    return data[offset : offset + size]

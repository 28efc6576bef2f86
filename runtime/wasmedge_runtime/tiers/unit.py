"""One unit of a module: compiled, or found in the cache."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from typing import NamedTuple

import msgpack

from .. import cache
from ..codegen.context import ContextLayout, Target, Variant
from ..configure import CompilerOptimizationLevel
from ..module import AST
from .plan import Tier

_log = logging.getLogger("wasmedge")

TARGETS = {
    Tier.BASELINE: Target(CompilerOptimizationLevel.O0),
    Tier.OPTIMIZED: Target(CompilerOptimizationLevel.O2),
}

_SPEED = {CompilerOptimizationLevel.Os: 2, CompilerOptimizationLevel.Oz: 2}
"""LLVM's optimisation levels, where they have not the same number."""

_LARGEST_OPTIMIZED = 100_000
"""Lines of IR of a function beyond which its unit is not optimised at all: at any level above 0,
LLVM's code generator needs quadratic time for a function's size."""


class UnitCode(NamedTuple):
    """An object file, with what else is known of its functions."""

    data: bytes
    functions: list[int]
    """Indices of those in it."""
    runs: list[list[bytes]]
    """Per function, when gas is measured: see `UnitTranslator.runs`."""


def unit_name(
    digest: bytes, variant: Variant, number: int, target: Target = TARGETS[Tier.OPTIMIZED]
) -> str:
    """The name of an optimised unit's entry in the cache."""
    parts = (number, *map(int, variant), *map(int, target))
    return cache.key("optimized", cache.machine(), *parts, digest)


def journal_name(digest: bytes, variant: Variant) -> str:
    """The name of the journal of a module's baseline units."""
    return cache.key("baseline", cache.machine(), *map(int, variant), digest)


def announcement_name(digest: bytes, variant: Variant) -> str:
    """The name under which a process announces that it makes a module's units."""
    return cache.key("announced", cache.machine(), *map(int, variant), digest)


def given_up_name(unit: str) -> str:
    """The name of the cache entry that says that a unit is too much for LLVM."""
    return cache.key("given up", unit)


def compile_unit(
    ast: AST,
    variant: Variant,
    layout: ContextLayout,
    target: Target,
    functions: Sequence[int],
    admit: Callable[[int], bool] | None = None,
) -> UnitCode:
    """Translate some functions of a validated module, and have LLVM compile them.

    `admit` is asked about each function that they call: whether to compile it with them.

    Raises:
        WasmEdgeError: the code is beyond a limit of the translator.
    """
    # Here: a start from the cache needs neither the translator nor LLVM.
    from ..codegen.llvm import compile_object
    from ..codegen.unit import UnitTranslator

    started = time.perf_counter()
    unit = UnitTranslator(ast, variant, layout, functions, admit)
    text = unit.text(target.level)
    translated = time.perf_counter()
    level = _SPEED.get(target.level, int(target.level))
    if unit.largest_function > _LARGEST_OPTIMIZED:
        level = 0
    data = compile_object(text, level, target.generic)
    _log.debug(
        "function %d and %d more, %s: translated in %.1f ms, compiled in %.1f ms to %d bytes",
        functions[0],
        len(unit.functions) - 1,
        target.level.name,
        (translated - started) * 1e3,
        (time.perf_counter() - translated) * 1e3,
        len(data),
    )
    return UnitCode(data, unit.functions, unit.runs if variant.gas else [])


def load_unit(name: str) -> UnitCode | None:
    """A unit from the cache, or None."""
    entry = cache.load(name)
    if entry is None:
        return None
    unit = unpack(entry)
    if unit is None:
        _log.warning("cache entry %s is not usable", name)
    return unit


def store_unit(name: str, unit: UnitCode) -> None:
    """Let later processes find a unit."""
    cache.store(name, pack(unit))


def pack(unit: UnitCode) -> bytes:
    """A unit as bytes, for the cache and between processes."""
    packed: bytes = msgpack.packb(list(unit))
    return packed


def unpack(entry: bytes) -> UnitCode | None:
    """The opposite of `pack`; None for what is not a unit."""
    try:
        data, functions, runs = msgpack.unpackb(entry)
    except (ValueError, TypeError, msgpack.UnpackException):
        return None
    fits = isinstance(data, bytes) and isinstance(functions, list) and isinstance(runs, list)
    if not fits or not all(isinstance(index, int) for index in functions):
        return None
    if not all(
        isinstance(function, list)
        and all(isinstance(run, bytes) and len(run) % 2 == 0 for run in function)
        for function in runs
    ):
        return None
    return UnitCode(data, functions, runs)

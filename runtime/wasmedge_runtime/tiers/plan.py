"""How a module is divided into units, each of which is compiled at once into one object.

Optimised units are the same in every process: neighbours in the file, which linkers put together
because they come from one source. A baseline unit begins with a function that is called, and takes
in what that calls.
"""

from __future__ import annotations

import bisect
import enum
from collections.abc import Callable

from ..module import AST


class Tier(enum.IntEnum):
    """How well code is compiled."""

    BASELINE = 0
    """As fast as possible, when a function is first called."""
    OPTIMIZED = 1


_BASELINE_BYTES = 4_800
"""Bytes of bodies in a baseline unit, if it has more than one function: about 2,000 instructions.
Each run of LLVM costs as much as some 120. Half or twice as many made no difference."""

_OPTIMIZED_BYTES = 40_000
"""The same of an optimised unit. Large: calls within one are direct, and can be inlined. Not
larger: it is what helpers share, and what is lost when one is stopped."""

_SMALL_BYTES = 1_000
"""Modules with less code than this are optimised at once: it takes hardly longer than baseline."""


class Plan:
    """The units of a module."""

    def __init__(self, ast: AST) -> None:
        self._first = ast.imported_functions
        self._sizes = [body.end - body.start for body in ast.bodies]
        self.optimized = _gather(self._sizes, self._first)
        """Ranges of the function index space."""
        self._starts = [unit.start for unit in self.optimized]
        self.is_small = sum(self._sizes) < _SMALL_BYTES
        """Whether the baseline tier does not pay."""

    def unit_of(self, function: int) -> int:
        """The number of the optimised unit that has a function."""
        return bisect.bisect_right(self._starts, function) - 1

    def admission(self, function: int, has_code: Callable[[int], bool]) -> Callable[[int], bool]:
        """Which of the functions that it calls, directly or not, belong into the baseline unit of a
        function."""
        filled = self._sizes[function - self._first]

        def admit(callee: int) -> bool:
            nonlocal filled
            size = self._sizes[callee - self._first]
            if filled + size > _BASELINE_BYTES or has_code(callee):
                return False
            filled += size
            return True

        return admit


def _gather(sizes: list[int], first: int) -> list[range]:
    units: list[range] = []
    filled = 0
    for index, size in enumerate(sizes, first):
        if units and filled + size <= _OPTIMIZED_BYTES:
            units[-1] = range(units[-1].start, index + 1)
            filled += size
        else:
            units.append(range(index, index + 1))
            filled = size
    return units

"""How the code of a module stands."""

from __future__ import annotations

import enum
from collections.abc import Callable
from typing import NamedTuple


class CodeState(enum.StrEnum):
    """The tier of a module's code, as a whole."""

    BASELINE = "baseline"
    """Functions are compiled quickly when they are first called; nobody optimises them."""
    OPTIMIZING = "optimizing"
    """The same, while helper processes optimise."""
    OPTIMIZED = "optimized"
    """All functions have optimised code, now or as soon as they are called."""
    PRECOMPILED = "precompiled"
    """All functions have the code that was in the file, at the level that it was compiled at."""


class CodeStatus(NamedTuple):
    """How the code of a module stands; counts are of functions that the module defines."""

    state: CodeState
    functions: int
    baseline: int
    """Functions that run baseline code."""
    optimized: int
    """Functions whose optimised code, or code from the file, is there."""
    from_cache: bool
    """Whether this process has compiled nothing of it, nor had it compiled."""

    def __str__(self) -> str:
        done = f"{self.optimized} of {self.functions} functions optimized"
        return f"{self.state}, {done}{', from cache' if self.from_cache else ''}"


Progress = Callable[[CodeStatus], None]
"""What is told now and then how far optimising has come."""

"""The states of a `VM`, apart from it: a parent process needs the names without the engine."""

from __future__ import annotations

from enum import Enum, IntEnum

__all__ = ["VMState"]


class VMState(IntEnum):
    """How far a VM has come; each step needs the one before it."""

    INITED = 0
    LOADED = 1
    VALIDATED = 2
    INSTANTIATED = 3

    __str__ = Enum.__str__

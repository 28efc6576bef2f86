"""The worker's side of references: stand-ins for the parent's objects."""

from __future__ import annotations

import struct
import weakref
from collections.abc import Sequence
from typing import Any

from wasmedge_pool.messages import (
    FLOAT,
    FUNCTION,
    INTEGER,
    MAX_ARRAY,
    OBJECT,
    SCALARS,
    HostReply,
    RegisterImport,
    Unreferenced,
    Value,
)
from wasmedge_runtime.types import ExternType
from wasmedge_runtime.values import ExternRef, FuncRef

__all__ = ["ExternObject", "Objects"]

_MASK64 = (1 << 64) - 1
_pack_float = struct.Struct(">d").pack


class ExternObject:
    """Stands for an object of the parent. What refers to it keeps that alive."""

    __slots__ = ("__weakref__", "_dropped", "number")

    def __init__(self, number: int, dropped: list[int]) -> None:
        self.number = number
        self._dropped = dropped

    def __del__(self) -> None:
        self._dropped.append(self.number)

    def __repr__(self) -> str:  # in messages about arguments
        return "an object of the calling process"


class Objects:
    """The stand-ins of this process: one for each object while anything refers to it."""

    def __init__(self) -> None:
        self._living: weakref.WeakValueDictionary[int, ExternObject] = weakref.WeakValueDictionary()
        self._arrived: dict[int, int] = {}
        self.dropped: list[int] = []
        """Numbers of stand-ins that are gone."""

    def arrive(self, message: Any) -> list[ExternObject]:
        """Count the objects in a message, each time that it is there.

        Returns:
            Their stand-ins, to be kept until `get` has been asked for them.
        """
        found: list[ExternObject] = []
        values = _values(message)
        if SCALARS.issuperset(map(type, values)):
            return found
        for value in values:
            if type(value) is tuple and value[0] == OBJECT:
                number = value[1]
                self._arrived[number] = self._arrived.get(number, 0) + 1
                one = self._living.get(number)
                if one is None:
                    one = self._living[number] = ExternObject(number, self.dropped)
                found.append(one)
        return found

    def get(self, number: int) -> ExternObject:
        """The stand-in for an object that has arrived."""
        return self._living[number]

    def reference(self, value: Any) -> Value:
        """The pair for a reference that leaves for the parent.

        Raises:
            TypeError: it refers to an object of this process.
        """
        if isinstance(value, FuncRef):
            return FUNCTION, value.index
        if isinstance(value, ExternRef):
            value = value.value
        if isinstance(value, ExternObject):
            return OBJECT, value.number
        if type(value) is int:
            return INTEGER, value & _MASK64
        if type(value) is float:
            return FLOAT, int.from_bytes(_pack_float(value), "big")
        raise TypeError(
            f"a reference to an object of the worker (a {type(value).__name__}) cannot leave it"
        )

    def unreferenced(self) -> list[Unreferenced]:
        """Messages that say what is gone, since the last time."""
        numbers = self.dropped[:]
        del self.dropped[: len(numbers)]
        pairs = [
            (number, self._arrived.pop(number))
            for number in dict.fromkeys(numbers)
            if number not in self._living and number in self._arrived
        ]
        return [
            Unreferenced(tuple(pairs[start : start + MAX_ARRAY // 4]))
            for start in range(0, len(pairs), MAX_ARRAY // 4)
        ]


def _values(message: Any) -> Sequence[Value]:
    """The values in a message of the parent."""
    if isinstance(message, HostReply):
        return message.values
    if isinstance(message, RegisterImport):
        values: list[Value] = []
        for _, kind, fields in message.exports:
            if kind == ExternType.TABLE:
                values += [value for _, value in fields[3]]
            elif kind == ExternType.GLOBAL:
                values.append(fields[2])
        return values
    return getattr(message, "arguments", ())

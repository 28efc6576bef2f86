"""The worker's side of references: stand-ins for the parent's objects."""

from __future__ import annotations

import weakref
from typing import Any

from wasmedge_pool.messages import FUNCTION, MAX_ARRAY, OBJECT, Unreferenced, Value
from wasmedge_runtime.values import ExternRef, FuncRef

__all__ = ["ExternObject", "Objects"]


class ExternObject:
    """Stands for an object of the parent. What refers to it keeps that alive."""

    __slots__ = ("__weakref__", "_dropped", "number")

    def __init__(self, number: int, dropped: list[int]) -> None:
        self.number = number
        self._dropped = dropped

    def __del__(self) -> None:
        self._dropped.append(self.number)


class Objects:
    """The stand-ins of this process: one for each object while anything refers to it."""

    def __init__(self) -> None:
        self._living: weakref.WeakValueDictionary[int, ExternObject] = weakref.WeakValueDictionary()
        self._arrived: dict[int, int] = {}
        self.dropped: list[int] = []
        """Numbers of stand-ins that are gone."""

    def get(self, number: int) -> ExternObject:
        """The stand-in for an object whose number has arrived."""
        self._arrived[number] = self._arrived.get(number, 0) + 1
        found = self._living.get(number)
        if found is None:
            found = self._living[number] = ExternObject(number, self.dropped)
        return found

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

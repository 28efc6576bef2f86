"""What both engines must agree on, as text: values, traps, the host functions they call."""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Callable


def describe(kind: str, value: object) -> str:
    """A value of a type as text, by its bits.

    All NaNs of 32 bits are one: wasmtime-py passes them through a C conversion that changes them.
    References count as null or not: they have no value that two engines could share.
    """
    if isinstance(value, float) and kind == "f32":
        return "f32:nan" if value != value else f"f32:{value.hex()}"
    if isinstance(value, float):
        return f"f64:{struct.pack('>d', value).hex()}"
    if isinstance(value, int):
        return f"{kind}:{value}"
    return f"{kind}:{'null' if value is None else 'reference'}"


def describe_memory(pages: int, data: bytes | bytearray) -> str:
    """A memory's size and a digest of its content."""
    return f"{pages} pages, {hashlib.sha256(data).hexdigest()}"


class Host:
    """The host functions of `smith.IMPORTS`; their calls are noted."""

    def __init__(self, calls: list[str]) -> None:
        self._calls = calls

    def functions(self) -> dict[str, Callable[..., int | float | tuple[int, int] | None]]:
        """The functions by name."""
        return {"i": self._i, "l": self._l, "f": self._f, "v": self._v, "m": self._m}

    def _i(self, x: int) -> int:
        self._note("i", ("i32", x))
        return x ^ 0x5A5A

    def _l(self, a: int, b: float) -> int:
        self._note("l", ("i64", a), ("f64", b))
        return a if b < 0 else ~a

    def _f(self, x: float) -> float:
        self._note("f", ("f32", x))
        return 1.5 if x != x else x

    def _v(self, x: int, y: int) -> None:
        self._note("v", ("i32", x), ("i64", y))

    def _m(self, x: int) -> tuple[int, int]:
        self._note("m", ("i32", x))
        return x, x << 31

    def _note(self, name: str, *arguments: tuple[str, object]) -> None:
        self._calls.append(f"{name}({', '.join(describe(*argument) for argument in arguments)})")

"""Values that Python has no type for: vectors, references, integers of a marked width."""

from __future__ import annotations

import itertools
import operator
from typing import TYPE_CHECKING, Any, ClassVar, Self, SupportsIndex

from wasmedge_runtime.closable import Closable
from wasmedge_runtime.errors import closed_error

if TYPE_CHECKING:
    from wasmedge_runtime.function import Function

__all__ = ["I32", "I64", "V128", "ExternRef", "FuncRef"]

_MASK64 = (1 << 64) - 1


class _Width(int):
    _bits: ClassVar[int]

    def __new__(cls, value: SupportsIndex = 0) -> Self:
        number = super().__new__(cls, operator.index(value))  # int() would cut floats
        if not -(1 << (cls._bits - 1)) <= number < 1 << cls._bits:
            raise OverflowError(
                f"{int(number)} is outside the range of {cls.__name__.lower()}: "
                f"{-(1 << (cls._bits - 1))} to {(1 << cls._bits) - 1}"
            )
        return number

    def __repr__(self) -> str:
        return f"{type(self).__name__}({int(self)})"


class I32(_Width):
    """An int marked as 32 bits wide, for places where no type says so.

    Raises:
        OverflowError: outside -2**31 to 2**32 - 1.
    """

    _bits = 32


class I64(_Width):
    """An int marked as 64 bits wide, for places where no type says so.

    Raises:
        OverflowError: outside -2**63 to 2**64 - 1.
    """

    _bits = 64


class V128:
    """A 128-bit vector as two unsigned 64-bit halves; immutable, compares by value.

    Raises:
        TypeError: a half is not an int.
        OverflowError: a half is outside 0 to 2**64 - 1.
    """

    __slots__ = ("_high", "_low")

    def __init__(self, high: int, low: int) -> None:
        for name, half in (("high", high), ("low", low)):
            if not isinstance(half, int):
                raise TypeError(f"V128 {name} must be an int, not {type(half).__name__}")
            if not 0 <= half <= _MASK64:
                raise OverflowError(f"V128 {name} is outside 0 to 2**64 - 1: {half}")
        self._high = high
        self._low = low

    @classmethod
    def from_bytes(cls, data: bytes | bytearray | memoryview) -> Self:
        """Make a vector from its 16 bytes in memory order (little-endian).

        Raises:
            ValueError: not exactly 16 bytes.
        """
        data = bytes(data)
        if len(data) != 16:
            raise ValueError(f"V128 needs exactly 16 bytes, not {len(data)}")
        bits = int.from_bytes(data, "little")
        return cls(bits >> 64, bits & _MASK64)

    @property
    def high(self) -> int:
        """Bits 64 to 127, unsigned."""
        return self._high

    @property
    def low(self) -> int:
        """Bits 0 to 63, unsigned."""
        return self._low

    def __bytes__(self) -> bytes:
        return (self._high << 64 | self._low).to_bytes(16, "little")

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, V128):
            return NotImplemented
        return self._low == other._low and self._high == other._high

    def __hash__(self) -> int:
        return hash((self._high, self._low))

    def __reduce__(self) -> tuple[type[V128], tuple[int, int]]:
        return type(self), (self._high, self._low)

    def __repr__(self) -> str:
        return f"V128({self._high:#018x}, {self._low:#018x})"


class FuncRef:
    """A reference to a function (specification 2.3.3); the null reference is None.

    `FuncRef(index)` names a function by its index. One that comes from a call, a table or a
    `Function` also has the `function` itself, and then that is what it refers to.

    Raises:
        TypeError: `index` is not an int.
        ValueError: `index` is outside 0 to 2**32 - 1.
    """

    __slots__ = ("_function", "_index")

    def __init__(self, index: int, _function: Function | None = None) -> None:
        if not isinstance(index, int):
            raise TypeError(f"FuncRef index must be an int, not {type(index).__name__}")
        if not 0 <= index < 1 << 32:
            raise ValueError(f"FuncRef index is outside 0 to 2**32 - 1: {index}")
        self._index = index
        self._function = _function

    @property
    def index(self) -> int:
        """The function's index."""
        return self._index

    @property
    def function(self) -> Function | None:
        """The function this reference was taken from, None when it was made from an index."""
        return self._function

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, FuncRef):
            return NotImplemented
        if self._index != other._index:
            return False
        # Equal indices of two modules are two functions; an index alone matches either.
        one, two = self._function, other._function
        return one is None or two is None or one == two

    def __hash__(self) -> int:
        return hash(self._index)

    def __repr__(self) -> str:
        return f"FuncRef({self._index})"


_handles = itertools.count(1)


class ExternRef(Closable):
    """A reference to a Python object that can be handed to a guest; null is None.

    It lives until `close()`, or until the store it was passed into ends. The guest sees a number
    that is unique in this process and never used again, so a guest that keeps a dead reference
    gets an error, not another object.
    """

    __slots__ = ("__weakref__", "_closed", "_handle", "_value")

    def __init__(self, value: Any) -> None:
        self._value = value
        self._closed = False
        self._handle = next(_handles)  # atomic in CPython; 0 is the null reference

    @property
    def value(self) -> Any:
        """The object.

        Raises:
            WasmEdgeError: this reference was closed.
        """
        if self._closed:
            raise closed_error(self)
        return self._value

    def _release(self) -> None:
        self._value = None

    def __repr__(self) -> str:
        return "ExternRef(closed)" if self._closed else f"ExternRef({self._value!r})"

"""Types of WebAssembly entities, as values.

All classes here are immutable, compare and hash by value, and own no resources: `close()` exists
because the reference releases types, and does nothing. Structure: specification section 2.3.
The enums' numbers are the codes of the binary format (section 5.3).
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import IntEnum
from types import TracebackType
from typing import Any, ClassVar, Self, TypeAlias, dataclass_transform

__all__ = [
    "ExportType",
    "ExternType",
    "ExternalValue",
    "FunctionType",
    "GlobalType",
    "ImportType",
    "Limit",
    "MemoryType",
    "RefType",
    "TableType",
    "ValMut",
    "ValType",
]


class _Code(IntEnum):
    """An enum of binary-format codes that prints as the text format's keyword."""

    def __str__(self) -> str:
        return self.name.lower()

    def __format__(self, spec: str) -> str:
        # IntEnum formats as its number; only an explicit specification ("#x") asks for that here.
        return format(int(self), spec) if spec else str(self)


class ValType(_Code):
    """The type of a value on the stack (specification 2.3.4)."""

    I32 = 0x7F
    I64 = 0x7E
    F32 = 0x7D
    F64 = 0x7C
    V128 = 0x7B
    FUNCREF = 0x70
    EXTERNREF = 0x6F


class RefType(_Code):
    """The type of a reference, and so of a table's elements (specification 2.3.3)."""

    FUNCREF = 0x70
    EXTERNREF = 0x6F


class ValMut(_Code):
    """Whether a global can be written (specification 2.3.10)."""

    CONST = 0
    VAR = 1


class ExternType(_Code):
    """The kind of an import or export (specification 2.3.11)."""

    FUNCTION = 0
    TABLE = 1
    MEMORY = 2
    GLOBAL = 3


class _Value:
    """What the reference releases and Python does not need to: a context manager without effect."""

    __slots__ = ()

    def close(self) -> None:
        """Do nothing: a type owns no resources. Here because the reference has `Release`."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()


@dataclass_transform(frozen_default=True)
class _Record:
    """A value with named parts that cannot be changed, declared as a data class is. `dataclasses`
    itself takes as long to import, with what that needs, as a fifth of the engine."""

    _names: ClassVar[tuple[str, ...]]

    _defaults: ClassVar[dict[str, object]]

    def __init_subclass__(cls) -> None:
        cls._names = tuple(cls.__annotations__)
        cls._defaults = {name: getattr(cls, name) for name in cls._names if hasattr(cls, name)}
        cls.__match_args__ = cls._names  # type: ignore[attr-defined, misc]  # as a data class has

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        given = dict(zip(self._names, args, strict=False))
        values = self._defaults | given | kwargs
        twice = len(given) < len(args) or given.keys() & kwargs.keys()
        if twice or values.keys() != set(self._names):
            parts = ", ".join(self._names)
            raise TypeError(f"{type(self).__name__} takes {parts}; wrong are {args}, {kwargs}")
        self.__dict__.update(values)
        self._check()

    def _check(self) -> None:
        """Raise for parts that are not what they must be."""

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(f"a {type(self).__name__} cannot be changed")

    def __delattr__(self, name: str) -> None:
        raise AttributeError(f"a {type(self).__name__} cannot be changed")

    def _values(self) -> tuple[object, ...]:
        return tuple(getattr(self, name) for name in self._names)

    def __eq__(self, other: object) -> bool:
        if type(other) is not type(self):
            return NotImplemented
        return self._values() == other._values()

    def __hash__(self) -> int:
        return hash(self._values())

    def __repr__(self) -> str:
        parts = ", ".join(f"{name}={getattr(self, name)!r}" for name in self._names)
        return f"{type(self).__name__}({parts})"


def _check_size(name: str, value: object) -> None:
    if not isinstance(value, int):
        raise TypeError(f"Limit {name} must be an int, not {type(value).__name__}")
    if value < 0:
        raise ValueError(f"Limit {name} must not be negative: {value}")


class Limit(_Record):
    """The size range of a table (in elements) or a memory (in pages of 64 KiB).

    `max` is None where growth has no declared bound. A minimum above the maximum can be written
    down, because a module can say so; the Validator, `Table` and `Memory` refuse it.
    Specification 2.3.7.

    Raises:
        TypeError: a bound is not an int.
        ValueError: a bound is negative.
    """

    min: int
    max: int | None = None

    def _check(self) -> None:
        _check_size("min", self.min)
        if self.max is not None:
            _check_size("max", self.max)

    @property
    def has_max(self) -> bool:
        """Whether a maximum was declared."""
        return self.max is not None


_VAL_TYPES: dict[int, ValType] = {int(t): t for t in ValType}


def _result_type(what: str, types: Iterable[ValType]) -> tuple[ValType, ...]:
    try:
        return tuple([_VAL_TYPES[t] for t in types])
    except (KeyError, TypeError):
        raise TypeError(f"{what} must be an iterable of ValType, not {types!r}") from None


class FunctionType(_Value):
    """The parameters and results of a function (specification 2.3.6).

    Raises:
        TypeError: `parameters` or `returns` is not an iterable of `ValType`.
    """

    # Written by hand: function types are compared at every import and hashed at every lookup of a
    # trampoline, so the hash is computed once and equality tries identity first.
    __slots__ = ("_hash", "_parameters", "_returns")

    def __init__(self, parameters: Iterable[ValType] = (), returns: Iterable[ValType] = ()) -> None:
        self._parameters = _result_type("parameters", parameters)
        self._returns = _result_type("returns", returns)
        self._hash = hash((self._parameters, self._returns))

    @property
    def parameters(self) -> tuple[ValType, ...]:
        """The types of the parameters, in order."""
        return self._parameters

    @property
    def returns(self) -> tuple[ValType, ...]:
        """The types of the results, in order."""
        return self._returns

    def __eq__(self, other: object) -> bool:
        if self is other:
            return True
        if not isinstance(other, FunctionType):
            return NotImplemented
        return self._parameters == other._parameters and self._returns == other._returns

    def __hash__(self) -> int:
        return self._hash

    def __reduce__(self) -> tuple[type[FunctionType], tuple[tuple[ValType, ...], ...]]:
        return FunctionType, (self._parameters, self._returns)

    def __str__(self) -> str:
        parameters = ", ".join(map(str, self._parameters))
        returns = ", ".join(map(str, self._returns))
        return f"({parameters}) -> ({returns})"

    def __repr__(self) -> str:
        parameters = ", ".join(f"ValType.{t.name}" for t in self._parameters)
        returns = ", ".join(f"ValType.{t.name}" for t in self._returns)
        return f"FunctionType([{parameters}], [{returns}])"


class TableType(_Record, _Value):
    """The element type and size range of a table (specification 2.3.9)."""

    ref_type: RefType
    limit: Limit


class MemoryType(_Record, _Value):
    """The size range of a memory, in pages of 64 KiB (specification 2.3.8)."""

    limit: Limit


class GlobalType(_Record, _Value):
    """The value type and mutability of a global (specification 2.3.10)."""

    val_type: ValType
    mutability: ValMut


ExternalValue: TypeAlias = FunctionType | TableType | MemoryType | GlobalType


class ImportType(_Record, _Value):
    """One import of a module: its two names and the type it needs (specification 2.5.11)."""

    external_type: ExternType
    module_name: str
    external_name: str
    external_value: ExternalValue


class ExportType(_Record, _Value):
    """One export of a module: its name and type (specification 2.5.10)."""

    external_type: ExternType
    external_name: str
    external_value: ExternalValue

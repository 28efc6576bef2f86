"""Types of entities are immutable values."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable

import pytest

from wasmedge_runtime import (
    ExportType,
    ExternType,
    FunctionType,
    GlobalType,
    ImportType,
    Limit,
    MemoryType,
    RefType,
    TableType,
    ValMut,
    ValType,
)

FT = FunctionType([ValType.I32, ValType.I64], [ValType.F32])

Make = Callable[[], object]

# Pairs of makers of different values.
PAIRS: list[tuple[Make, Make]] = [
    (lambda: Limit(1), lambda: Limit(1, 1)),
    (lambda: FunctionType([ValType.I32]), lambda: FunctionType([], [ValType.I32])),
    (
        lambda: TableType(RefType.FUNCREF, Limit(1)),
        lambda: TableType(RefType.EXTERNREF, Limit(1)),
    ),
    (lambda: MemoryType(Limit(1)), lambda: MemoryType(Limit(2))),
    (
        lambda: GlobalType(ValType.I32, ValMut.CONST),
        lambda: GlobalType(ValType.I32, ValMut.VAR),
    ),
    (
        lambda: ImportType(ExternType.FUNCTION, "m", "f", FT),
        lambda: ImportType(ExternType.FUNCTION, "m", "g", FT),
    ),
    (
        lambda: ExportType(ExternType.FUNCTION, "f", FT),
        lambda: ExportType(ExternType.MEMORY, "f", MemoryType(Limit(1))),
    ),
]
IDS = [type(one()).__name__ for one, _ in PAIRS]


@pytest.mark.parametrize(("one", "other"), PAIRS, ids=IDS)
def test_types_compare_and_hash_by_value(one: Make, other: Make) -> None:
    assert one() == one()
    assert hash(one()) == hash(one())
    assert one() != other()
    assert len({one(), one(), other()}) == 2


@pytest.mark.parametrize("make", [one for one, _ in PAIRS], ids=IDS)
def test_types_cannot_be_changed(make: Make) -> None:
    value = make()
    for name in [n for n in dir(value) if not n.startswith("_") and n != "close"]:
        with pytest.raises(AttributeError):
            setattr(value, name, None)
    assert value == make()


@pytest.mark.parametrize("make", [one for one, _ in PAIRS], ids=IDS)
def test_types_survive_copying_and_pickling(make: Make) -> None:
    assert copy.deepcopy(make()) == make()
    assert pickle.loads(pickle.dumps(make())) == make()


def test_a_type_of_another_class_is_different() -> None:
    values: list[object] = [MemoryType(Limit(1)), Limit(1), FunctionType(), ((), ()), 1]
    assert all((a == b) == (a is b) for a in values for b in values)


def test_a_closed_type_stays_usable_because_it_is_a_value() -> None:
    with FunctionType([ValType.I32]) as function_type:
        pass
    function_type.close()
    assert function_type.parameters == (ValType.I32,)


def test_limit_tells_whether_there_is_a_maximum() -> None:
    assert (Limit(12).min, Limit(12).max, Limit(12).has_max) == (12, None, False)
    assert (Limit(15, 50).min, Limit(15, 50).max, Limit(15, 50).has_max) == (15, 50, True)
    assert Limit(0, 0).has_max


def test_limit_refuses_what_is_not_a_size() -> None:
    with pytest.raises(ValueError, match="Limit min must not be negative: -1"):
        Limit(-1)
    with pytest.raises(ValueError, match="Limit max must not be negative: -2"):
        Limit(1, -2)
    with pytest.raises(TypeError, match="Limit min must be an int, not float"):
        Limit(1.0)  # type: ignore[arg-type]


def test_function_type_gives_tuples_of_value_types() -> None:
    function_type = FunctionType([ValType.EXTERNREF, ValType.I32], iter([ValType.F64]))
    assert function_type.parameters == (ValType.EXTERNREF, ValType.I32)
    assert function_type.returns == (ValType.F64,)


def test_function_type_takes_codes_and_reference_types_as_value_types() -> None:
    function_type = FunctionType([RefType.FUNCREF, 0x7F])  # type: ignore[list-item]
    assert [type(t) for t in function_type.parameters] == [ValType, ValType]


@pytest.mark.parametrize("parameters", [5, [1], ["i32"], [None], ["", []]])
def test_function_type_refuses_what_is_not_a_list_of_types(parameters: object) -> None:
    with pytest.raises(TypeError, match="parameters must be an iterable of ValType"):
        FunctionType(parameters)  # type: ignore[arg-type]


def test_function_type_prints_like_a_signature_and_represents_as_its_expression() -> None:
    assert str(FT) == "(i32, i64) -> (f32)"
    assert str(FunctionType()) == "() -> ()"
    assert eval(repr(FT)) == FT


def test_enums_have_the_codes_of_the_binary_format_and_print_as_the_text_format() -> None:
    assert [int(t) for t in ValType] == [0x7F, 0x7E, 0x7D, 0x7C, 0x7B, 0x70, 0x6F]
    assert [int(t) for t in RefType] == [0x70, 0x6F]
    assert [int(m) for m in ValMut] == [0, 1]
    assert [int(e) for e in ExternType] == [0, 1, 2, 3]
    assert f"{ValType.V128} {RefType.FUNCREF!s:>8} {ExternType.MEMORY}" == "v128  funcref memory"
    assert f"{ValType.I32:#x}" == "0x7f"


def test_import_and_export_types_have_names_and_the_external_value() -> None:
    imported = ImportType(ExternType.FUNCTION, "extern", "func-add", FT)
    assert imported.external_type is ExternType.FUNCTION
    assert (imported.module_name, imported.external_name) == ("extern", "func-add")
    assert imported.external_value == FT
    exported = ExportType(ExternType.MEMORY, "memory", MemoryType(Limit(1)))
    assert exported.external_type is ExternType.MEMORY
    assert exported.external_name == "memory"
    assert exported.external_value == MemoryType(Limit(1))


def test_parts_are_given_by_position_or_by_name_and_all_of_them() -> None:
    assert TableType(limit=Limit(1), ref_type=RefType.FUNCREF) == TableType(
        RefType.FUNCREF, limit=Limit(1, max=None)
    )
    assert repr(MemoryType(Limit(1, 2))) == "MemoryType(limit=Limit(min=1, max=2))"
    make: Callable[..., object] = Limit
    for args, kwargs in (((), {}), ((1, 2, 3), {}), ((1,), {"min": 1}), ((1,), {"most": 2})):
        with pytest.raises(TypeError, match="Limit takes min, max"):
            make(*args, **kwargs)
    match Limit(3, 4):
        case Limit(least, most):
            assert (least, most) == (3, 4)

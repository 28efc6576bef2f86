"""Functions: calls with arguments and results of all types, and host functions."""

from __future__ import annotations

import functools
import inspect
import itertools
import math
import struct
import sys
from typing import Any

import pytest

from tests.runtime.engine import EXTERNREF, F32, F64, FUNCREF, I32, I64, Engine, output_of
from tests.runtime.engine import V128 as V128_TYPE
from wasmedge_runtime import (
    I32 as I32Value,
)
from wasmedge_runtime import (
    V128,
    ErrCode,
    Fail,
    Function,
    FunctionType,
    HostFunctionError,
    Memory,
    Terminate,
    Trap,
    WasmEdgeError,
)

ECHO: dict[Any, list[Any]] = {
    I32: [0, 1, -1, 2**31 - 1, -(2**31)],
    I64: [0, -1, 2**63 - 1, -(2**63)],
    F32: [0.0, -0.0, 1.5, math.inf, -math.inf],
    F64: [0.0, -0.0, 0.1, math.inf, 5e-324],
    V128_TYPE: [V128(0, 0), V128(1, 2), V128(2**64 - 1, 2**63)],
}


def names(kinds: list[Any]) -> str:
    return " ".join(kind.name.lower() for kind in kinds)


@pytest.mark.parametrize("kind", ECHO)
@pytest.mark.parametrize("through", ["guest", "host"])
def test_values_of_each_type_come_back_as_they_were(kind: Any, through: str) -> None:
    engine = Engine()
    seen = []

    def host(data: object, memory: object, value: Any) -> Any:
        seen.append(value)
        return value

    engine.host(echo=([kind], [kind], host))
    name = names([kind])
    body = "(local.get 0)" if through == "guest" else "(call $echo (local.get 0))"
    engine.instantiate(
        f"""(module (import "host" "echo" (func $echo (param {name}) (result {name})))
          (func (export "f") (param {name}) (result {name}) {body}))"""
    )
    for value in ECHO[kind]:
        [result] = engine.call("f", value)
        assert type(result) is type(value)
        assert result == value
        assert str(result) == str(value)  # the sign of zero
        if through == "host":
            assert str(seen[-1]) == str(value)


def f64(bits: int) -> float:
    number: float = struct.unpack("<d", struct.pack("<Q", bits))[0]
    return number


def bits(number: float) -> int:
    found: int = struct.unpack("<Q", struct.pack("<d", number))[0]
    return found


@pytest.mark.parametrize(
    "nan",
    [0x7FF8000000000000, 0xFFF8000000000000, 0x7FF0000020000000, 0xFFF4000040000000],
)
@pytest.mark.parametrize("kind", [F32, F64])
@pytest.mark.parametrize("through", ["guest", "host"])
def test_nans_keep_sign_payload_and_signalling(nan: int, kind: Any, through: str) -> None:
    engine = Engine()
    engine.host(echo=([kind], [kind], lambda data, memory, value: value))
    name = names([kind])
    body = "(local.get 0)" if through == "guest" else "(call $echo (local.get 0))"
    engine.instantiate(
        f"""(module (import "host" "echo" (func $echo (param {name}) (result {name})))
          (func (export "f") (param {name}) (result {name}) {body}))"""
    )
    [result] = engine.call("f", f64(nan))
    assert bits(result) == nan


@pytest.mark.parametrize(
    ("kind", "given", "result"),
    [
        (I32, 0xFFFFFFFF, -1),
        (I32, True, 1),
        (I32, I32Value(7), 7),
        (I64, 2**64 - 1, -1),
        (F32, 0.1, 0.10000000149011612),
        (F32, 1e300, math.inf),
        (F64, 7, 7.0),
        (F32, 16777217, 16777216.0),
    ],
)
def test_arguments_are_converted_by_the_type_of_the_function(
    kind: Any, given: Any, result: Any
) -> None:
    engine = Engine()
    name = names([kind])
    function = engine.exports(
        f'(module (func (export "f") (param {name}) (result {name}) (local.get 0)))'
    )["f"]
    assert function(given) == [result]
    host = Function(FunctionType([kind], [kind]), lambda data, memory, value: value)
    assert host(given) == [result]


@pytest.mark.parametrize(
    ("kind", "given", "error"),
    [
        (I32, 1 << 32, OverflowError),
        (I32, -(1 << 31) - 1, OverflowError),
        (I64, 1 << 64, OverflowError),
        (I32, 1.0, TypeError),
        (I32, "1", TypeError),
        (I32, None, TypeError),
        (F64, "1", TypeError),
        (F64, 10**400, OverflowError),
        (V128_TYPE, 1, TypeError),
        (FUNCREF, 1, TypeError),
    ],
)
def test_wrong_arguments_name_their_position(kind: Any, given: Any, error: type[Exception]) -> None:
    engine = Engine()
    name = names([kind])
    exports = engine.exports(
        f"""(module (func (export "f") (param i32 {name}))
          (func (export "one") (result i32) (i32.const 1)))"""
    )
    with pytest.raises(error) as caught:
        exports["f"](1, given)
    if kind != FUNCREF:
        assert str(caught.value).startswith("argument 2: ")
    assert exports["one"]() == [1]


def test_a_wrong_number_of_arguments_is_a_mismatch() -> None:
    engine = Engine()
    exports = engine.exports(
        '(module (func (export "two") (param i32 i32)) (func (export "none")))'
    )
    calls: list[Any] = [
        lambda: exports["two"](1),
        lambda: exports["two"](1, 2, 3),
        lambda: exports["none"](1),
        lambda: engine.call("two"),
        lambda: Function(FunctionType([I32], []), lambda data, memory, n: None)(),
    ]
    for call in calls:
        with pytest.raises(WasmEdgeError, match="function signature mismatch") as caught:
            call()
        assert caught.value.code is ErrCode.FuncSigMismatch


@pytest.mark.parametrize("count", [0, 1, 2, 3, 16, 200])
def test_any_number_of_parameters_and_results(count: int) -> None:
    engine = Engine()
    kinds = [(I32, I64, F64, V128_TYPE, F32)[i % 5] for i in range(count)]
    values = [ECHO[kind][i % 3] for i, kind in enumerate(kinds)]
    engine.host(echo=(kinds, kinds, lambda data, memory, *args: args[0] if count == 1 else args))
    signature = f"(param {names(kinds)}) (result {names(kinds)})"
    get = "".join(f"(local.get {i})" for i in range(count))
    engine.instantiate(
        f"""(module (import "host" "echo" (func $echo {signature}))
          (func (export "guest") {signature} {get})
          (func (export "host") {signature} (call $echo {get}))
          (func $inner {signature} {get})
          (func (export "nested") {signature} (call $inner {get})))"""
    )
    for name in ("guest", "host", "nested"):
        assert engine.call(name, *values) == values


def test_a_function_tells_its_type_and_equals_itself() -> None:
    engine = Engine()
    exports = engine.exports(
        """(module (func (export "a") (param i32 f64) (result i64) (i64.const 1))
          (func $b (export "b")) (export "c" (func $b)))"""
    )
    assert exports["a"].function_type == FunctionType([I32, F64], [I64])
    assert exports["b"] == exports["c"]
    assert exports["a"] != exports["b"]
    assert len({exports["b"], exports["c"], engine.store.find_function("b")}) == 1


# Host functions.


def run(parameters: list[Any], results: list[Any], body: Any, *args: Any) -> list[Any]:
    """What a host function gives when a guest calls it."""
    engine = Engine()
    engine.host(f=(parameters, results, body))
    signature = f"(param {names(parameters)}) (result {names(results)})"
    get = "".join(f"(local.get {i})" for i in range(len(parameters)))
    engine.instantiate(
        f"""(module (import "host" "f" (func $f {signature}))
          (func (export "f") {signature} (call $f {get})))"""
    )
    return engine.call("f", *args)


@pytest.mark.parametrize(
    ("results", "returned", "expected"),
    [
        ([], None, []),
        ([], (), []),
        ([], [], []),
        ([I32], 5, [5]),
        ([I32], [5], [5]),
        ([I32], (5,), [5]),
        ([I32], 0xFFFFFFFF, [-1]),
        ([I32, F64], (1, 2), [1, 2.0]),
        ([I32, F64], [1, 2], [1, 2.0]),
        ([EXTERNREF], None, [None]),
    ],
)
def test_what_a_host_function_may_return(results: Any, returned: Any, expected: Any) -> None:
    assert run([], results, lambda data, memory: returned) == expected


@pytest.mark.parametrize(
    ("results", "returned", "cause"),
    [
        ([], 5, TypeError),
        ([I32], None, TypeError),
        ([I32], "5", TypeError),
        ([I32], 1 << 32, OverflowError),
        ([I32], (1, 2), TypeError),
        ([I32], (), TypeError),
        ([I32, I32], 5, TypeError),
        ([I32, I32], (1,), TypeError),
        ([I32, I32], (1, "2"), TypeError),
        ([FUNCREF], 7, TypeError),
    ],
)
def test_wrong_results_of_a_host_function(results: Any, returned: Any, cause: Any) -> None:
    with pytest.raises(HostFunctionError) as caught:
        run([], results, lambda data, memory: returned)
    assert isinstance(caught.value.__cause__, cause)


@pytest.mark.parametrize("error", [Fail("no"), ValueError("bad"), ZeroDivisionError()])
@pytest.mark.parametrize("through", ["guest", "python"])
def test_what_a_host_function_raises_is_the_cause(error: Exception, through: str) -> None:
    def body(data: object, memory: object) -> None:
        raise error

    function = Function(FunctionType([], []), body)
    call: Any = functools.partial(run, [], [], body) if through == "guest" else function
    with pytest.raises(HostFunctionError, match="host function failed") as caught:
        call()
    assert caught.value.code is ErrCode.ExecutionFailed
    assert caught.value.__cause__ is error
    assert type(error).__name__ in caught.value.message


@pytest.mark.parametrize("results", [[], [I32], [I32, I64]])
def test_terminate_ends_the_whole_call_successfully(results: list[Any]) -> None:
    after = []

    def body(data: object, memory: object) -> None:
        raise Terminate

    def later(data: object, memory: object) -> None:
        after.append(1)

    engine = Engine()
    engine.host(stop=([], [], body), later=([], [], later))
    engine.instantiate(
        f"""(module (import "host" "stop" (func $stop)) (import "host" "later" (func $later))
          (func $inner (call $stop) (call $later))
          (func (export "f") (result {names(results)}) (call $inner) unreachable)
          (func (export "one") (result i32) (i32.const 1)))"""
    )
    assert engine.call("f") == []
    assert after == []
    assert engine.call("one") == [1]
    assert Function(FunctionType([], [I32]), body)() == []


def test_terminate_in_a_nested_call_ends_the_outermost_one() -> None:
    engine = Engine()
    after = []

    def stop(data: object, memory: object) -> None:
        raise Terminate

    def nest(data: object, memory: object) -> None:
        engine.call("inner")
        after.append(1)

    engine.host(stop=([], [], stop), nest=([], [], nest))
    engine.instantiate(
        """(module (import "host" "stop" (func $stop)) (import "host" "nest" (func $nest))
          (func (export "inner") (call $stop)) (func (export "outer") (call $nest) unreachable))"""
    )
    assert engine.call("outer") == []
    assert after == []


def test_a_host_function_that_fails_after_a_nested_success_of_itself_fails() -> None:
    engine = Engine()

    def body(data: object, memory: object, n: int) -> int:
        if n:
            assert engine.call("f", 0) == [7]
            raise ValueError("outer")
        return 7

    engine.host(f=([I32], [I32], body))
    engine.instantiate(
        """(module (import "host" "f" (func $f (param i32) (result i32)))
          (func (export "f") (param i32) (result i32) (call $f (local.get 0))))"""
    )
    with pytest.raises(HostFunctionError, match="ValueError: outer"):
        engine.call("f", 1)
    assert engine.call("f", 0) == [7]


def test_a_host_function_may_catch_the_trap_of_a_nested_call() -> None:
    engine = Engine()

    def body(data: object, memory: object) -> int:
        with pytest.raises(Trap) as caught:
            engine.call("trap")
        return int(caught.value.code)

    engine.host(f=([], [I32], body))
    engine.instantiate(
        """(module (import "host" "f" (func $f (result i32))) (func (export "trap") unreachable)
          (func (export "f") (result i32) (i32.add (call $f) (i32.const 1))))"""
    )
    assert engine.call("f") == [ErrCode.Unreachable + 1]


def test_a_trap_of_a_nested_call_is_the_cause_when_it_is_not_caught() -> None:
    engine = Engine()
    engine.host(f=([], [], lambda data, memory: engine.call("trap") and None))
    engine.instantiate(
        """(module (import "host" "f" (func $f)) (func (export "trap") unreachable)
          (func (export "f") (call $f)))"""
    )
    with pytest.raises(HostFunctionError) as caught:
        engine.call("f")
    assert isinstance(caught.value.__cause__, Trap)
    assert caught.value.__cause__.code is ErrCode.Unreachable


def test_data_is_handed_over_unchanged() -> None:
    data = {"a": [1]}
    seen = []
    kind = FunctionType([], [])
    Function(kind, lambda data, memory: seen.append(data), data)()
    assert seen[0] is data


def test_a_host_function_gets_the_memory_of_the_module_that_calls_it() -> None:
    engine = Engine()
    seen: list[Memory | None] = []
    engine.host(look=([], [], lambda data, memory: seen.append(memory)))
    text = """(module (import "host" "look" (func $look)) {memory} (table 1 funcref)
      (elem (i32.const 0) $look) (type $t (func)) (export "again" (func $look))
      (func (export "direct") (call $look))
      (func (export "indirect") (call_indirect (type $t) (i32.const 0))))"""
    memory = '(memory (export "memory") 1)'
    one = engine.register("one", text.format(memory=memory))
    two = engine.register("two", text.format(memory=memory))
    none = engine.register("none", text.format(memory=""))
    importer = engine.register(
        "importer",
        """(module (import "one" "direct" (func $direct)) (import "two" "again" (func $again))
          (memory (export "memory") 1)
          (func (export "through") (call $direct)) (func (export "own") (call $again)))""",
    )
    calls = [
        (one, "direct", one), (one, "indirect", one), (two, "direct", two),
        (two, "indirect", two), (none, "direct", None), (none, "indirect", None),
        (importer, "through", one), (importer, "own", importer),
    ]  # fmt: skip
    for instance, name, owner in calls:
        exports: Any = instance.exports
        exports[name]()
        assert seen.pop() is (None if owner is None else owner.exports["memory"]), name


def test_a_host_function_reads_and_writes_the_memory_of_its_caller() -> None:
    engine = Engine()

    def shout(data: object, memory: Memory, at: int, length: int) -> None:
        memory.set_data(memory.get_data(at, length).upper(), at)

    engine.host(shout=([I32, I32], [], shout))
    exports = engine.exports(
        """(module (import "host" "shout" (func $shout (param i32 i32)))
          (memory (export "memory") 1) (data (i32.const 8) "hello")
          (func (export "f") (call $shout (i32.const 8) (i32.const 5))))"""
    )
    engine.call("f")
    assert exports["memory"].get_data(8, 5) == b"HELLO"


def test_a_host_function_may_grow_the_memory_and_instantiate_modules() -> None:
    engine = Engine()

    def body(data: object, memory: Memory) -> None:
        memory.grow_page(1)
        engine.register("made", '(module (memory 1) (func (export "f") (drop (memory.size))))')

    engine.host(body=([], [], body))
    engine.instantiate(
        """(module (import "host" "body" (func $body)) (memory 1)
          (func (export "f") (result i32) (call $body)
            (i32.store (i32.const 131068) (i32.const 3)) (i32.load (i32.const 131068))))"""
    )
    assert engine.call("f") == [3]


@pytest.mark.parametrize("wrong", [5, None, "text"])
def test_a_body_must_be_callable(wrong: Any) -> None:
    with pytest.raises(TypeError, match="callable"):
        Function(FunctionType([], []), wrong)


def test_a_type_must_be_a_type() -> None:
    with pytest.raises(TypeError, match="FunctionType"):
        Function("() -> ()", print)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "body", ["(local.get 0) (local.get 1)", "(call $echo (local.get 0) (local.get 1))"]
)
def test_a_signal_handler_may_call_the_function_that_it_interrupts(body: str) -> None:
    """Between any two steps of a call, its arguments and results stay its own."""
    output = output_of(
        f"""
        import signal
        from tests.runtime.engine import I64, Engine

        engine = Engine()
        engine.host(echo=([I64, I64], [I64, I64], lambda data, memory, a, b: (a, b)))
        f = engine.exports(
            '(module (import "host" "echo" (func $echo (param i64 i64) (result i64 i64)))'
            '(func (export "f") (param i64 i64) (result i64 i64) {body}))'
        )["f"]
        wrong = calls = signals = 0

        def handler(*args):
            global wrong, signals
            signals += 1
            wrong += f(-1, -2) != [-1, -2]
            signal.setitimer(signal.ITIMER_REAL, 0.0001)

        signal.signal(signal.SIGALRM, handler)
        signal.setitimer(signal.ITIMER_REAL, 0.0001)
        while signals < 2000:
            calls += 1
            wrong += f(calls, calls + 1) != [calls, calls + 1]
        signal.signal(signal.SIGALRM, signal.SIG_IGN)
        print(wrong)
        """
    )
    assert output == "0"


def test_a_host_function_gets_its_callers_memory_though_a_signal_handler_calls_others() -> None:
    """Python can run a handler after the guest has called and before the body begins."""
    engine, other = Engine(), Engine()
    other.store = engine.store
    engine.host(memory=([], [I32], lambda data, memory: memory.get_data(0, 1)[0]))
    text = """(module (import "host" "memory" (func $f (result i32)))
      (memory 1) (data (i32.const 0) "\\{:02x}")
      (func (export "f") (result i32) (call $f)))"""
    first = engine.exports(text.format(1))["f"]
    second = other.exports(text.format(2))["f"]

    def handler(frame: Any, event: str, argument: Any) -> None:
        if event == "call" and frame.f_code.co_name == "callback":
            sys.setprofile(None)
            assert second() == [2]

    sys.setprofile(handler)
    try:
        assert first() == [1]
    finally:
        sys.setprofile(None)


def test_each_level_of_recursion_through_a_host_function_takes_the_same_stack() -> None:
    engine = Engine()
    depths: list[int] = []

    def body(data: Any, memory: Any, n: int) -> None:
        depths.append(len(inspect.stack(0)))
        if n:
            call(n - 1)

    engine.host(body=([I32], [], body))
    call = engine.exports(
        '(module (import "host" "body" (func $body (param i32)))'
        '(func (export "f") (param i32) (call $body (local.get 0))))'
    )["f"]
    call(20)
    steps = [deeper - depth for depth, deeper in itertools.pairwise(depths)]
    assert len(set(steps[1:])) == 1

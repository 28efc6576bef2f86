"""Functions get their code when they are first called: from wherever, whatever comes between."""

from __future__ import annotations

import gc
import math
import os
import signal
import struct
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.runtime.engine import I32, Engine, Running, output_of
from tests.runtime.test_stack import stack_size
from wasmedge_runtime import (
    CompilationMode,
    Configure,
    ErrCode,
    ExternRef,
    Store,
    Trap,
    WasmEdgeError,
)
from wasmedge_runtime.native import stubs
from wasmedge_runtime.native.layout import FunctionRecord
from wasmedge_runtime.native.libc import page_ceil
from wasmedge_runtime.native.support_ir import STUB_BYTES
from wasmedge_runtime.tiers import module as tiers
from wasmedge_runtime.tiers.unit import UnitCode, compile_unit
from wasmedge_runtime.values import V128

TWO = """(module (func (export "f") (result i32) (i32.const 1))
  (func (export "g") (result i32) (i32.const 2)))"""


@pytest.fixture(autouse=True)
def empty_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing that these tests call is in the cache, nor left over from other tests."""
    gc.collect()
    monkeypatch.setenv("WASMEDGE_CACHE_DIR", str(tmp_path / "cache"))


def engine(mode: CompilationMode = CompilationMode.BASELINE, store: Store | None = None) -> Engine:
    configuration = Configure()
    configuration.compilation_mode = mode
    return Engine(configuration, store=store)


@pytest.fixture
def before_compiling(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Callable[[], object]]]:
    """What is put here is done, once, while the engine is about to compile a unit."""
    todo: list[Callable[[], object]] = []

    def compile_after(*args: Any) -> UnitCode:
        if todo:
            todo.pop(0)()
        return compile_unit(*args)

    monkeypatch.setattr("wasmedge_runtime.tiers.module.compile_unit", compile_after)
    yield todo
    assert not todo


@pytest.fixture
def on_fresh_stacks(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The functions that were compiled on a stack of their own."""
    seen = []
    on_a_fresh_stack = tiers._on_a_fresh_stack

    def noting(module: tiers.CompiledModule, own: int) -> None:
        seen.append(own)
        on_a_fresh_stack(module, own)

    monkeypatch.setattr(tiers, "_on_a_fresh_stack", noting)
    return seen


# Arguments.

VALUES: dict[str, st.SearchStrategy[Any]] = {
    "i32": st.integers(-(2**31), 2**31 - 1),
    "i64": st.integers(-(2**63), 2**63 - 1),
    "f32": st.floats(width=32),
    "f64": st.floats(),
    "v128": st.binary(min_size=16, max_size=16).map(V128.from_bytes),
    "externref": st.sampled_from([None, ExternRef("one"), ExternRef("two")]),
    "funcref": st.none(),
}


def same(a: Any, b: Any) -> bool:
    if isinstance(a, float) and isinstance(b, float):
        return struct.pack("d", a) == struct.pack("d", b) or (math.isnan(a) and math.isnan(b))
    return bool(a == b)


@settings(
    max_examples=25,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(data=st.data())
def test_the_first_call_gets_all_arguments_and_gives_all_results(data: st.DataObject) -> None:
    kinds = data.draw(st.lists(st.sampled_from(sorted(VALUES)), min_size=1, max_size=20))
    order = data.draw(st.permutations(range(len(kinds))))
    order = order[: data.draw(st.integers(0, len(kinds)))]
    arguments = [data.draw(VALUES[kind]) for kind in kinds]
    of_type = f"(param {' '.join(kinds)}) (result {' '.join(kinds[i] for i in order)})"
    gets = " ".join(f"(local.get {i})" for i in order)
    passed = " ".join(f"(local.get {i})" for i in range(len(kinds)))
    store = engine()
    store.instantiate(
        f"""(module (type $t (func {of_type})) (table funcref (elem $in_table))
          (func (export "direct") (type $t) {gets}) (func $in_table (type $t) {gets})
          (func (export "indirect") (type $t)
            (call_indirect (type $t) {passed} (i32.const 0))))"""
    )
    for name in ("direct", "indirect"):
        results = store.call(name, *arguments)
        assert len(results) == len(order)
        assert all(same(arguments[i], result) for i, result in zip(order, results, strict=True))


# Stacks.


def nested(depth: int, seed: int) -> str:
    """A body that takes some stack to compile."""
    body = "(local.get 0)"
    for i in range(depth):
        body = f"(if (result i32) (local.get 0) (then {body}) (else (i32.const {seed + i})))"
    return body


# All of 64 KiB is the headroom for host functions: only a small leaf runs there.
@pytest.mark.parametrize(("size", "depth"), [(64, 1), (256, 1), (256, 300)])
@pytest.mark.parametrize("mode", [CompilationMode.BASELINE, CompilationMode.TIERED])
def test_a_first_call_on_a_thread_with_a_small_stack(
    size: int, mode: CompilationMode, depth: int, on_fresh_stacks: list[int]
) -> None:
    store = engine(mode)
    text = f'(func (export "f") (param i32) (result i32) {nested(depth, size + mode)})'
    store.instantiate(f"(module {text})")
    with stack_size(size << 10):
        running = Running(store.call, "f", 7)
    assert running.result() == [7]
    assert on_fresh_stacks == [0]


def test_first_calls_at_every_depth_of_the_stack(on_fresh_stacks: list[int]) -> None:
    """The deeper, the less room for the compiler; at the end, the stack is exhausted."""
    functions = 60
    targets = "".join(f"(func $f{n} (result i32) (i32.const {n}))" for n in range(functions))
    names = " ".join(f"$f{n}" for n in range(functions))
    store = engine()
    store.instantiate(
        f"""(module (type $t (func (result i32))) (table funcref (elem {names})) {targets}
          (func $deep (export "deep") (param $depth i32) (param $n i32) (result i32)
            (if (result i32) (local.get $depth)
              (then (call $deep (i32.sub (local.get $depth) (i32.const 1)) (local.get $n)))
              (else (call_indirect (type $t) (local.get $n))))))"""
    )

    def descend() -> list[str]:
        found = []
        for n in range(functions):
            try:
                assert store.call("deep", int(1.15**n * 100), n) == [n]
                found.append("result")
            except Trap as trap:
                found.append(trap.message)
        return found

    with stack_size(2 << 20):
        running = Running(descend)
    found = running.result()
    assert found[:2] == ["result", "result"]
    assert set(found) == {"result", "call stack exhausted"}
    on_fresh = [own for own in on_fresh_stacks if own < functions]
    assert on_fresh
    assert 0 not in on_fresh


def test_two_compiler_threads_at_once_leave_the_stack_size_of_others_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    stores = [engine(), engine()]
    for number, store in enumerate(stores):
        store.instantiate(f'(module (func (export "f") (result i32) (i32.const {number})))')
    begin = threading.Thread.start
    second = threading.Event()
    compilers: list[threading.Thread] = []

    def begin_slowly(self: threading.Thread) -> None:
        if self.name == "wasmedge-compiler":
            compilers.append(self)
            if len(compilers) == 1:
                second.wait(0.1)
            else:
                second.set()
                compilers[0].join()  # and the other thread has put the size back
        begin(self)

    monkeypatch.setattr(threading.Thread, "start", begin_slowly)
    with stack_size(256 << 10):
        # Both have begun, with small stacks, before a compiler changes the size.
        begun = threading.Barrier(len(stores))
        running = [Running(lambda s: (begun.wait(), s.call("f"))[1], store) for store in stores]
        assert [runner.result() for runner in running] == [[0], [1]]
        assert threading.stack_size() == 256 << 10
    assert len(compilers) == 2


# What else goes on.


def test_a_host_function_calls_what_has_no_code_yet() -> None:
    store = engine()
    store.host(again=([I32], [I32], lambda data, memory, n: store.call("leaf", n)[0] + 1))
    store.instantiate(
        """(module (import "host" "again" (func $again (param i32) (result i32)))
          (func (export "f") (param i32) (result i32) (call $again (local.get 0)))
          (func (export "leaf") (param i32) (result i32) (i32.mul (local.get 0) (i32.const 10))))"""
    )
    assert store.call("f", 4) == [41]


@pytest.mark.parametrize("name", ["f", "g"])
def test_a_signal_handler_calls_a_function_during_a_compilation(
    name: str, before_compiling: list[Callable[[], object]]
) -> None:
    """Another one, or the very one that is being compiled: that one is then there twice."""
    store = engine()
    store.instantiate(TWO)
    seen: list[list[int]] = []
    before = signal.signal(signal.SIGUSR1, lambda *args: seen.append(store.call(name)))
    try:
        before_compiling.append(lambda: os.kill(os.getpid(), signal.SIGUSR1))
        assert store.call("f") == [1]
    finally:
        signal.signal(signal.SIGUSR1, before)
    assert seen == [[1 if name == "f" else 2]]
    assert [store.call("f"), store.call("g")] == [[1], [2]]


def test_two_stores_call_the_same_function_for_the_first_time_at_once(
    before_compiling: list[Callable[[], object]],
) -> None:
    stores = [engine(), engine()]
    modules = [store.instantiate(TWO).loaded for store in stores]
    assert modules[0] is modules[1]
    compiled = []
    other_runs = threading.Event()

    def meanwhile() -> None:
        compiled.append(1)
        running.append(Running(other))
        other_runs.wait(5)

    def other() -> list[int]:
        other_runs.set()
        return stores[1].call("f")

    running: list[Running] = []
    before_compiling.append(meanwhile)
    before_compiling.append(lambda: compiled.append(2))
    assert stores[0].call("f") == [1]
    assert running[0].result() == [1]
    assert compiled == [1]
    stores[0].call("g")


def test_ctrl_c_during_a_first_call(before_compiling: list[Callable[[], object]]) -> None:
    store = engine()
    store.instantiate(TWO)
    before_compiling.append(lambda: os.kill(os.getpid(), signal.SIGINT))
    with pytest.raises(KeyboardInterrupt):
        store.call("f")
    assert store.call("f") == [1]


def test_ctrl_c_after_the_code_is_there_is_not_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    """The call has not begun: it must not go on as if nothing had been."""
    store = engine()
    code = store.instantiate(TWO).loaded
    provide = code.provide

    def strike(own: int) -> None:
        provide(own)
        os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr(code, "provide", strike)
    with pytest.raises(KeyboardInterrupt):
        store.call("f")
    assert store.call("f") == [1]


def test_an_interruption_during_a_first_call(
    before_compiling: list[Callable[[], object]],
) -> None:
    store = engine()
    store.instantiate(TWO)
    before_compiling.append(lambda: Running(store.store.interrupt).result())
    with pytest.raises(Trap) as caught:
        store.call("f")
    assert caught.value.code is ErrCode.Interrupted
    assert store.call("f") == [1]


def test_a_compilation_that_fails_ends_the_call(
    before_compiling: list[Callable[[], object]],
) -> None:
    def fail() -> None:
        raise WasmEdgeError(ErrCode.RuntimeError, "too much code")

    store = engine()
    exports: Any = store.exports(
        """(module (type $t (func (result i32))) (table funcref (elem $leaf))
          (global $n (export "n") (mut i32) (i32.const 0))
          (func $leaf (type $t) (i32.const 3))
          (func (export "f") (result i32)
            (global.set $n (i32.add (global.get $n) (i32.const 1)))
            (call_indirect (type $t) (i32.const 0))))"""
    )
    before_compiling += [lambda: None, fail]
    with pytest.raises(WasmEdgeError, match="too much code"):
        store.call("f")
    assert store.call("f") == [3]
    assert exports["n"].value == 2


def test_a_failed_compilation_on_a_fresh_stack_ends_the_call(
    before_compiling: list[Callable[[], object]],
) -> None:
    def fail() -> None:
        raise MemoryError("no room")

    store = engine()
    store.instantiate('(module (func (export "f") (result i32) (i32.const 2048)))')
    before_compiling.append(fail)
    with stack_size(256 << 10):
        running = Running(store.call, "f")
    with pytest.raises(MemoryError, match="no room"):
        running.result()
    assert store.call("f") == [2048]


def test_a_module_that_was_closed_after_its_instance_was_made() -> None:
    store = engine()
    module = store.load(TWO)
    store.executor.instantiate(store.store, module)
    module.close()
    del module
    assert store.call("f") == [1]


STUBS_DURING_STUBS = """
from tests.runtime.engine import Engine
from wasmedge_runtime.native import stubs
make, inner, outer = stubs._Stubs.__init__, Engine(), Engine()
module = outer.load('(module (func $f) (func (export "f") (result i32) (i32.const 1)))')

def interrupted(self):
    stubs._Stubs.__init__ = make
    make(self)
    inner.instantiate('(module (func $f) (func (export "f") (result i32) (i32.const 2)))')

stubs._Stubs.__init__ = interrupted
outer.executor.instantiate(outer.store, module)
print(outer.call("f"), inner.call("f"))
"""


def test_a_signal_handler_may_come_while_the_first_stubs_are_made() -> None:
    assert output_of(STUBS_DURING_STUBS) == "[1] [2]"


def test_a_signal_handler_may_fill_stubs_while_stubs_are_filled(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    stubs.stub_addresses(1)
    made = stubs._stubs
    assert made is not None
    count = made._filled // STUB_BYTES

    def interrupted(start: int, size: int) -> None:
        monkeypatch.undo()
        stubs.stub_addresses(count + 3000)

    monkeypatch.setattr(stubs, "flush_instruction_cache", interrupted)
    stubs.stub_addresses(count + 1000)
    assert made._filled == page_ceil((count + 3000) * STUB_BYTES)


def test_no_thread_waits_for_the_lock_that_its_own_starter_holds() -> None:
    store = engine()
    instance = store.instantiate('(module (func (export "f") (result i32) (i32.const 17)))')
    code = instance.loaded
    code.provider = threading.get_ident()  # as in a signal handler, while this thread compiles
    with pytest.raises(WasmEdgeError, match="no room to compile"):
        tiers._on_a_fresh_stack(code, 0)


def test_a_record_that_missed_a_swap_is_mended_by_the_first_call_through_it() -> None:
    store = engine()
    instance = store.instantiate(
        """(module (type $t (func (result i32))) (table funcref (elem $g))
          (func $g (result i32) (i32.const 18))
          (func (export "f") (result i32) (call_indirect (type $t) (i32.const 0))))"""
    )
    assert store.call("f") == [18]
    record = FunctionRecord.from_address(instance.record_address(0))
    code, record.code = record.code, instance.loaded._stubs[0]
    assert store.call("f") == [18]
    assert record.code == code

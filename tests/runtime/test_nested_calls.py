"""Calls of a VM inside host functions of its own calls: results, interruption, resets."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import pytest

from tests.runtime.engine import I32, Running, wait_until
from tests.wat import wat
from wasmedge_runtime import (
    VM,
    ErrCode,
    Function,
    FunctionType,
    HostFunctionError,
    ImportObject,
    Trap,
    WasmEdgeError,
)
from wasmedge_runtime.waiting import wait

HOUR_NS = 3_600_000_000_000

MODULE = """(module (import "host" "body" (func $body (param i32) (result i32)))
  (import "host" "wait" (func $wait)) (memory (export "memory") 1)
  (global (export "after") (mut i32) (i32.const 0))
  (func (export "f") (param i32) (result i32)
    (call $body (local.get 0)) (global.set 0 (i32.const 1)))
  (func (export "square") (param i32) (result i32) (i32.mul (local.get 0) (local.get 0)))
  (func (export "spin") (loop (br 0)))
  (func (export "trap") unreachable)
  (func (export "wait") (call $wait)))"""


class Nesting:
    """A VM whose host function does what a test says."""

    def __init__(self) -> None:
        self.vm = VM()
        self.body: Any = None
        self.reached = threading.Event()
        imports = ImportObject("host")
        kind = FunctionType([I32], [I32])
        imports.add_function("body", Function(kind, lambda data, memory, n: self.body(n)))
        imports.add_function("wait", Function(FunctionType(), lambda data, memory: self.wait()))
        self.vm.register_import(imports)
        self.vm.load_wasm_buffer(wat(MODULE))
        self.vm.validate()
        self.vm.instantiate()

    def wait(self) -> None:
        """A host function that waits for the system: for an hour, or until it is interrupted."""
        core = self.vm.store.core
        self.reached.set()
        wait({}, HOUR_NS, lambda: core.interrupted)

    @property
    def depth(self) -> int:
        """How many calls are in each other."""
        return int(self.vm.store.core.activation.depth)

    @property
    def after(self) -> int:
        """Whether guest code has run behind the host function."""
        found = self.vm.store.find_global("after")
        assert found is not None
        return int(found.value)


@pytest.fixture
def nesting() -> Iterator[Nesting]:
    found = Nesting()
    with found.vm:
        yield found


def test_a_host_function_calls_the_vm_that_called_it(nesting: Nesting) -> None:
    vm = nesting.vm
    nesting.body = lambda n: vm.execute("square", n)[0]
    assert vm.execute("f", 7) == [49]
    nesting.body = lambda n: vm.execute("f", n - 1)[0] + 1 if n else 100
    assert vm.execute("f", 20) == [120]
    assert nesting.depth == 0


def test_a_nested_call_that_traps_leaves_the_outer_one_to_the_host_function(
    nesting: Nesting,
) -> None:
    vm = nesting.vm

    def body(n: int) -> int:
        with pytest.raises(Trap) as caught:
            vm.execute("trap")
        assert caught.value.frames == ("trap",)
        return vm.execute("square", n)[0]  # type: ignore[no-any-return]

    nesting.body = body
    assert vm.execute("f", 3) == [9]
    nesting.body = lambda n: vm.execute("trap")
    with pytest.raises(HostFunctionError):
        vm.execute("f", 3)
    assert vm.execute("square", 4) == [16]


@pytest.mark.parametrize("inner", ["spin", "wait"])
@pytest.mark.parametrize("goes_on", [False, True])
def test_an_interruption_ends_the_nested_call_and_the_outer_one(
    nesting: Nesting, inner: str, goes_on: bool
) -> None:
    """Also when the host function catches what ended the nested call, and returns."""
    vm, seen = nesting.vm, []

    def body(n: int) -> int:
        try:
            vm.execute(inner)
        except Trap as trap:
            seen.append(trap.code)
            if not goes_on:
                raise
        return n

    nesting.body = body
    for _ in range(10):
        nesting.reached.clear()
        running = Running(vm.execute, "f", 1)
        wait_until(lambda: nesting.depth == 2)
        if inner == "wait":
            assert nesting.reached.wait(10)
        vm.interrupt()
        assert running.trap().code is ErrCode.Interrupted
        assert nesting.after == 0
        assert vm.execute("square", 5) == [25]
    assert seen == [ErrCode.Interrupted] * 10


def test_a_call_that_begins_after_the_interruption_of_the_outer_one_does_not_run(
    nesting: Nesting,
) -> None:
    vm, interrupted, seen = nesting.vm, threading.Event(), []

    def body(n: int) -> int:
        nesting.reached.set()
        assert interrupted.wait(10)
        for _ in range(2):
            with pytest.raises(Trap) as caught:
                vm.execute("square", n)
            seen.append(caught.value.code)
        return n

    nesting.body = body
    running = Running(vm.execute, "f", 1)
    assert nesting.reached.wait(10)
    vm.interrupt()
    interrupted.set()
    assert running.trap().code is ErrCode.Interrupted
    assert seen == [ErrCode.Interrupted] * 2


def test_a_host_function_that_waits_is_interrupted(nesting: Nesting) -> None:
    for _ in range(10):
        nesting.reached.clear()
        running = Running(nesting.vm.execute, "wait")
        assert nesting.reached.wait(10)
        nesting.vm.interrupt()
        assert running.trap().code is ErrCode.Interrupted


@pytest.mark.parametrize("step", ["reset", "checkpoint"])
def test_no_call_may_be_open_when_an_instance_goes_back(nesting: Nesting, step: str) -> None:
    vm = nesting.vm
    instance: Any = vm.store.anonymous
    errors: list[WasmEdgeError] = []

    def body(n: int) -> int:
        instance.exports["memory"].set_data(b"\5", n)
        with pytest.raises(WasmEdgeError, match="while its Store runs a call") as caught:
            getattr(instance, step)()
        errors.append(caught.value)
        if n:
            vm.execute("f", n - 1)
            # The nested call has ended, the outer one has not.
            with pytest.raises(WasmEdgeError, match="while its Store runs a call"):
                getattr(instance, step)()
        return n

    nesting.body = body
    assert vm.execute("f", 2) == [2]
    assert [error.code for error in errors] == [ErrCode.WrongVMWorkflow] * 3
    assert instance.exports["memory"].get_data(0, 3) == b"\5\5\5"
    getattr(instance, step)()

"""The synchronous VM: steps, states, registered modules."""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.wat import wat
from wasmedge_runtime import (
    VM,
    CodeState,
    CodeStatus,
    CompilationMode,
    Configure,
    ErrCode,
    Function,
    FunctionType,
    HostRegistration,
    ImportObject,
    InstantiationError,
    Loader,
    LoadError,
    Proposal,
    Store,
    Trap,
    ValidationError,
    ValType,
    VMState,
    WasmEdgeError,
)

FIB = wat(
    """(module (func $fib (export "fib") (param i32) (result i32)
      (if (i32.lt_s (local.get 0) (i32.const 2)) (then (return (i32.const 1))))
      (i32.add (call $fib (i32.sub (local.get 0) (i32.const 2)))
               (call $fib (i32.sub (local.get 0) (i32.const 1))))))"""
)
COUNTER = wat(
    """(module (global $n (mut i32) (i32.const 0))
      (func (export "next") (result i32)
        (global.set $n (i32.add (global.get $n) (i32.const 1))) (global.get $n))
      (func (export "trap") unreachable))"""
)
USES_MATH = wat(
    """(module (import "math" "fib" (func $fib (param i32) (result i32)))
      (func (export "fib_of_ten") (result i32) (call $fib (i32.const 10))))"""
)
USES_HOST = wat(
    """(module (import "host" "add" (func $add (param i32 i32) (result i32)))
      (func (export "three") (result i32) (call $add (i32.const 1) (i32.const 2))))"""
)
INVALID = wat('(module (func (export "f") (result i32)))')
FIB_TYPE = FunctionType([ValType.I32], [ValType.I32])


def add(data: object, memory: object, a: int, b: int) -> int:
    return a + b


def host() -> ImportObject:
    imports = ImportObject("host")
    imports.add_function(
        "add", Function(FunctionType([ValType.I32, ValType.I32], [ValType.I32]), add)
    )
    return imports


def to_state(vm: VM, state: VMState, data: bytes = FIB) -> None:
    steps: list[Callable[[], None]] = [
        lambda: vm.load_wasm_buffer(data),
        vm.validate,
        vm.instantiate,
    ]
    for step in steps[:state]:
        step()
    assert vm.state is state


@pytest.fixture
def fib_file(tmp_path: Path) -> Path:
    path = tmp_path / "fib.wasm"
    path.write_bytes(FIB)
    return path


def test_each_step_moves_the_state_on(fib_file: Path) -> None:
    with VM() as vm:
        states = [vm.state]
        steps: list[Callable[[], None]] = [
            lambda: vm.load_wasm_file(fib_file),
            vm.validate,
            vm.instantiate,
        ]
        for step in steps:
            step()
            states.append(vm.state)
        assert states == list(VMState)
        assert vm.execute("fib", 21) == [17711]
        assert vm.execute("fib", 25) == [121393]
        assert vm.state is VMState.INSTANTIATED


@pytest.mark.parametrize(
    ("state", "step", "message"),
    [
        (0, "validate", "validate while the VM is INITED; call load_wasm_file"),
        (0, "instantiate", "instantiate while the VM is INITED; call load_wasm_file"),
        (1, "instantiate", "instantiate while the VM is LOADED; call validate first"),
        (0, "execute", "execute while the VM is INITED; call load_wasm_file"),
        (1, "execute", "while the VM is LOADED; call validate and instantiate first"),
        (2, "execute", "execute while the VM is VALIDATED; call instantiate first"),
    ],
)
def test_a_step_out_of_order_names_the_state_and_what_to_call(
    state: int, step: str, message: str
) -> None:
    with VM() as vm:
        to_state(vm, VMState(state))
        with pytest.raises(WasmEdgeError, match=message) as caught:
            getattr(vm, step)(*(("fib", 1) if step == "execute" else ()))
        assert caught.value.code is ErrCode.WrongVMWorkflow
        assert str(caught.value).startswith("wrong VM workflow: cannot " + step)
        assert vm.state == state


@pytest.mark.parametrize("state", list(VMState))
def test_a_module_can_be_loaded_in_every_state(state: VMState) -> None:
    with VM() as vm:
        to_state(vm, state)
        vm.load_wasm_buffer(COUNTER)
        assert vm.state is VMState.LOADED
        vm.validate()
        vm.instantiate()
        assert vm.execute("next") == [1]


def test_validating_again_returns_to_validated() -> None:
    with VM() as vm:
        to_state(vm, VMState.INSTANTIATED)
        vm.validate()
        assert vm.state is VMState.VALIDATED


def test_instantiating_again_gives_fresh_globals() -> None:
    with VM() as vm:
        to_state(vm, VMState.INSTANTIATED, COUNTER)
        assert [vm.execute("next"), vm.execute("next")] == [[1], [2]]
        vm.instantiate()
        assert vm.execute("next") == [1]


def test_a_step_that_fails_leaves_the_state() -> None:
    with VM() as vm:
        to_state(vm, VMState.INSTANTIATED, COUNTER)
        vm.execute("next")
        failures: list[tuple[type[WasmEdgeError], Callable[[], object]]] = [
            (LoadError, lambda: vm.load_wasm_buffer(b"no wasm")),
            (LoadError, lambda: vm.load_wasm_file("/nowhere/no.wasm")),
            (LoadError, lambda: vm.register_wasm_buffer("m", b"no wasm")),
            (ValidationError, lambda: vm.register_wasm_buffer("m", INVALID)),
            (InstantiationError, lambda: vm.register_wasm_buffer("m", USES_MATH)),
            (InstantiationError, lambda: vm.run_wasm_buffer(USES_MATH, "fib_of_ten")),
            (ValidationError, lambda: vm.run_wasm_buffer(INVALID, "f")),
            (Trap, lambda: vm.execute("trap")),
        ]
        for error, step in failures:
            with pytest.raises(error):
                step()
        assert vm.state is VMState.INSTANTIATED
        assert vm.execute("next") == [2]


def test_a_module_that_is_not_valid_stays_loaded() -> None:
    with VM() as vm:
        vm.load_wasm_buffer(INVALID)
        with pytest.raises(ValidationError, match="type mismatch"):
            vm.validate()
        assert vm.state is VMState.LOADED


@pytest.mark.parametrize("state", list(VMState))
def test_running_a_module_does_all_steps_and_returns_from_instantiated(
    state: VMState, fib_file: Path
) -> None:
    with VM() as vm:
        to_state(vm, state, COUNTER)
        assert vm.run_wasm_file(fib_file, "fib", 21) == [17711]
        assert vm.run_wasm_buffer(FIB, "fib", 4) == [5]
        assert vm.run_wasm_ast(Loader().load_buffer(FIB), "fib", 5) == [8]
        assert vm.state is min(state, VMState.VALIDATED)


def test_running_keeps_the_module_that_was_loaded() -> None:
    with VM() as vm:
        to_state(vm, VMState.INSTANTIATED, COUNTER)
        vm.run_wasm_buffer(FIB, "fib", 4)
        vm.instantiate()
        assert vm.execute("next") == [1]


@pytest.mark.parametrize("state", list(VMState))
def test_registering_is_possible_in_every_state_and_returns_from_instantiated(
    state: VMState, fib_file: Path
) -> None:
    registrations: list[Callable[[VM], None]] = [
        lambda vm: vm.register_wasm_file("math", fib_file),
        lambda vm: vm.register_wasm_buffer("math", FIB),
        lambda vm: vm.register_ast("math", Loader().load_buffer(FIB)),
        lambda vm: vm.register_import(host()),
    ]
    for register in registrations:
        with VM() as vm:
            to_state(vm, state)
            register(vm)
            assert vm.state is min(state, VMState.VALIDATED)


def test_registered_functions_run_in_every_state() -> None:
    with VM() as vm:
        vm.register_wasm_buffer("math", FIB)
        vm.register_import(host())
        for step in (None, lambda: vm.load_wasm_buffer(COUNTER), vm.validate, vm.instantiate):
            if step is not None:
                step()
            assert vm.execute_registered("math", "fib", 10) == [89]
            assert vm.execute_registered("host", "add", 1, 2) == [3]


def test_modules_import_registered_modules_and_host_functions() -> None:
    with VM() as vm:
        vm.register_wasm_buffer("math", FIB)
        vm.register_import(host())
        assert vm.run_wasm_buffer(USES_MATH, "fib_of_ten") == [89]
        assert vm.run_wasm_buffer(USES_HOST, "three") == [3]


def test_a_name_registers_once() -> None:
    with VM() as vm:
        vm.register_wasm_buffer("host", FIB)
        registrations: list[Callable[[], None]] = [
            lambda: vm.register_wasm_buffer("host", FIB),
            lambda: vm.register_import(host()),
        ]
        for register in registrations:
            with pytest.raises(WasmEdgeError) as caught:
                register()
            assert caught.value.code is ErrCode.ModuleNameConflict


def test_unknown_functions_and_modules_are_not_found() -> None:
    with VM() as vm:
        to_state(vm, VMState.INSTANTIATED)
        calls: list[Callable[[], list[Any]]] = [
            lambda: vm.execute("nothing"),
            lambda: vm.execute_registered("nowhere", "fib", 1),
            lambda: vm.run_wasm_buffer(FIB, "nothing"),
        ]
        for call in calls:
            with pytest.raises(WasmEdgeError, match="function not found") as caught:
                call()
            assert caught.value.code is ErrCode.FuncNotFound


def test_the_function_list_has_names_and_types_of_the_anonymous_module() -> None:
    with VM() as vm:
        assert vm.get_function_list() == {}
        to_state(vm, VMState.INSTANTIATED)
        assert vm.get_function_list() == {"fib": FIB_TYPE}
        assert vm.get_function_type("fib") == FIB_TYPE
        assert vm.get_function_type("nothing") is None


def test_types_of_registered_functions() -> None:
    with VM() as vm:
        vm.register_wasm_buffer("math", FIB)
        assert vm.get_function_type_registered("math", "fib") == FIB_TYPE
        assert vm.get_function_type_registered("math", "nothing") is None
        assert vm.get_function_type_registered("nowhere", "fib") is None
        assert vm.get_function_list() == {}


def test_without_host_registrations_there_are_no_host_modules() -> None:
    with VM() as vm:
        assert vm.get_import_object(HostRegistration.WASI) is None
        with pytest.raises(TypeError, match="expected a HostRegistration, not 'WASI'"):
            vm.get_import_object("WASI")  # type: ignore[call-overload]


def test_a_loaded_ast_may_be_closed_and_is_not_validated_for_its_owner() -> None:
    ast = Loader().load_buffer(FIB)
    with VM() as vm:
        vm.load_wasm_ast(ast)
        vm.validate()
        assert not ast.validated
        ast.close()
        vm.instantiate()
        assert vm.execute("fib", 3) == [3]
        with pytest.raises(WasmEdgeError, match="AST is closed"):
            vm.load_wasm_ast(ast)


def test_cleanup_forgets_modules_names_and_counters() -> None:
    config = Configure()
    config.statistics_instruction_counting = True
    with VM(config) as vm:
        vm.register_wasm_buffer("math", FIB)
        vm.register_import(host())
        to_state(vm, VMState.INSTANTIATED)
        vm.execute("fib", 3)
        assert vm.get_statistics().instr_count > 0
        vm.cleanup()
        assert vm.state is VMState.INITED
        assert vm.get_function_list() == {}
        assert vm.store.list_module() == []
        assert vm.get_statistics().instr_count == 0
        vm.register_wasm_buffer("math", FIB)  # the names are free again
        vm.register_import(host())
        assert vm.run_wasm_buffer(USES_MATH, "fib_of_ten") == [89]


def test_a_given_store_is_used_and_outlives_the_vm() -> None:
    with Store() as store:
        with VM(store=store) as vm:
            assert vm.store is vm.get_store() is store
            vm.register_wasm_buffer("math", FIB)
        assert store.list_module() == ["math"]
        with VM(store=store) as second:
            assert second.execute_registered("math", "fib", 10) == [89]


def test_closing_what_a_vm_lends_does_nothing() -> None:
    with VM() as vm:
        vm.store.close()
        vm.get_statistics().close()
        assert vm.run_wasm_buffer(FIB, "fib", 4) == [5]
        assert vm.get_statistics().instr_count == 0


def test_the_configuration_is_copied() -> None:
    config = Configure()
    config.remove_config(Proposal.MULTI_VALUE)
    with VM(config) as vm:
        config.add_config(Proposal.MULTI_VALUE)
        config.close()
        with pytest.raises((LoadError, ValidationError)):
            vm.run_wasm_buffer(
                wat('(module (func (export "f") (result i32 i32) i32.const 1 i32.const 2))'), "f"
            )


def test_statistics_add_up_the_calls_of_a_vm(caplog: pytest.LogCaptureFixture) -> None:
    config = Configure()
    config.statistics_instruction_counting = True
    caplog.set_level(logging.DEBUG, "wasmedge")
    with VM(config) as vm:
        to_state(vm, VMState.INSTANTIATED, COUNTER)
        vm.execute("next")
        # global.get, i32.const, i32.add, global.set, global.get, end
        assert vm.get_statistics().instr_count == 6
        vm.execute("next")
        assert vm.get_statistics().instr_count == 12
    executions = [text for text in caplog.messages if text == "Execution succeeded."]
    assert len(executions) == 2
    assert "Executed wasm instructions count: 12" in caplog.messages[-1]


def test_a_cost_limit_of_the_vm_stops_a_call() -> None:
    config = Configure()
    config.statistics_cost_measuring = True
    with VM(config) as vm:
        to_state(vm, VMState.INSTANTIATED)
        vm.get_statistics().set_cost_limit(1000)
        with pytest.raises(Trap) as caught:
            vm.execute("fib", 20)
        assert caught.value.kind is ErrCode.CostLimitExceeded
        assert vm.get_statistics().total_cost == 1000


def test_a_call_can_be_interrupted_from_another_thread() -> None:
    started = threading.Event()

    def tell(data: object, memory: object) -> None:
        started.set()

    imports = ImportObject("host")
    imports.add_function("tell", Function(FunctionType(), tell))
    with VM() as vm:
        vm.register_import(imports)
        vm.load_wasm_buffer(
            wat(
                """(module (import "host" "tell" (func $tell))
                  (func (export "spin") call $tell (loop br 0))
                  (func (export "one") (result i32) i32.const 1))"""
            )
        )
        vm.validate()
        vm.instantiate()
        caught: list[Any] = []

        def spin() -> None:
            with pytest.raises(Trap) as info:
                vm.execute("spin")
            caught.append(info.value.kind)

        thread = threading.Thread(target=spin)
        thread.start()
        assert started.wait(30)
        vm.interrupt()
        thread.join(30)
        assert caught == [ErrCode.Interrupted]
        assert vm.execute("one") == [1]


def test_interrupting_an_idle_vm_does_nothing() -> None:
    with VM() as vm:
        vm.interrupt()
        assert vm.run_wasm_buffer(FIB, "fib", 4) == [5]


def test_a_closed_vm_refuses_use() -> None:
    with VM() as vm:
        to_state(vm, VMState.INSTANTIATED)
    vm.close()
    uses: list[Callable[[], object]] = [
        lambda: vm.state,
        lambda: vm.store,
        lambda: vm.execute("fib", 1),
        lambda: vm.execute_registered("m", "fib", 1),
        lambda: vm.run_wasm_buffer(FIB, "fib", 1),
        lambda: vm.load_wasm_buffer(FIB),
        lambda: vm.register_wasm_buffer("m", FIB),
        lambda: vm.register_import(host()),
        lambda: vm.get_import_object(HostRegistration.WASI),
        vm.validate,
        vm.instantiate,
        vm.interrupt,
        vm.cleanup,
        vm.get_store,
        vm.get_statistics,
        vm.get_function_list,
        vm.get_code_status,
    ]
    for use in uses:
        with pytest.raises(WasmEdgeError, match="this VM is closed"):
            use()


def test_functions_of_a_closed_vm_keep_working_for_those_who_hold_them() -> None:
    with VM() as vm:
        to_state(vm, VMState.INSTANTIATED)
        fib = vm.store.find_function("fib")
    assert fib is not None
    assert fib(21) == [17711]


def test_the_status_of_the_code_is_that_of_the_instantiated_module() -> None:
    with VM() as vm:
        assert vm.get_code_status() is None
        to_state(vm, VMState.INSTANTIATED)
        assert vm.execute("fib", 21) == [17711]
        status = vm.get_code_status()
        assert status is not None
        assert (status.state, status.optimized) == (CodeState.OPTIMIZED, status.functions)


def test_waiting_for_optimised_code_shows_progress() -> None:
    functions = "".join(
        f'(func (export "f{n}") {"(drop (i32.const 1234567))" * 3_000})' for n in range(4)
    )
    new = f'(func (export "{os.urandom(8).hex()}"))'
    seen: list[CodeStatus] = []
    config = Configure()
    config.compilation_mode = CompilationMode.OPTIMIZED
    with VM(config, progress=seen.append) as vm:
        vm.load_wasm_buffer(wat(f"(module {functions} {new})"))
        vm.validate()
        vm.instantiate()
        assert vm.get_code_status() == seen[-1]
        assert seen[-1].optimized == 5

"""The asynchronous VM with real modules."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import struct
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import pytest

from tests.api import modules
from tests.loops import Run
from tests.wat import wat
from wasmedge_async import (
    V128,
    VM,
    CallTimeout,
    CodeState,
    Configure,
    ErrCode,
    FunctionType,
    InstantiationError,
    LoadError,
    PoolClosed,
    Proposal,
    Trap,
    ValidationError,
    ValType,
    VMLost,
    VMState,
    WasmEdgeError,
    WorkerDied,
)


@asynccontextmanager
async def ready(data: bytes | None = None) -> AsyncIterator[VM]:
    """A VM with an instantiated module."""
    async with VM() as vm:
        await vm.load_wasm_buffer(modules.calls() if data is None else data)
        await vm.validate()
        await vm.instantiate()
        yield vm


def pid_of(vm: VM) -> int:
    return vm._actor.pid


# --- Steps and questions ------------------------------------------------------------------------


def test_the_steps_from_a_file_to_a_result(run: Run[None], tmp_path: Path) -> None:
    path = tmp_path / "fibonacci.wasm"
    path.write_bytes(modules.fibonacci())

    async def main() -> None:
        async with VM() as vm:
            states = [vm.state]
            await vm.load_wasm_file(path)
            states.append(vm.state)
            await vm.validate()
            states.append(vm.state)
            await vm.instantiate()
            states.append(vm.state)
            assert states == list(VMState)
            assert await vm.execute("fib", 21) == [17711]
            await vm.cleanup()
            assert vm.state is VMState.INITED

    run(main())


def test_a_step_out_of_order_is_refused(run: Run[None]) -> None:
    async def main() -> None:
        async with VM() as vm:
            for step in (vm.validate, vm.instantiate):
                with pytest.raises(WasmEdgeError) as caught:
                    await step()
                assert caught.value.code is ErrCode.WrongVMWorkflow
            assert vm.state is VMState.INITED

    run(main())


def test_a_vm_works_without_a_with_block(run: Run[None]) -> None:
    async def main() -> None:
        vm = VM()
        assert await vm.run_wasm_buffer(modules.fibonacci(), "fib", 21) == [17711]
        await vm.close()
        await vm.close()
        with pytest.raises(PoolClosed):
            await vm.execute("fib", 21)

    run(main())


def test_a_closed_vm_cannot_be_entered(run: Run[None]) -> None:
    async def main() -> None:
        vm = VM()
        await vm.close()
        with pytest.raises(PoolClosed):
            await vm.__aenter__()

    run(main())


def test_a_relative_path_means_the_parents_directory(
    run: Run[None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def main() -> None:
        async with VM() as vm:
            (tmp_path / "fibonacci.wasm").write_bytes(modules.fibonacci())
            monkeypatch.chdir(tmp_path)
            assert await vm.run_wasm_file("fibonacci.wasm", "fib", 10) == [89]
            assert await vm.run_wasm_file(b"fibonacci.wasm", "fib", 10) == [89]
            assert await vm.run_wasm_file(Path("fibonacci.wasm"), "fib", 10) == [89]

    run(main())


def test_functions_and_their_types(run: Run[None]) -> None:
    async def main() -> None:
        async with ready() as vm:
            functions = await vm.get_function_list()
            assert functions["swap"] == FunctionType(
                [ValType.I32, ValType.I64], [ValType.I64, ValType.I32]
            )
            assert functions["empty"] == FunctionType()
            assert "memory" not in functions
            for name, function_type in functions.items():
                assert await vm.get_function_type(name) == function_type
            assert await vm.get_function_type("nothing") is None

    run(main())


def test_the_status_of_the_code(run: Run[None]) -> None:
    async def main() -> None:
        async with VM() as vm:
            assert await vm.get_code_status() is None
            await vm.load_wasm_buffer(modules.math())
            await vm.validate()
            await vm.instantiate()
            assert await vm.execute("double", 21) == [42]
            status = await vm.get_code_status()
            assert status is not None
            assert (status.state, status.optimized) == (CodeState.OPTIMIZED, status.functions)

    run(main())


def test_registered_modules(run: Run[None], tmp_path: Path) -> None:
    (tmp_path / "math.wasm").write_bytes(modules.math())

    async def main() -> None:
        async with VM() as vm:
            await vm.register_wasm_file("math", tmp_path / "math.wasm")
            await vm.register_wasm_buffer("again", modules.math())
            assert await vm.execute_registered("math", "double", 21) == [42]
            assert await vm.get_function_type_registered("again", "double") == FunctionType(
                [ValType.I32], [ValType.I32]
            )
            assert await vm.get_function_type_registered("again", "nothing") is None
            assert await vm.run_wasm_buffer(modules.importer(), "quadruple", 5) == [20]
            with pytest.raises(InstantiationError) as caught:
                await vm.register_wasm_buffer("math", modules.math())
            assert caught.value.code is ErrCode.ModuleNameConflict

    run(main())


# --- Values -------------------------------------------------------------------------------------


def test_values_of_every_type(run: Run[None]) -> None:
    async def main() -> None:
        async with ready() as vm:
            assert await vm.execute("empty") == []
            assert await vm.execute("add", 2**32 - 1, 2) == [1]
            assert await vm.execute("add", 2**31 - 1, 1) == [-(2**31)]
            assert await vm.execute("i64", 2**64 - 1) == [-1]
            assert await vm.execute("swap", 1, 2) == [2, 1]
            assert await vm.execute("f32", 0.1) == [struct.unpack("f", struct.pack("f", 0.1))[0]]
            assert await vm.execute("f64", 3) == [3.0]
            vector = V128(2**64 - 1, 5)
            assert await vm.execute("v128", vector) == [vector]
            assert await vm.execute("is_null", None) == [1]
            assert await vm.execute("null") == [None]

    run(main())


@pytest.mark.parametrize("bits", [0x7FF0000000000001, -0xBFFFFFFFFEDD, 0x7FF8000000000000])
def test_a_nan_keeps_its_bits_in_both_directions(run: Run[None], bits: int) -> None:
    nan = struct.unpack("<d", struct.pack("<q", bits))[0]

    async def main() -> None:
        async with ready() as vm:
            assert await vm.execute("f64_bits", nan) == [bits]
            [result] = await vm.execute("f64_from_bits", bits)
            assert struct.unpack("<q", struct.pack("<d", result))[0] == bits

    run(main())


@pytest.mark.parametrize(
    ("function", "args", "error"),
    [
        ("add", (2**32, 0), OverflowError),
        ("add", (10**30, 0), OverflowError),
        ("add", (1.5, 0), TypeError),
        ("add", ("1", 0), TypeError),
        ("add", (1,), WasmEdgeError),
        ("nothing", (), WasmEdgeError),
    ],
)
def test_wrong_calls_are_refused_and_harm_nothing(
    run: Run[None], function: str, args: tuple[Any, ...], error: type[Exception]
) -> None:
    async def main() -> None:
        async with ready() as vm:
            with pytest.raises(error):
                await vm.execute(function, *args)
            assert await vm.execute("add", 1, 2) == [3]

    run(main())


# --- Errors -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("function", "args", "code", "text"),
    [
        ("div", (1, 0), ErrCode.DivideByZero, "integer divide by zero"),
        ("div", (-(2**31), -1), ErrCode.IntegerOverflow, "integer overflow"),
        ("unreachable", (), ErrCode.Unreachable, "unreachable"),
        ("load", (65536,), ErrCode.MemoryOutOfBounds, "out of bounds memory access"),
        ("deep", (), ErrCode.RuntimeError, "call stack exhausted"),
    ],
)
def test_a_trap_arrives_with_its_code_and_the_vm_goes_on(
    run: Run[None], function: str, args: tuple[int, ...], code: ErrCode, text: str
) -> None:
    async def main() -> None:
        async with ready() as vm:
            with pytest.raises(Trap, match=text) as caught:
                await vm.execute(function, *args)
            assert caught.value.kind is code
            assert await vm.execute("add", 1, 2) == [3]

    run(main())


def test_bad_modules_are_refused_with_the_place(run: Run[None], tmp_path: Path) -> None:
    async def main() -> None:
        async with VM() as vm:
            with pytest.raises(LoadError) as load:
                await vm.load_wasm_buffer(b"\0asm\1\0\0\0\xff")
            assert load.value.offset is not None
            with pytest.raises(LoadError) as path:
                await vm.load_wasm_file(tmp_path / "nothing.wasm")
            assert path.value.code is ErrCode.IllegalPath
            await vm.load_wasm_buffer(wat("(module (func (result i32)))"))
            with pytest.raises(ValidationError, match="type mismatch") as validation:
                await vm.validate()
            assert validation.value.offset is not None
            with pytest.raises(InstantiationError) as link:
                await vm.run_wasm_buffer(modules.importer(), "quadruple", 1)
            assert link.value.code is ErrCode.UnknownImport

    run(main())


def test_the_configuration_holds_in_the_worker(run: Run[None]) -> None:
    config = Configure()
    config.remove_config(Proposal.SIMD)

    async def main() -> None:
        async with VM(config) as vm:
            with pytest.raises((LoadError, ValidationError)):
                await vm.run_wasm_buffer(modules.calls(), "empty")
            assert await vm.run_wasm_buffer(modules.fibonacci(), "fib", 5) == [8]

    run(main())


# --- Cancellation and deadlines -----------------------------------------------------------------


def test_cancelling_an_endless_loop_leaves_the_vm_usable(run: Run[None]) -> None:
    """Memory and globals are as the guest left them."""

    async def main() -> None:
        async with ready() as vm:
            await vm.execute("store", 8, 77)
            for n in range(1, 6):
                task = asyncio.ensure_future(vm.execute("spin_after_count"))
                await asyncio.sleep(0.05)
                task.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await task
                # Interrupted, not killed.
                assert await vm.execute("load", 8) == [77]
                assert await vm.execute("count") == [2 * n]

    run(main())


def test_cancel_scopes_of_anyio_end_an_endless_loop(run: Run[None]) -> None:
    async def main() -> None:
        async with ready() as vm:
            with anyio.move_on_after(0.05) as scope:
                await vm.execute("spin")
            assert scope.cancelled_caught
            assert await vm.execute("add", 1, 2) == [3]

    run(main())


def test_a_deadline_ends_an_endless_loop(run: Run[None]) -> None:
    async def main() -> None:
        async with ready() as vm:
            for timeout in (0.1, 0.0, 0.02):
                with pytest.raises(CallTimeout):
                    await vm.execute("spin", timeout=timeout)
                assert await vm.execute("add", 1, 2, timeout=10) == [3]
            with pytest.raises(TimeoutError):
                await vm.run_wasm_buffer(modules.calls(), "spin", timeout=0.05)
            await vm.register_wasm_buffer("calls", modules.calls())
            with pytest.raises(TimeoutError):
                await vm.execute_registered("calls", "spin", timeout=0.05)
            with pytest.raises(ValueError, match="timeout must be"):
                await vm.execute("spin", timeout=-1)

    run(main())


def test_a_start_function_can_be_cancelled(run: Run[None]) -> None:
    async def main() -> None:
        async with VM() as vm:
            await vm.load_wasm_buffer(modules.endless_start())
            await vm.validate()
            with anyio.move_on_after(0.1) as scope:
                await vm.instantiate()
            assert scope.cancelled_caught
            assert vm.state is VMState.VALIDATED
            assert await vm.run_wasm_buffer(modules.fibonacci(), "fib", 5) == [8]

    run(main())


def test_a_storm_of_cancellations_hits_no_other_call(run: Run[None]) -> None:
    async def main() -> None:
        async with ready() as vm:

            async def cancelled(n: int) -> None:
                with anyio.move_on_after(0.0005 * (n % 9)):
                    await vm.execute("spin")

            async def kept(n: int) -> None:
                assert await vm.execute("add", n, 1) == [n + 1]

            async with asyncio.TaskGroup() as tasks:
                for n in range(300):
                    tasks.create_task(cancelled(n))
                    tasks.create_task(kept(n))
                    await asyncio.sleep(0)

    run(main())


def test_the_event_loop_stays_responsive_during_a_call(run: Run[None]) -> None:
    async def main() -> None:
        async with ready() as vm:
            call = asyncio.ensure_future(vm.execute("spin", timeout=0.5))
            turns = 0
            while not call.done():
                await asyncio.sleep(0.001)
                turns += 1
            assert turns > 20
            assert isinstance(call.exception(), CallTimeout)

    run(main())


# --- The worker's end ---------------------------------------------------------------------------


def test_a_worker_killed_during_a_call_fails_that_call(run: Run[None]) -> None:
    async def main() -> None:
        async with ready() as vm:
            call = asyncio.ensure_future(vm.execute("spin"))
            behind = asyncio.ensure_future(vm.execute("add", 1, 2))
            await asyncio.sleep(0.05)
            pid = pid_of(vm)
            os.kill(pid, signal.SIGKILL)
            with pytest.raises(WorkerDied, match="SIGKILL") as caught:
                await call
            assert (caught.value.pid, caught.value.signal) == (pid, signal.SIGKILL)
            assert caught.value.exit_code is None
            with pytest.raises(VMLost):
                await behind
            with pytest.raises(VMLost, match="restart"):
                await vm.execute("add", 1, 2)

    run(main())


def test_a_forgotten_vm_is_reported_and_its_worker_ended(run: Run[None]) -> None:
    async def main() -> None:
        vm = VM()
        await vm.run_wasm_buffer(modules.fibonacci(), "fib", 1)
        pid = pid_of(vm)
        forgotten = [vm]
        del vm
        with pytest.warns(ResourceWarning, match="unclosed <wasmedge_async.VM"):
            forgotten.clear()
        while Path(f"/proc/{pid}").exists():
            await asyncio.sleep(0.005)

    run(main())


def test_a_vm_that_was_never_used_needs_no_closing() -> None:
    vm = VM()
    assert repr(vm) == "<wasmedge_async.VM pid=0 state=INITED>"
    del vm  # a warning would be an error


def test_an_error_leaves_the_block_unwrapped(run: Run[None]) -> None:
    async def main() -> None:
        with pytest.raises(KeyError, match="mine"):
            async with ready():
                raise KeyError("mine")

    run(main())


def test_a_worker_ends_with_a_parent_that_is_killed_in_a_call(tmp_path: Path) -> None:
    (tmp_path / "calls.wasm").write_bytes(modules.calls())
    program = (
        f"import sys; sys.path[:] = {[p for p in sys.path if p]!r}\n"
        "import asyncio, wasmedge_async\n"
        "async def main():\n"
        "    async with wasmedge_async.VM() as vm:\n"
        "        call = asyncio.ensure_future(vm.run_wasm_file('calls.wasm', 'spin'))\n"
        "        await asyncio.sleep(0.5)\n"
        "        print(vm._actor.pid, flush=True)\n"
        "        await call\n"
        "asyncio.run(main())\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program], stdout=subprocess.PIPE, cwd=tmp_path
    ) as parent:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        assert Path(f"/proc/{pid}").exists()
        parent.kill()
    deadline = time.monotonic() + 10
    while Path(f"/proc/{pid}").exists() and time.monotonic() < deadline:
        state = Path(f"/proc/{pid}/stat")
        if state.exists() and state.read_text().rpartition(")")[2].split()[0] == "Z":
            break  # ended; whoever adopted it has not looked yet
        time.sleep(0.01)
    else:
        assert not Path(f"/proc/{pid}").exists()


def test_a_program_that_forgets_to_close_leaves_no_process(tmp_path: Path) -> None:
    """Its event loop is closed, and then the interpreter, in the middle of a call."""
    (tmp_path / "calls.wasm").write_bytes(modules.calls())
    program = (
        f"import sys; sys.path[:] = {[p for p in sys.path if p]!r}\n"
        "import asyncio, wasmedge_async\n"
        "async def main():\n"
        "    global vm\n"
        "    vm = wasmedge_async.VM()\n"
        "    await vm.run_wasm_file('calls.wasm', 'empty')\n"
        "    asyncio.ensure_future(vm.run_wasm_file('calls.wasm', 'spin'))\n"
        "    await asyncio.sleep(0.1)\n"
        "    print(vm._actor.pid)\n"
        "asyncio.run(main())\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0
    assert done.stderr == ""  # ResourceWarning is shown in development mode only
    assert not Path(f"/proc/{int(done.stdout)}").exists()


def test_two_vms_run_at_the_same_time(run: Run[None]) -> None:
    async def main() -> None:
        async with ready() as one, ready() as two:
            spinning = asyncio.ensure_future(one.execute("spin", timeout=1.0))
            assert await two.execute("add", 1, 2) == [3]
            assert not spinning.done()
            spinning.cancel()
            await asyncio.wait([spinning])

    run(main())


def test_the_engines_log_reaches_the_parent(
    run: Run[None], caplog: pytest.LogCaptureFixture
) -> None:
    async def main() -> None:
        async with VM() as vm:
            await vm.run_wasm_buffer(modules.fibonacci(), "fib", 5)

    with caplog.at_level(logging.DEBUG, logger="wasmedge"):
        run(main())
    assert any("Execution succeeded." in record.message for record in caplog.records)

"""wasmedge_process in workers and on the command line: what it allows, and that nothing outlives
a worker."""

from __future__ import annotations

import asyncio
import errno
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.loops import Run
from tests.runtime.test_process import FREE, NOT_RUN, gone, module_text, script
from tests.wat import wat
from wasmedge_async import (
    VM,
    CallTimeout,
    Configure,
    ErrCode,
    HostRegistration,
    InstantiationError,
    WasiImportObject,
    WasmEdgeError,
    WasmEdgeProcess,
    WasmEdgeProcessImportObject,
)

PROCESS = HostRegistration.WASMEDGE_PROCESS


async def load(vm: VM) -> None:
    await vm.load_wasm_buffer(wat(module_text()))
    await vm.validate()
    await vm.instantiate()


@asynccontextmanager
async def ready(*allowed: str, **options: Any) -> AsyncIterator[VM]:
    """A VM with a module that hands every function on."""
    async with VM() as vm:
        await vm.register_import(WasmEdgeProcessImportObject(allowed, **options))
        await load(vm)
        yield vm


async def run_command(
    vm: VM, name: str, *arguments: str, timeout: float | None = None, time_limit: int = 60_000
) -> int:
    """Have the module run a command; its exit code, signed."""
    memory = await (await vm.get_store()).find_memory("memory")
    assert memory is not None
    for function, text in (("set_prog_name", name), *(("add_arg", each) for each in arguments)):
        await memory.set_data(text.encode(), FREE)
        await vm.execute(function, FREE, len(text.encode()))
    await vm.execute("set_timeout", time_limit)
    [code] = await vm.execute("run", timeout=timeout)
    return int(code)


async def output(vm: VM, name: str = "stdout") -> bytes:
    """What the last command wrote."""
    [length] = await vm.execute(f"get_{name}_len")
    await vm.execute(f"get_{name}", FREE)
    memory = await (await vm.get_store()).find_memory("memory")
    assert memory is not None
    return await memory.get_data(FREE, length)


async def until_gone(pid: int) -> None:
    async with asyncio.timeout(60):
        while not gone(pid):
            await asyncio.sleep(0.005)


async def until_there(path: Path) -> None:
    async with asyncio.timeout(60):
        while not path.exists():
            await asyncio.sleep(0.005)


def noting(path: Path) -> tuple[str, ...]:
    """A command that notes its process, and stays."""
    return "sh", "-c", f"echo $$ > {path}.new; mv {path}.new {path}; sleep 600"


def test_a_configuration_registers_it(run: Run[None]) -> None:
    async def main() -> None:
        async with VM(Configure(PROCESS)) as vm:
            assert await vm.get_import_object(HostRegistration.WASI) is None
            process = await vm.get_import_object(PROCESS)
            assert isinstance(process, WasmEdgeProcess)
            await load(vm)
            assert await run_command(vm, "echo", "text") == NOT_RUN
            errors = await output(vm, "stderr")
            assert errors.startswith(b'Permission denied: command "echo"')
            await process.init_wasmedge_process(["echo"])
            assert await run_command(vm, "echo", "text") == 0
            assert await output(vm) == b"text\n"
            await vm.cleanup()
            assert isinstance(await vm.get_import_object(PROCESS), WasmEdgeProcess)
            await vm.restart()
            assert isinstance(await vm.get_import_object(PROCESS), WasmEdgeProcess)
            await load(vm)
            assert await run_command(vm, "echo", "text") == NOT_RUN  # as a new VM

    run(main())


def test_an_import_object_is_registered(run: Run[None]) -> None:
    async def main() -> None:
        async with ready("echo") as vm:
            assert await run_command(vm, "echo", "text") == 0
            assert await output(vm) == b"text\n"
            assert await run_command(vm, "ls") == NOT_RUN
            assert isinstance(await vm.get_import_object(PROCESS), WasmEdgeProcess)
            with pytest.raises(InstantiationError) as caught:
                await vm.register_import(WasmEdgeProcessImportObject())
            assert caught.value.code is ErrCode.ModuleNameConflict
            assert await run_command(vm, "echo") == 0

    run(main())


def test_a_vm_without_it_says_so(run: Run[None]) -> None:
    async def main() -> None:
        async with VM() as vm:
            assert await vm.get_import_object(PROCESS) is None
            process = WasmEdgeProcess(vm._actor)
            with pytest.raises(WasmEdgeError, match=r"Configure\(HostRegistration.WASMEDGE"):
                await process.init_wasmedge_process()

    run(main())


def test_relative_names_are_those_of_this_process(
    run: Run[None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script(tmp_path / "tool", "pwd")
    monkeypatch.chdir(tmp_path)

    async def main() -> None:
        async with ready("./tool") as vm:
            assert await run_command(vm, "./tool") == 0
            assert (await output(vm)).decode() == f"{tmp_path}\n"

    run(main())


def test_a_deadline_and_a_cancellation_end_the_command(run: Run[None], tmp_path: Path) -> None:
    async def main() -> None:
        first, second = tmp_path / "first", tmp_path / "second"
        async with ready("sh") as vm:
            with pytest.raises(CallTimeout):
                await run_command(vm, *noting(first), timeout=0.5)
            await until_gone(int(first.read_text()))
            task = asyncio.create_task(run_command(vm, *noting(second)))
            await until_there(second)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            await until_gone(int(second.read_text()))
            assert await run_command(vm, "sh", "-c", "exit 5") == 5
            assert await run_command(vm, "sh", "-c", "sleep 600", time_limit=50) == errno.ETIMEDOUT

    run(main())


def test_a_command_ends_with_its_worker(run: Run[None], tmp_path: Path) -> None:
    async def main() -> None:
        noted = tmp_path / "pid"
        async with ready("sh") as vm:
            task = asyncio.create_task(run_command(vm, *noting(noted)))
            await until_there(noted)
            await vm.close()
            with pytest.raises(WasmEdgeError):
                await task
        await until_gone(int(noted.read_text()))

    run(main())


@pytest.mark.parametrize(
    ("args", "error"),
    [
        (("ls",), TypeError),
        (([b"ls"],), TypeError),
        (([""],), ValueError),
        ((["l\0s"],), ValueError),
        ((["ls"], 1), TypeError),
    ],
)
def test_what_is_allowed_must_be_names(args: Any, error: type[Exception]) -> None:
    with pytest.raises(error):
        WasmEdgeProcessImportObject(*args)


# --- The command line -----------------------------------------------------------------------------

# Runs `echo text`, writes what that has written to its output and error, ends with its exit code.
PROGRAM = """(module
  (import "wasmedge_process" "wasmedge_process_set_prog_name" (func $name (param i32 i32)))
  (import "wasmedge_process" "wasmedge_process_add_arg" (func $argument (param i32 i32)))
  (import "wasmedge_process" "wasmedge_process_run" (func $run (result i32)))
  (import "wasmedge_process" "wasmedge_process_get_stdout_len" (func $length (result i32)))
  (import "wasmedge_process" "wasmedge_process_get_stdout" (func $output (param i32)))
  (import "wasmedge_process" "wasmedge_process_get_stderr_len" (func $error_length (result i32)))
  (import "wasmedge_process" "wasmedge_process_get_stderr" (func $error (param i32)))
  (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
  (memory (export "memory") 1)
  (data (i32.const 16) "echotext")
  (func $print (param $stream i32) (param $length i32)
    (i32.store (i32.const 0) (i32.const 1024))
    (i32.store (i32.const 4) (local.get $length))
    (drop (call $write (local.get $stream) (i32.const 0) (i32.const 1) (i32.const 8))))
  (func (export "_start") (local $code i32)
    (call $name (i32.const 16) (i32.const 4))
    (call $argument (i32.const 20) (i32.const 4))
    (local.set $code (call $run))
    (call $output (i32.const 1024))
    (call $print (i32.const 1) (call $length))
    (call $error (i32.const 1024))
    (call $print (i32.const 2) (call $error_length))
    (call $exit (i32.and (local.get $code) (i32.const 127)))))"""


@pytest.fixture
def program(tmp_path: Path) -> str:
    path = tmp_path / "program.wasm"
    path.write_bytes(wat(PROGRAM))
    return str(path)


def command_line(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "wasmedge_async", "run", *arguments],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


def test_the_command_line_allows_commands(program: str) -> None:
    done = command_line("--allow-command", "ls", "--allow-command", "echo", program)
    assert (done.returncode, done.stdout, done.stderr) == (0, "text\n", "")


def test_the_command_line_allows_nothing_by_itself(program: str) -> None:
    done = command_line("--allow-command", "/bin/echo", program)
    assert (done.returncode, done.stdout) == (127, "")
    assert done.stderr.startswith('Permission denied: command "echo"')
    assert "--allow-command=echo" in done.stderr


def test_programs_with_streams_may_run_commands(run: Run[None], program: str) -> None:
    async def main() -> None:
        async with VM(Configure(HostRegistration.WASI)) as vm:
            await vm.register_import(WasmEdgeProcessImportObject(["echo"]))
            process = await vm.spawn(program)
            assert process.stdout is not None
            assert [line async for line in process.stdout.lines()] == ["text"]
            assert await process.wait() == 0

    run(main())


def test_both_import_objects_can_be_registered(run: Run[None], program: str) -> None:
    async def main() -> None:
        async with VM() as vm:
            await vm.register_import(WasiImportObject(stdout=asyncio.subprocess.DEVNULL))
            await vm.register_import(WasmEdgeProcessImportObject(["echo"]))
            assert await vm.run_wasm_file(program, "_start") == []

    run(main())

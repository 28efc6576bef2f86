"""Real programs do the same in worker processes, awaited."""

from __future__ import annotations

import operator
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.loops import Run, run
from wasmedge_async import (
    VM,
    AwaitedCallerMemory,
    CallerMemory,
    Configure,
    ExternRef,
    Function,
    FunctionType,
    HostRegistration,
    ImportObject,
    ValType,
)

__all__ = ["run"]

I32, EXTERNREF = ValType.I32, ValType.EXTERNREF

Program = Callable[[str], bytes]

FIBONACCI = b"".join(n.to_bytes(4, "little") for n in (0, 1, 1, 2, 3, 5, 8, 13, 21, 34))


async def instantiate(vm: VM, data: bytes) -> None:
    await vm.load_wasm_buffer(data)
    await vm.validate()
    await vm.instantiate()


def test_print_fibonacci_lists_what_is_registered(program: Program, run: Run[None]) -> None:
    async def main() -> None:
        host = ImportObject("host")
        printed: list[tuple[int, int]] = []

        @host.function("print_val_and_res", params=[EXTERNREF, I32])
        async def print_val_and_res(
            data: object, memory: AwaitedCallerMemory | None, value: ExternRef, number: int
        ) -> None:
            printed.append((value.value, number))

        async with VM(Configure(HostRegistration.WASI)) as vm:
            await vm.register_import(host)
            await vm.register_wasm_buffer("wasm", program("fibonacci"))
            await instantiate(vm, program("print_fibonacci"))
            assert await vm.execute("print_val_and_fib", ExternRef(123456), 20) == []
            assert await vm.execute("print_val_and_fib", ExternRef(876543210), 21) == []
            assert await vm.execute_registered("wasm", "fib", 22) == [28657]
            assert printed == [(123456, 10946), (876543210, 17711)]
            store = await vm.get_store()
            assert await store.list_module() == ["host", "wasi_snapshot_preview1", "wasm"]
            assert await store.list_function_registered("host") == ["print_val_and_res"]
            assert await store.list_function_registered("wasm") == ["fib"]

    run(main())


def test_external_references_to_callables(program: Program, run: Run[None]) -> None:
    async def main() -> None:
        def call(data: None, memory: CallerMemory | None, target: ExternRef, *args: int) -> int:
            result: int = target.value(*args)
            return result

        imports = ImportObject("extern_module")
        for name, count in (("add", 2), ("mul", 2), ("square", 1)):
            kind = FunctionType([EXTERNREF, *[I32] * count], [I32])
            imports.add_function(name, Function(kind, call))
        add, multiply, square = operator.add, operator.mul, lambda a: a * a
        async with VM() as vm:
            await vm.register_import(imports)
            await instantiate(vm, program("externref_funcs"))
            assert await vm.execute("call_add", add, 1234, 5678) == [6912]
            assert await vm.execute("call_mul", multiply, 4827, -31519) == [-152142213]
            assert await vm.execute("call_square", square, 1024) == [1048576]
            assert await vm.execute("call_add_square", add, square, 761, 195) == [913936]

    run(main())


def test_rust_fills_an_array(program: Program, run: Run[None]) -> None:
    async def main() -> None:
        async with VM(Configure(HostRegistration.WASI)) as vm:
            await instantiate(vm, program("rust_access_memory_lib"))
            [place] = await vm.execute("allocate", 40)
            assert await vm.execute("fib_array", 10, place) == [34]
            memory = await (await vm.get_store()).find_memory("memory")
            assert memory is not None
            assert await memory.get_data(place, 40) == FIBONACCI
            await vm.execute("deallocate", place, 40)
            [place] = await vm.execute("fib_array_return_memory", 10)
            assert await memory.get_data(place, 40) == FIBONACCI

    run(main())


def test_a_library_greets(program: Program, run: Run[None]) -> None:
    async def main() -> None:
        async with VM(Configure(HostRegistration.WASI)) as vm:
            await instantiate(vm, program("rust_memory_greet_lib"))
            [place] = await vm.execute("allocate", 9)
            memory = await (await vm.get_store()).find_memory("memory")
            assert memory is not None
            await memory.set_data(b"WasmEdge\0", place)
            [answer] = await vm.execute("greet", place)
            text = await memory.get_data(answer, 64)
            assert text.partition(b"\0")[0] == b"Hello, WasmEdge!"

    run(main())


@pytest.mark.parametrize(
    ("name", "script", "args", "output"),
    [
        ("hello", "", ["a", "b"], b"hello\na\nb\n"),
        ("qjs", "print(6 * 7)", ["script.js"], b"42\n"),
    ],
)
def test_a_program_prints(
    programs: Path,
    tmp_path: Path,
    run: Run[None],
    name: str,
    script: str,
    args: list[str],
    output: bytes,
) -> None:
    async def main() -> None:
        (tmp_path / "script.js").write_text(script)
        program = programs / f"{name}.wasm"
        async with (
            VM() as vm,
            await vm.spawn(program, args=[name, *args], preopens={".": tmp_path}) as process,
        ):
            assert await process.communicate() == (output, b"")
            assert await process.wait() == 0

    run(main())

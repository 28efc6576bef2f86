"""Real wasm-bindgen modules give what they must, synchronous and in a worker."""

from __future__ import annotations

import asyncio
import io
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import pytest

import wasmedge_async
from wasmedge_runtime import VM, BindgenReturn, Configure, HostRegistration, Trap

Program = Callable[[str], bytes]

ARRAY: Final = BindgenReturn.ARRAY
MESSAGE = b"This is an important message"
LINE = ('{"x":1.5,"y":3.8}', '{"x":2.5,"y":5.8}', "A thin red line")

# fmt: off
CALLS: list[tuple[str, BindgenReturn, tuple[Any, ...], Any]] = [
    ("say", ARRAY, ("bindgen funcs test",), b"hello bindgen funcs test"),
    ("obfusticate", ARRAY, ("A quick brown fox jumps over the lazy dog",),
     b"N dhvpx oebja sbk whzcf bire gur ynml qbt"),
    ("lowest_common_multiple", BindgenReturn.I32, (123, 2), 246),
    ("sha3_digest", ARRAY, (MESSAGE,), bytes([
        87, 27, 231, 209, 189, 105, 251, 49, 159, 10, 211, 250, 15, 159, 154, 181,
        43, 218, 26, 141, 56, 199, 25, 45, 60, 10, 20, 163, 54, 211, 195, 203])),
    ("keccak_digest", ARRAY, (MESSAGE,), bytes([
        126, 194, 241, 200, 151, 116, 227, 33, 216, 99, 159, 22, 107, 3, 177, 169,
        216, 191, 114, 156, 174, 193, 32, 159, 246, 228, 245, 133, 52, 75, 55, 27])),
    ("create_line", ARRAY, LINE,
     b'{"points":[{"x":1.5,"y":3.8},{"x":2.5,"y":5.8}],"valid":true,'
     b'"length":2.2360682,"desc":"A thin red line"}'),
]
# fmt: on


def test_functions_with_text_and_bytes(program: Program) -> None:
    with VM(Configure(HostRegistration.WASI)) as vm:
        vm.load_wasm_buffer(program("rust_bindgen_funcs_lib_bg"))
        vm.validate()
        vm.instantiate()
        for name, kind, args, expected in CALLS:
            assert vm.execute_bindgen(name, kind, *args) == expected, name


def test_functions_with_text_and_bytes_in_a_worker(program: Program) -> None:
    async def main() -> None:
        async with wasmedge_async.VM(Configure(HostRegistration.WASI)) as vm:
            data = program("rust_bindgen_funcs_lib_bg")
            await vm.register_wasm_buffer("library", data)
            await vm.load_wasm_buffer(data)
            await vm.validate()
            await vm.instantiate()
            for name, kind, args, expected in CALLS:
                assert await vm.execute_bindgen(name, kind, *args) == expected, name
                found = await vm.execute_bindgen_registered("library", name, kind, *args)
                assert found == expected, name

    asyncio.run(main())


def test_a_library_gives_back_the_memory_that_it_took(program: Program) -> None:
    with VM(Configure(HostRegistration.WASI)) as vm:
        vm.load_wasm_buffer(program("rust_bindgen_funcs_lib_bg"))
        vm.validate()
        vm.instantiate()
        memory = vm.store.find_memory("memory")
        assert memory is not None
        text = "A quick brown fox " * 10_000
        vm.execute_bindgen("obfusticate", ARRAY, text)
        size = memory.page_size
        for _ in range(50):
            vm.execute_bindgen("obfusticate", ARRAY, text)
        assert memory.page_size == size


def test_a_library_uses_files_environment_and_random_numbers(
    program: Program, tmp_path: Path
) -> None:
    output = io.BytesIO()
    with VM(Configure(HostRegistration.WASI)) as vm:
        wasi = vm.get_import_object(HostRegistration.WASI)
        assert wasi is not None
        wasi.init_wasi(envs={"A": "1", "B": "2"}, preopens={"/": tmp_path}, stdout=output)
        vm.load_wasm_buffer(program("rust_bindgen_wasi_lib_bg"))
        vm.validate()
        vm.instantiate()
        vm.execute("_initialize")
        assert vm.execute_bindgen("echo", ARRAY, "hello!!!!") == b"hello!!!!"
        vm.execute_bindgen("print_env", BindgenReturn.VOID)
        printed = output.getvalue().decode()
        assert "Printed from wasi: hello!!!!" in printed
        assert "A: 1" in printed
        numbers = {vm.execute_bindgen("get_random_i32", BindgenReturn.I32) for _ in range(5)}
        assert len(numbers) > 1
        assert len(vm.execute_bindgen("get_random_bytes", ARRAY)) == 128
        vm.execute_bindgen("create_file", BindgenReturn.VOID, "/new.txt", "content")
        assert (tmp_path / "new.txt").read_text() == "content"
        assert vm.execute_bindgen("read_file", ARRAY, "/new.txt") == b"content"
        vm.execute_bindgen("del_file", BindgenReturn.VOID, "/new.txt")
        assert not (tmp_path / "new.txt").exists()
        with pytest.raises(Trap):
            vm.execute_bindgen("read_file", ARRAY, "/new.txt")

"""Real programs for WASI do what they must."""

from __future__ import annotations

import io
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from wasmedge_runtime import VM, Configure, HostRegistration, Memory, Trap

Program = Callable[[str], bytes]


class Machine:
    """A VM with WASI, and what its programs print."""

    def __init__(self) -> None:
        self.vm = VM(Configure(HostRegistration.WASI))
        wasi = self.vm.get_import_object(HostRegistration.WASI)
        assert wasi is not None
        self.wasi = wasi
        self.out, self.err = io.BytesIO(), io.BytesIO()

    def start(self, data: bytes, args: list[str], **options: Any) -> int:
        """Run a program to its end; its exit code."""
        self.wasi.init_wasi(args, stdout=self.out, stderr=self.err, **options)
        self.vm.run_wasm_buffer(data, "_start")
        return self.wasi.wasi_get_exit_code()

    def load(self, data: bytes, **options: Any) -> None:
        """Make a library ready to be called."""
        self.wasi.init_wasi(stdout=self.out, stderr=self.err, **options)
        self.vm.load_wasm_buffer(data)
        self.vm.validate()
        self.vm.instantiate()

    def call(self, name: str, *args: int) -> int:
        """Call a function with one result."""
        [result] = self.vm.execute(name, *args)
        number: int = result
        return number

    @property
    def memory(self) -> Memory:
        memory = self.vm.store.find_memory("memory")
        assert memory is not None
        return memory

    def lines(self) -> list[str]:
        return self.out.getvalue().decode().splitlines()


@pytest.fixture
def machine() -> Iterator[Machine]:
    machine = Machine()
    yield machine
    machine.vm.close()


def test_hello(program: Program, machine: Machine) -> None:
    assert machine.start(program("hello"), ["hello.wasm", "a", "b"]) == 0
    assert machine.lines() == ["hello", "a", "b"]


def test_a_program_reads_a_file_and_its_input(
    program: Program, machine: Machine, programs: Path, tmp_path: Path
) -> None:
    data = program("rust_readfile")
    shutil.copy(programs / "file.txt", tmp_path)
    code = machine.start(
        data,
        ["rust_readfile.wasm", "file.txt"],
        preopens={".": tmp_path},
        stdin=b"5\n-3\n15\n",
    )
    assert code == 0
    assert machine.lines() == [
        'Rust: Opening input file "file.txt"...',
        'Rust: Read input file "file.txt" succeeded.',
        "Rust: Please input the line number to print the line of file.",
        "abcDEF___!@#$%^",
        'Rust: ERROR - Input "-3" is not an integer: invalid digit found in string',
        'Rust: ERROR - Line "15" is out of range.',
        "Rust: Process end.",
    ]


def test_a_javascript_engine_runs_a_script(
    program: Program, machine: Machine, tmp_path: Path
) -> None:
    """It imports WasmEdge's sockets, which link although nothing is allowed."""
    (tmp_path / "script.js").write_text("print(6 * 7); print([3, 1, 2].sort().join('-'))")
    code = machine.start(program("qjs"), ["qjs.wasm", "script.js"], preopens={".": tmp_path})
    assert (code, machine.lines()) == (0, ["42", "1-2-3"])


def test_a_program_decodes_a_picture_from_its_input(
    program: Program, machine: Machine, programs: Path
) -> None:
    picture = (programs / "extensions" / "bird.jpeg").read_bytes()
    data = program("extensions/rust_parseimage")
    assert machine.start(data, ["rust_parseimage.wasm"], stdin=picture) == 0
    assert machine.lines() == [
        "Rust: Read 229104 bytes from stdin.",
        "Rust: Got image data from stdin. Width: 1024, Height: 768",
    ]


def test_a_library_adds(program: Program, machine: Machine) -> None:
    machine.load(program("add"))
    assert machine.call("add", 40, 2) == 42
    with pytest.raises(Trap, match="unreachable"):  # a Rust build that checks for overflow
        machine.call("add", 2**31 - 1, 1)
    assert b"attempt to add with overflow" in machine.err.getvalue()


def test_state_is_kept_between_calls(program: Program, machine: Machine) -> None:
    machine.load(program("accumulate_bg"))
    for _ in range(3):
        machine.vm.execute("acc")
    assert machine.lines() == ["1", "2", "3"]


FIBONACCI = b"".join(n.to_bytes(4, "little") for n in (0, 1, 1, 2, 3, 5, 8, 13, 21, 34))


def test_rust_fills_an_array(program: Program, machine: Machine) -> None:
    machine.load(program("rust_access_memory_lib"))
    place = machine.call("allocate", 40)
    assert machine.call("fib_array", 10, place) == 34
    assert machine.memory.get_data(place, 40) == FIBONACCI
    machine.vm.execute("deallocate", place, 40)
    place = machine.call("fib_array_return_memory", 10)
    assert machine.memory.get_data(place, 40) == FIBONACCI


def test_tinygo_fills_an_array(program: Program, machine: Machine) -> None:
    machine.load(program("tinygo_fib"))
    machine.vm.execute("_start")
    place = machine.call("malloc", 40)
    assert machine.call("fibArray", 10, place) == 34
    assert machine.memory.get_data(place, 40) == FIBONACCI


@pytest.mark.parametrize(
    ("name", "allocate"), [("tinygo_greet", "malloc"), ("rust_memory_greet_lib", "allocate")]
)
def test_a_library_greets(program: Program, machine: Machine, name: str, allocate: str) -> None:
    machine.load(program(name))
    if name == "tinygo_greet":
        machine.vm.execute("_start")
    subject = b"WasmEdge\0"
    place = machine.call(allocate, len(subject))
    machine.memory.set_data(subject, place)
    answer = machine.memory.get_data(machine.call("greet", place), 64)
    assert answer.partition(b"\0")[0] == b"Hello, WasmEdge!"

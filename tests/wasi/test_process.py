"""Arguments, environment, clocks, random numbers, and how programs end."""

from __future__ import annotations

import time

import pytest

from tests.wasi.guest import RESULT, Guest
from tests.wat import wat
from wasmedge_runtime import VM, Configure, HostRegistration, Trap
from wasmedge_runtime.wasi.abi import Errno

EXITS = """(module
  (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
  (import "wasi_snapshot_preview1" "proc_raise" (func $raise (param i32) (result i32)))
  (memory (export "memory") 1)
  (global $code (mut i32) (i32.const 3))
  (func (export "_start")
    (if (global.get $code)
      (then (call $exit (global.get $code) (global.set $code (i32.const 0))) unreachable)))
  (func (export "exit") (param i32) (call $exit (local.get 0)) unreachable)
  (func (export "raise") (param i32) (result i32) (call $raise (local.get 0)))
  (func (export "trap") unreachable))"""


@pytest.fixture
def vm() -> VM:
    vm = VM(Configure(HostRegistration.WASI))
    vm.load_wasm_buffer(wat(EXITS))
    vm.validate()
    vm.instantiate()
    return vm


def exit_code(vm: VM) -> int:
    wasi = vm.get_import_object(HostRegistration.WASI)
    assert wasi is not None
    return wasi.wasi_get_exit_code()


@pytest.mark.parametrize("code", [0, 1, 42, 255, 256, 0x7FFFFFFF, 0xFFFFFFFF])
def test_exit_is_a_clean_end_with_a_code(vm: VM, code: int) -> None:
    assert vm.execute("exit", code) == []
    assert exit_code(vm) == code


def test_a_start_that_returns_means_success(vm: VM) -> None:
    assert vm.execute("_start") == []
    assert exit_code(vm) == 3
    assert vm.execute("_start") == []
    assert exit_code(vm) == 0


def test_beginning_anew_forgets_the_exit_code(vm: VM) -> None:
    vm.execute("exit", 9)
    wasi = vm.get_import_object(HostRegistration.WASI)
    assert wasi is not None
    wasi.init_wasi()
    assert exit_code(vm) == 0


def test_an_exit_in_the_start_function_is_the_end_of_the_program() -> None:
    vm = VM(Configure(HostRegistration.WASI))
    text = """(module
      (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
      (memory (export "memory") 1)
      (func $exit_3 (call $exit (i32.const 3)))
      (start $exit_3)
      (func (export "_start") unreachable))"""
    assert vm.run_wasm_buffer(wat(text), "_start") == []
    assert exit_code(vm) == 3


def test_a_trap_is_no_exit(vm: VM) -> None:
    with pytest.raises(Trap):
        vm.execute("trap")
    assert exit_code(vm) == 0


@pytest.mark.parametrize(("signal", "code"), [(6, 134), (9, 137), (15, 143), (30, 159)])
def test_a_deadly_signal_ends_the_program(vm: VM, signal: int, code: int) -> None:
    assert vm.execute("raise", signal) == []
    assert exit_code(vm) == code


@pytest.mark.parametrize(
    ("signal", "errno"),
    [(0, Errno.SUCCESS), (16, Errno.SUCCESS), (18, Errno.NOTSUP), (31, Errno.INVAL)],
)
def test_other_signals_do_not(vm: VM, signal: int, errno: Errno) -> None:
    assert vm.execute("raise", signal) == [errno]


@pytest.mark.parametrize(
    ("name", "texts"),
    [("args", [b"program", b"", b"\xc3\xa4 b"]), ("environ", [b"A=1", b"B=x=y", b"C="])],
)
def test_texts_arrive_in_one_block_with_their_addresses(name: str, texts: list[bytes]) -> None:
    guest = Guest(["program", "", "ä b"], ["A=1", "B=x=y", "C="])
    guest.do(f"{name}_sizes_get", RESULT, RESULT + 4)
    count, size = guest.get("<II")
    assert (count, size) == (3, sum(map(len, texts)) + 3)
    pointers, block = guest.room(4 * count), guest.room(size)
    guest.do(f"{name}_get", pointers, block)
    assert guest.memory.get_data(block, size) == b"\0".join(texts) + b"\0"
    starts = [guest.get("<I", pointers + 4 * i) - block for i in range(count)]
    assert starts == [0, len(texts[0]) + 1, len(texts[0]) + len(texts[1]) + 2]


@pytest.mark.parametrize(
    ("clock", "host"),
    [
        (0, time.time_ns),
        (1, time.monotonic_ns),
        (2, time.process_time_ns),
        (3, time.thread_time_ns),
    ],
)
def test_clocks_are_those_of_the_host(clock: int, host: object) -> None:
    assert callable(host)
    guest = Guest()
    before = host()
    guest.do("clock_time_get", clock, 0, RESULT)
    assert before <= guest.get("<Q") <= host()
    guest.do("clock_res_get", clock, RESULT)
    assert 0 < guest.get("<Q") <= 10_000_000


def test_there_is_no_fifth_clock() -> None:
    guest = Guest()
    assert guest.call("clock_time_get", 4, 0, RESULT) is Errno.INVAL
    assert guest.call("clock_res_get", 4, RESULT) is Errno.INVAL


def test_random_numbers_fill_what_was_asked_for_and_no_more() -> None:
    guest = Guest()
    place = guest.room(200_000)
    guest.do("random_get", place, 150_000)
    data = guest.memory.get_data(place, 200_000)
    assert len(set(data[:150_000])) == 256
    assert data[149_000:150_000].count(0) < 100
    assert data[150_000:] == bytes(50_000)

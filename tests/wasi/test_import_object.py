"""WasiImportObject and HostRegistration.WASI."""

from __future__ import annotations

import gc
import os
from pathlib import Path
from typing import Any

import pytest

from tests.wasi.guest import Guest, tree
from tests.wat import wat
from wasmedge_runtime import (
    VM,
    Configure,
    Executor,
    HostRegistration,
    InstantiationError,
    Store,
    WasiImportObject,
    WasmEdgeError,
)
from wasmedge_runtime.wasi.functions import FUNCTIONS

NAME = "wasi_snapshot_preview1"

# The functions of the specification's first snapshot and those that WasmEdge 0.9.1 had besides.
OF_THE_REFERENCE = (
    "args_get args_sizes_get environ_get environ_sizes_get clock_res_get clock_time_get fd_advise "
    "fd_allocate fd_close fd_datasync fd_fdstat_get fd_fdstat_set_flags fd_fdstat_set_rights "
    "fd_filestat_get fd_filestat_set_size fd_filestat_set_times fd_pread fd_prestat_get "
    "fd_prestat_dir_name fd_pwrite fd_read fd_readdir fd_renumber fd_seek fd_sync fd_tell fd_write "
    "path_create_directory path_filestat_get path_filestat_set_times path_link path_open "
    "path_readlink path_remove_directory path_rename path_symlink path_unlink_file poll_oneoff "
    "proc_exit proc_raise random_get sched_yield sock_recv sock_send sock_shutdown"
)
WASMEDGE_SOCKETS = (
    "sock_open sock_bind sock_connect sock_listen sock_accept sock_recv sock_send sock_getsockopt "
    "sock_setsockopt sock_getlocaladdr sock_getpeeraddr sock_getaddrinfo"
)


def test_all_functions_are_there() -> None:
    assert len(OF_THE_REFERENCE.split()) == 45
    names = WasiImportObject().externs.keys()
    assert names >= {*OF_THE_REFERENCE.split(), *WASMEDGE_SOCKETS.split()}


def test_the_handlers_take_what_their_rows_say() -> None:
    for row in FUNCTIONS:
        assert row.handler.__code__.co_argcount == len(row.parameters) + 2, row.name


@pytest.mark.parametrize("parameters", ["i32 i32", "i32 i32 i32"])
def test_a_function_with_two_types_is_linked_by_the_one_that_is_asked_for(parameters: str) -> None:
    text = f'(module (import "{NAME}" "sock_accept" (func (param {parameters}) (result i32))))'
    with VM(Configure(HostRegistration.WASI)) as vm:
        vm.load_wasm_buffer(wat(text))
        vm.validate()
        vm.instantiate()


def test_a_third_type_is_refused() -> None:
    text = f'(module (import "{NAME}" "sock_accept" (func (param i32) (result i32))))'
    with VM(Configure(HostRegistration.WASI)) as vm:
        vm.load_wasm_buffer(wat(text))
        vm.validate()
        with pytest.raises(InstantiationError, match="incompatible import type"):
            vm.instantiate()


def test_a_vm_registers_wasi_only_when_configured() -> None:
    with VM() as vm:
        assert vm.get_import_object(HostRegistration.WASI) is None
        assert vm.store.list_module() == []
    with VM(Configure(HostRegistration.WASI)) as vm:
        assert isinstance(vm.get_import_object(HostRegistration.WASI), WasiImportObject)
        assert vm.store.list_module() == [NAME]
        assert "fd_write" in vm.store.list_function_registered(NAME)


def test_wasi_stays_after_cleanup() -> None:
    with VM(Configure(HostRegistration.WASI)) as vm:
        before = vm.get_import_object(HostRegistration.WASI)
        vm.register_wasm_buffer("other", b"\0asm\1\0\0\0")
        vm.cleanup()
        assert vm.store.list_module() == [NAME]
        assert vm.get_import_object(HostRegistration.WASI) is before


def test_closing_a_vm_closes_what_its_programs_had_open(tmp_path: Path) -> None:
    gc.collect()  # what earlier tests have left must not go meanwhile
    before = sorted(os.listdir("/proc/self/fd"))
    vm = VM(Configure(HostRegistration.WASI))
    wasi = vm.get_import_object(HostRegistration.WASI)
    assert wasi is not None
    wasi.init_wasi(preopens={"/": tmp_path})
    wasi.close()  # it is the VM's: nothing happens
    assert wasi.wasi_get_exit_code() == 0
    vm.close()
    assert sorted(os.listdir("/proc/self/fd")) == before
    with pytest.raises(WasmEdgeError, match="closed"):
        wasi.init_wasi()


def test_a_store_outlives_a_vm_with_wasi() -> None:
    store = Store()
    for _ in range(2):
        with VM(Configure(HostRegistration.WASI), store):
            assert store.list_module() == [NAME]
    assert store.list_module() == []


def test_two_in_one_store_conflict() -> None:
    store = Store()
    Executor().register_import(store, WasiImportObject())
    with pytest.raises(InstantiationError, match="module name conflict"):
        Executor().register_import(store, WasiImportObject())


def test_mappings_and_strings_mean_the_same(tmp_path: Path) -> None:
    folder = tree(tmp_path / "folder", file="x")
    for envs, preopens in (
        ({"A": "1"}, {"/data": folder}),
        (["A=1"], [f"/data:{folder}"]),
    ):
        guest = Guest(envs=envs, preopens=preopens)
        assert guest.wasi._wasi.environ == [b"A=1"]
        assert guest.content("file") == b"x"


def test_one_path_alone_is_both_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tree(tmp_path / "data", file="x")
    monkeypatch.chdir(tmp_path)
    assert Guest(preopens=["data"]).content("file") == b"x"


def test_a_folder_may_be_called_readonly(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tree(tmp_path / "readonly", file="x")
    monkeypatch.chdir(tmp_path)
    guest = Guest(preopens=["data:readonly", "other:readonly:readonly"])
    assert [guest.wasi._wasi.table[fd].readonly for fd in (3, 4)] == [False, True]


@pytest.mark.parametrize(
    ("arguments", "kind"),
    [
        ({"args": "program"}, TypeError),
        ({"args": [b"program"]}, TypeError),
        ({"args": ["a\0b"]}, ValueError),
        ({"envs": "A=1"}, TypeError),
        ({"envs": ["A"]}, ValueError),
        ({"envs": ["=1"]}, ValueError),
        ({"envs": {"A": "1\0"}}, ValueError),
        ({"preopens": "/:."}, TypeError),
        ({"preopens": [b"/:."]}, TypeError),
        ({"preopens": ["/:nowhere-at-all"]}, FileNotFoundError),
        ({"preopens": ["/:/dev/null"]}, NotADirectoryError),
        ({"stdin": "nowhere-at-all"}, FileNotFoundError),
    ],
)
def test_wrong_arguments_are_refused(arguments: dict[str, Any], kind: type[Exception]) -> None:
    with pytest.raises(kind):
        WasiImportObject(**arguments)


def test_a_failed_init_changes_nothing(tmp_path: Path) -> None:
    guest = Guest(["program"], preopens={"/": tree(tmp_path, file="x")})
    with pytest.raises(ValueError, match="NAME=value"):
        guest.wasi.init_wasi(["other"], ["A"])
    assert guest.wasi._wasi.args == [b"program"]
    assert guest.content("file") == b"x"

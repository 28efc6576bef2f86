"""C programs, written for this project and compiled against the C library for WASI."""

from __future__ import annotations

import io
import os
import stat
from pathlib import Path

from tests.runtime.engine import Running
from tests.wasi.build import compile_program
from wasmedge_runtime import VM, Configure, HostRegistration, WasiImportObject


def wasi_of(vm: VM) -> WasiImportObject:
    wasi = vm.get_import_object(HostRegistration.WASI)
    assert wasi is not None
    return wasi


def test_files_and_directories(tmp_path: Path) -> None:
    out, err = io.BytesIO(), io.BytesIO()
    with VM(Configure(HostRegistration.WASI)) as vm:
        wasi = wasi_of(vm)
        wasi.init_wasi(["walk"], preopens={"/": tmp_path}, stdout=out, stderr=err)
        vm.run_wasm_file(compile_program("walk"), "_start")
        assert (err.getvalue(), wasi.wasi_get_exit_code()) == (b"", 0)
    assert out.getvalue().decode().splitlines() == [
        "entries 1231",
        "seekdir same",
        "large 5000000003 end",
        "truncated 10",
        "times 1.500 2000000000.999999999",
        "links 2",
        "open removed: No such file or directory",
        "outside: refused",
        "appended at 14",
    ]
    assert (tmp_path / "hard").read_bytes() == bytes(10) + b"more"
    assert stat.S_ISLNK((tmp_path / "link").lstat().st_mode)


def test_arguments_environment_time_and_input() -> None:
    reader, writer = os.pipe()
    results, printed = os.pipe()
    err = io.BytesIO()
    with VM(Configure(HostRegistration.WASI)) as vm:
        wasi = wasi_of(vm)
        wasi.init_wasi(
            ["program", "two words"], {"HOME": "/home", "X": ""}, (), reader, printed, err
        )
        os.close(printed)
        running = Running(vm.run_wasm_file, compile_program("surroundings"), "_start")
        output = b""
        while b"select" not in output:
            output += os.read(results, 4096)
        os.write(writer, b"first\nsecond\n")
        os.close(writer)
        running.result()
        output += os.read(results, 4096)
        assert wasi.wasi_get_exit_code() == 7
    assert err.getvalue() == b"done\n"
    assert output.decode().splitlines() == [
        "argument program",
        "argument two words",
        "variable HOME=/home",
        "variable X=",
        "HOME /home, NOTHING not set",
        "slept enough",
        "year plausible",
        "select 0",
        "poll 1",
        "line first",
        "line second",
    ]
    os.close(reader)
    os.close(results)

"""Every program of the official suite, as a test."""

from __future__ import annotations

import io
import shutil
from pathlib import Path

import pytest

from tests.wasi import suite
from wasmedge_runtime import VM, Configure, HostRegistration

FOUND = suite.find_suite()


@pytest.mark.skipif(FOUND is None, reason=suite.NOT_FOUND)
@pytest.mark.parametrize("name", suite.list_programs(FOUND) if FOUND else [])
def test_program_does_what_it_must(name: str, tmp_path: Path) -> None:
    assert FOUND is not None
    program = suite.read_program(FOUND, name)
    preopens = {}
    if program.root is not None:
        shutil.copytree(program.root, tmp_path / "root")
        preopens["/"] = tmp_path / "root"
    stdout, stderr = io.BytesIO(), io.BytesIO()
    with VM(Configure(HostRegistration.WASI)) as vm:
        wasi = vm.get_import_object(HostRegistration.WASI)
        assert wasi is not None
        wasi.init_wasi(
            [program.path.name, *program.args], program.env, preopens, b"", stdout, stderr
        )
        vm.run_wasm_file(program.path, "_start")
        exit_code = wasi.wasi_get_exit_code()
    printed = (stdout.getvalue().decode(), stderr.getvalue().decode())
    assert exit_code == program.exit_code, printed
    assert program.stdout in (None, printed[0])
    assert program.stderr in (None, printed[1])

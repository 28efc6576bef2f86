"""A wheel with modules that mypyc compiled. Compiling takes most of a minute."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent.parent

# Validates and translates; prints where from, what came of it, and how an error reads.
PROGRAM = """
import hashlib, sys
sys.path.insert(0, sys.argv[1])
from wasmedge_runtime import Loader, ValidationError, Validator
from wasmedge_runtime.codegen import function as translator
from wasmedge_runtime.codegen.context import ContextLayout
from wasmedge_runtime.codegen.context import Variant
from wasmedge_runtime.codegen.unit import UnitTranslator
from wasmedge_runtime.validate import function as validator
module = bytes.fromhex(sys.argv[2])
try:
    Validator().validate(Loader().load_buffer(module.replace(b"\\x6b", b"\\x7d")))
except ValidationError as error:
    said = str(error)
ast = Loader().load_buffer(module)
Validator().validate(ast)
functions = range(ast.imported_functions, len(ast.function_types))
for variant in (Variant(True, False, False), Variant(False, True, True)):
    said += UnitTranslator(ast, variant, ContextLayout(ast), functions).text()
print(validator.__file__.rpartition(".")[2], translator.__file__.rpartition(".")[2])
print(said)
"""

# (func (export "fib") (param i32) (result i32) ...), recursive
FIB = (
    "0061736d0100000001060160017f017f030201000707010366696200000a1e011c002000"
    "410248047f410105200041016b1000200041026b10006a0b0b"
)


def build(directory: Path, wanted: str) -> Path:
    """Build a wheel of the checkout."""
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(directory)],
        cwd=ROOT,
        env=os.environ | {"WASMEDGE_COMPILE": wanted},
        check=True,
        capture_output=True,
    )
    [wheel] = directory.glob("*.whl")
    return wheel


@pytest.fixture(scope="module")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder with a wheel that was built with WASMEDGE_COMPILE=1, and what is in it."""
    compiler = (sysconfig.get_config_var("CC") or "cc").split()[0]
    if shutil.which(compiler) is None:
        pytest.skip(f"no C compiler: {compiler}")
    directory = tmp_path_factory.mktemp("wheel")
    zipfile.ZipFile(build(directory, "1")).extractall(directory)
    return directory


def run(directory: Path) -> list[str]:
    """The first line of what the program prints, and the rest."""
    command = [sys.executable, "-I", "-B", "-c", PROGRAM, str(directory), FIB]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return done.stdout.split("\n", 1)


def test_the_wheel_is_for_this_platform_and_has_the_sources_too(compiled: Path) -> None:
    [wheel] = compiled.glob("*.whl")
    version = f"cp{sys.version_info.major}{sys.version_info.minor}"
    assert f"-{version}-{version}-{sysconfig.get_platform().partition('-')[0]}_" in wheel.name
    names = zipfile.ZipFile(wheel).namelist()
    suffix = sysconfig.get_config_var("EXT_SUFFIX")
    extensions = [name for name in names if name.endswith(suffix)]
    assert f"wasmedge_runtime/_mypyc/validate/function{suffix}" in extensions
    for name in extensions:
        if "__mypyc" not in name:  # the library they share
            assert name.replace("_mypyc/", "").replace(suffix, ".py") in names


def test_compiled_and_source_do_the_same_and_old_modules_are_not_used(
    compiled: Path, tmp_path: Path
) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(compiled, copy)
    kinds, said = run(copy)
    assert kinds == "so so"
    assert "define hidden i32 @f0" in said
    with (copy / "wasmedge_runtime" / "limits.py").open("a") as source:
        source.write("# changed\n")
    assert run(copy) == ["py py", said]


def test_a_setting_that_is_no_answer_is_refused(tmp_path: Path) -> None:
    with pytest.raises(subprocess.CalledProcessError) as caught:
        build(tmp_path, "yes")
    assert b"WASMEDGE_COMPILE=yes: it must be 1" in caught.value.stderr

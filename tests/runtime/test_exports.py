"""The public names of the package, and what importing it costs."""

from __future__ import annotations

import ast
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

import wasmedge_runtime
from wasmedge_runtime import version


def test_all_is_the_table_of_homes() -> None:
    assert sorted(wasmedge_runtime.__all__) == sorted(wasmedge_runtime._HOMES)


@pytest.mark.parametrize("name", wasmedge_runtime.__all__)
def test_every_public_name_is_public_where_it_lives(name: str) -> None:
    home = import_module(f"wasmedge_runtime.{wasmedge_runtime._HOMES[name]}")
    assert getattr(wasmedge_runtime, name) is getattr(home, name)
    assert name in getattr(home, "__all__", [name])
    assert name in dir(wasmedge_runtime)


def test_type_checkers_see_the_same_names_in_the_same_modules() -> None:
    tree = ast.parse(Path(wasmedge_runtime.__file__).read_text(encoding="utf-8"))
    [block] = [node for node in tree.body if isinstance(node, ast.If)]
    seen = {
        alias.name: f"{node.module}"
        for node in block.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    assert seen == {
        name: f"wasmedge_runtime.{home}" for name, home in wasmedge_runtime._HOMES.items()
    }


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="has no attribute 'Nothing'"):
        _ = wasmedge_runtime.Nothing


def test_types_errors_values_and_configuration_load_neither_llvm_nor_ctypes() -> None:
    script = (
        "import sys\n"
        "from wasmedge_runtime import Configure, ErrCode, FunctionType, Trap, V128, __version__\n"
        "print(*{'llvmlite', 'ctypes', 'asyncio'} & set(sys.modules))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert done.stdout == "\n"


def test_version_is_three_numbers() -> None:
    parts = (
        wasmedge_runtime.get_version_major(),
        wasmedge_runtime.get_version_minor(),
        wasmedge_runtime.get_version_patch(),
    )
    assert ".".join(map(str, parts)) == wasmedge_runtime.get_version() == version.__version__

"""What is public, and what importing it costs."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import wasmedge_async


def _fresh(program: str) -> str:
    path = [entry for entry in sys.path if entry]
    program = f"import sys; sys.path[:] = {path!r}\n{program}"
    done = subprocess.run(
        [sys.executable, "-I", "-c", program], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_public_names_are_sorted_and_exist() -> None:
    names = wasmedge_async.__all__
    # The order ruff keeps: upper case, then classes, then the rest.
    order = sorted(set(names), key=lambda n: (0 if n.isupper() else 1 if n[0].isupper() else 2, n))
    assert names == order
    assert all(hasattr(wasmedge_async, name) for name in names)
    public = {name for name in vars(wasmedge_async) if not name.startswith("_")}
    modules = {name for name in public if f"wasmedge_async.{name}" in sys.modules}
    helpers = {"TYPE_CHECKING", "annotations", "import_module"}
    assert public - modules - helpers == set(names) - {"__version__"}


def test_every_public_name_is_imported_for_type_checkers_from_where_it_lives() -> None:
    tree = ast.parse(Path(wasmedge_async.__file__).read_text(encoding="utf-8"))
    [block] = [node for node in tree.body if isinstance(node, ast.If)]
    seen = {
        alias.name: f"{node.module}"
        for node in block.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    assert seen == wasmedge_async._HOMES
    assert sorted(seen) == sorted(wasmedge_async.__all__)


@pytest.mark.parametrize("name", ["VM", "VMPool"])
def test_every_public_method_is_documented(name: str) -> None:
    for attribute, value in vars(getattr(wasmedge_async, name)).items():
        if not attribute.startswith("_"):
            assert value.__doc__, attribute


def test_importing_does_not_load_the_engine() -> None:
    """A fresh interpreter, because this one may have loaded it for another test."""
    loaded = _fresh(
        "import wasmedge_async; wasmedge_async.VM(); wasmedge_async.VMPool(b'')\n"
        "print('\\n'.join(sys.modules))"
    ).split()
    assert "wasmedge_async" in loaded
    for heavy in (
        "llvmlite",
        "wasmedge_runtime.codegen",
        "wasmedge_runtime.native",
        "wasmedge_runtime.vm",
        "wasmedge_runtime.executor",
        "wasmedge_runtime.loader",
    ):
        assert heavy not in loaded


def test_the_parent_never_loads_the_engine_while_a_vm_runs() -> None:
    loaded = _fresh(
        "import asyncio, wasmedge_async\n"
        "async def main():\n"
        "    async with wasmedge_async.VM() as vm:\n"
        "        await vm.load_wasm_buffer(b'\\0asm\\1\\0\\0\\0')\n"
        "        await vm.validate()\n"
        "        await vm.instantiate()\n"
        "        assert await vm.get_function_list() == {}\n"
        "asyncio.run(main())\n"
        "print('\\n'.join(sys.modules))"
    ).split()
    assert "wasmedge_async" in loaded
    assert "llvmlite" not in loaded
    assert "wasmedge_runtime.vm" not in loaded

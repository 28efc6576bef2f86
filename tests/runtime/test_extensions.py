"""Compiled modules are used as long as they were made from the sources that are there.

Bytecode stands in for an extension module here; `tests/project/test_compile.py` has real ones.
"""

from __future__ import annotations

import importlib.util
import py_compile
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import wasmedge_runtime

PROGRAM = """
import logging, sys
logging.basicConfig(level=logging.INFO, stream=sys.stdout, format="%(message)s")
sys.path.insert(0, sys.argv[1])
from wasmedge_runtime.validate import stack
print("stand-in" if hasattr(stack, "stands_in") else "source")
"""


@pytest.fixture
def package(tmp_path: Path) -> Path:
    """A copy of the engine, with a stand-in for `validate.stack` that is current."""
    package = tmp_path / "wasmedge_runtime"
    ignored = shutil.ignore_patterns("_mypyc", "__pycache__")
    shutil.copytree(Path(wasmedge_runtime.__file__).parent, package, ignore=ignored)
    spec = importlib.util.spec_from_file_location("extensions", package / "extensions.py")
    assert spec is not None
    assert spec.loader is not None
    extensions = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(extensions)
    source = tmp_path / "stack.py"
    source.write_text((package / "validate" / "stack.py").read_text() + "\nstands_in = True\n")
    folder = package / "_mypyc"
    py_compile.compile(str(source), str(folder / "validate" / "stack.pyc"), doraise=True)
    (folder / "sources.sha256").write_text(extensions.sources_digest())
    return package


def imported(package: Path) -> str:
    """What a program says that imports the engine from there."""
    command = [sys.executable, "-I", "-B", "-c", PROGRAM, str(package.parent)]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def test_current_modules_are_used(package: Path) -> None:
    assert imported(package) == "stand-in\n"


@pytest.mark.parametrize("name", ["validate/stack.py", "limits.py"])
def test_modules_are_not_used_when_any_source_has_changed(package: Path, name: str) -> None:
    with (package / name).open("a") as source:
        source.write("# changed\n")
    said = imported(package).splitlines()
    assert said[-1] == "source"
    assert said[0].endswith("are of other sources: not used")


def test_modules_are_not_used_when_a_source_has_come_or_gone(package: Path) -> None:
    (package / "newcomer.py").touch()
    assert imported(package).endswith("source\n")
    (package / "newcomer.py").unlink()
    assert imported(package) == "stand-in\n"


def test_modules_without_a_record_are_not_used(package: Path) -> None:
    (package / "_mypyc" / "sources.sha256").unlink()
    assert imported(package) == "source\n"

"""Runs the tests of the engine on modules that mypyc compiled, in a scratch copy of the checkout.

    python tools/test_compiled.py              # tests/runtime and tests/spec
    python tools/test_compiled.py ARGUMENTS    # other arguments for pytest

The copy has a cache of its own, empty at first: in the checkout's there is code that the sources
made.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
CHECK = """
from wasmedge_runtime import extensions
from wasmedge_runtime.codegen import function as translator
from wasmedge_runtime.validate import function as validator
for module in (translator, validator):
    if not module.__file__.startswith(str(extensions.FOLDER)):
        raise SystemExit(f"not compiled: {module.__file__}")
"""


def main(arguments: list[str]) -> None:
    """Copy, compile, test.

    Raises `subprocess.CalledProcessError` when compiling or a test fails.
    """
    with tempfile.TemporaryDirectory(prefix="wasmedge-") as scratch:
        copy = Path(scratch, ROOT.name)
        shutil.copytree(ROOT, copy, ignore=shutil.ignore_patterns(".*", "_mypyc", "__pycache__"))
        # Where tests look for the test suite and for programs, unless variables name them.
        Path(scratch, "shared").symlink_to(ROOT.parent / "shared")
        path = os.pathsep.join(map(str, (copy / "runtime", copy / "pool", copy)))
        for command in (
            [str(copy / "tools" / "compile.py")],
            ["-c", CHECK],
            ["-m", "pytest", "-n", "2", *arguments],
        ):
            subprocess.run(
                [sys.executable, *command],
                cwd=copy,
                env=os.environ | {"PYTHONPATH": path},
                check=True,
            )


if __name__ == "__main__":
    try:
        main(sys.argv[1:] or ["tests/runtime", "tests/spec"])
    except subprocess.CalledProcessError as error:
        sys.exit(error.returncode)

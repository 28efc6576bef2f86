"""Runs the tests of the engine on modules that mypyc compiled, from a scratch copy of them.

python tools/test_compiled.py              # tests/runtime and tests/spec
python tools/test_compiled.py ARGUMENTS    # other arguments for pytest
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
    """Compile in a copy of the sources, and have pytest find the engine there.

    Raises `subprocess.CalledProcessError` when compiling or a test fails.
    """
    with tempfile.TemporaryDirectory(prefix="wasmedge-") as scratch:
        ignored = shutil.ignore_patterns("_mypyc", "__pycache__")
        for name in ("runtime", "tools"):
            shutil.copytree(ROOT / name, Path(scratch, name), ignore=ignored)
        subprocess.run([sys.executable, Path(scratch, "tools", "compile.py")], check=True)
        path = [str(Path(scratch, "runtime")), os.environ.get("PYTHONPATH", "")]
        environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, path))}
        for command in (["-c", CHECK], ["-m", "pytest", "-n", "2", *arguments]):
            subprocess.run([sys.executable, *command], cwd=ROOT, env=environment, check=True)


if __name__ == "__main__":
    try:
        main(sys.argv[1:] or ["tests/runtime", "tests/spec"])
    except subprocess.CalledProcessError as error:
        sys.exit(error.returncode)

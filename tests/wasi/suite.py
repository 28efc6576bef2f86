"""Finds the official WASI programs and what each of them must do."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent

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
    """The folder of the suite: `WASI_TESTSUITE`, else one beside the checkout, else None.

    Raises `NotADirectoryError` when `WASI_TESTSUITE` names no folder: asking for a suite and
    getting a skip would look like success.
    """
    named = os.environ.get("WASI_TESTSUITE")
    if named:
        if not Path(named).is_dir():
            raise NotADirectoryError(f"WASI_TESTSUITE={named} is not a folder")
        return Path(named)
    beside = ROOT.parent / "shared" / "wasi-testsuite"
    return beside if beside.is_dir() else None


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

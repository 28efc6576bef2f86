"""Programs that nobody on this project compiled, read from a folder beside the checkout."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.material import find_material


@pytest.fixture
def programs() -> Path:
    """The folder of programs, `WASM_PROGRAMS` or one beside the checkout; a test is skipped without
    it."""
    folder = find_material("WASM_PROGRAMS", "programs")
    if folder is None:
        pytest.skip("no programs: set WASM_PROGRAMS to the folder that has them")
    return folder


@pytest.fixture
def program(programs: Path) -> Callable[[str], bytes]:
    """A function from a program's name to its bytes."""
    return lambda name: (programs / f"{name}.wasm").read_bytes()

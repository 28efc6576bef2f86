"""Programs that nobody on this project compiled, read from a folder beside the checkout."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent.parent


@pytest.fixture
def program() -> Callable[[str], bytes]:
    """A function from a program's name to its bytes; the test is skipped without the folder.

    The folder is `WASM_PROGRAMS`, else the one beside the checkout.
    """
    named = os.environ.get("WASM_PROGRAMS")
    folder = Path(named) if named else ROOT.parent / "shared" / "programs"
    if not named and not folder.is_dir():
        pytest.skip("no programs: set WASM_PROGRAMS to the folder that has them")
    return lambda name: (folder / f"{name}.wasm").read_bytes()

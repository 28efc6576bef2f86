"""The site has every page of docs/, and every public name.

Building it takes longer than this: `make docs`.
"""

from __future__ import annotations

import re
from pathlib import Path
from types import ModuleType

import pytest

import wasmedge_async
import wasmedge_runtime

DOCS = Path(__file__).resolve().parent.parent.parent / "docs"


def read(name: str) -> str:
    return (DOCS / name).read_text(encoding="utf-8")


def test_every_page_stands_in_the_navigation() -> None:
    """In `docs/index.md`, once; and nothing else does."""
    blocks = re.findall(r"^```\{toctree\}\n(.*?)^```", read("index.md"), re.DOTALL | re.MULTILINE)
    listed = [line for block in blocks for line in block.splitlines() if line and line[0] != ":"]
    pages = {str(page.relative_to(DOCS).with_suffix("")) for page in DOCS.rglob("*.md")}
    assert sorted(listed) == sorted(pages - {"index"})


@pytest.mark.parametrize("package", [wasmedge_async, wasmedge_runtime], ids=lambda p: p.__name__)
def test_every_public_name_stands_on_one_api_page(package: ModuleType) -> None:
    """What both packages have, under the name of one of them."""
    text = "".join(page.read_text(encoding="utf-8") for page in (DOCS / "api").glob("*.md"))
    named = re.findall(r"^\.\. auto\w+:: (\w+)\.(\w+)$", text, re.MULTILINE)
    homes = {"wasmedge_async": wasmedge_async, "wasmedge_runtime": wasmedge_runtime}
    documented = [getattr(homes[home], name) for home, name in named]
    assert len(set(documented)) == len(documented)
    for name in package.__all__:
        if name not in ("__version__", "DEVNULL"):
            assert getattr(package, name) in documented, f"{name} stands on no page of docs/api/"

"""The site: `make docs` builds it into build/site. Warnings are errors, and nothing is fetched."""

from __future__ import annotations

import re
import sys
from enum import Enum
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sphinx.application import Sphinx

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from tools.public_members import NOT_CONSTRUCTED, PUBLIC  # noqa: E402
from wasmedge_runtime.version import __version__  # noqa: E402

project = "wasmedge-async"
version = release = __version__
copyright = "the authors of wasmedge-async; Apache-2.0"
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]

html_theme = "furo"
html_title = f"{project} {version}"
html_copy_source = False
html_show_sphinx = False

myst_heading_anchors = 4  # named as GitHub names them
suppress_warnings = ["misc.highlighting_failure"]  # Pygments knows not all of the text format

default_role = "code"
add_module_names = False
python_maximum_signature_line_length = 80
python_use_unqualified_type_names = True
autodoc_member_order = "bysource"
autodoc_preserve_defaults = True
napoleon_use_ivar = True


def name_members(app: Sphinx, docname: str, source: list[str]) -> None:
    """Have API pages show what is API, and every value of an enum."""

    def options(directive: re.Match[str]) -> str:
        module, _, name = directive[1].rpartition(".")
        cls = getattr(import_module(module), name)
        public = PUBLIC.get(f"{cls.__module__}.{cls.__qualname__}")
        option = ":members:"
        if public is not None:
            option = f":members: {', '.join(sorted(public))}" if public else ""
        elif issubclass(cls, Enum):
            option = ":members:\n   :undoc-members:"
        return f"{directive[0]}\n   {option}"

    source[0] = re.sub(r"^\.\. autoclass:: (\S+)$", options, source[0], flags=re.MULTILINE)


def hide_parameters(
    app: Sphinx, what: str, name: str, obj: object, *rest: object
) -> tuple[str, None] | None:
    """Classes whose objects users are given, and enums, have no parameters for them."""
    if not isinstance(obj, type):
        return None
    path = f"{obj.__module__}.{obj.__qualname__}"
    return ("", None) if path in NOT_CONSTRUCTED or issubclass(obj, Enum) else None


def keep_colons(
    app: Sphinx, what: str, name: str, obj: object, options: object, lines: list[str]
) -> None:
    """Napoleon takes what stands in front of a colon in an attribute's first line for a type."""
    if what in ("attribute", "property"):
        lines.insert(0, "")


def move_links(app: Sphinx, path: Path, docname: str, content: list[str]) -> None:
    """README.md and CHANGELOG.md, which pages include, stand one folder higher."""
    text = re.sub(r"\]\((?!\w+:|#)", "](../", content[0])
    text = text.replace("](../docs/", "](").replace("](../CHANGELOG.md", "](changelog.md")
    content[0] = text


def setup(app: Sphinx) -> None:
    app.connect("source-read", name_members)
    app.connect("include-read", move_links)
    app.connect("autodoc-process-signature", hide_parameters)
    app.connect("autodoc-process-docstring", keep_colons, priority=400)  # in front of Napoleon's

"""docs/reference/names.md and docs/reference/coverage.md, from `reference.txt` and the code.

Writes both pages; `--check` only looks whether they are what it would write. Either way it fails
when something in the table has no object, or no test that names it:

* An object is looked up by importing it: a class, a method, a parameter, an enum's member, an
  option of the command line.
* A test is a function of `tests/`, or a section of the documentation whose examples are run. Its
  text has to name the object, so that a test that has changed its subject is noticed.
"""

from __future__ import annotations

import argparse
import ast
import importlib
import inspect
import re
import sys
from functools import cache
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parent.parent
TABLE = Path(__file__).with_name("reference.txt")
PAGES = ROOT / "docs" / "reference"

_PACKAGES = {"": "wasmedge_runtime", "a": "wasmedge_async"}


class Row(NamedTuple):
    """Names of the API that belong together."""

    go: str
    python: str
    objects: list[str]
    tests: list[str]
    note: str


class Section(NamedTuple):
    """A section of the reference, with the number that its headings and lists give it."""

    number: str
    place: str
    examples: int
    objects: list[str]


class Problem(Exception):
    """Something in the table is not so."""


# The table.


def tables() -> tuple[list[Section], dict[str, list[Row]]]:
    """The sections of the reference; and its names, by the heading they stand under."""
    sections: list[Section] = []
    names: dict[str, list[Row]] = {}
    heading = ""
    for line in TABLE.read_text(encoding="utf-8").splitlines():
        if line.startswith("= "):
            heading = line.removeprefix("= ")
        elif line and not line.startswith("#"):
            cells = [cell.strip() for cell in line.split("|")]
            if heading == "Sections":
                number, place, examples, objects = cells
                sections.append(Section(number, place, int(examples), objects.split()))
            else:
                go, python, objects, tests, note = cells
                row = Row(go, python, objects.split(), tests.split(), note)
                names.setdefault(heading, []).append(row)
    return sections, names


# Objects.


def resolve(name: str) -> str:
    """The full name of an object of the table.

    Raises:
        Problem: there is no such object.
    """
    kind, _, rest = name.rpartition(":") if not name.startswith("cli:") else name.partition(":")
    if kind == "cli":
        return _option(rest)
    if kind == "host":
        return _host_function(rest)
    if kind == "no":
        for package in _PACKAGES.values():
            if hasattr(importlib.import_module(package), rest):
                raise Problem(f"{package}.{rest} is there now: give it a row of its own")
        return f"{rest}: not there"
    package = _PACKAGES[kind]
    path, _, parameter = rest.removesuffix(")").partition("(")
    found: object = importlib.import_module(package)
    for part in path.split("."):
        found = _member(found, part, name)
    if not parameter:
        return f"{package}.{path}"
    if not callable(found) or parameter not in inspect.signature(found).parameters:
        raise Problem(f"{package}.{path} has no parameter {parameter}")
    return f"{package}.{path}({parameter}=)"


def _member(owner: object, part: str, name: str) -> object:
    if hasattr(owner, part):
        return getattr(owner, part)
    if isinstance(owner, type):
        for cls in owner.__mro__:
            # Attributes of instances: declared in the class, or set by its methods.
            if cls.__module__.startswith("wasmedge_") and (
                part in cls.__annotations__
                or re.search(rf"\bself\.{part}\b.*=", inspect.getsource(cls))
            ):
                return None
    raise Problem(f"{name}: there is no {part}")


@cache
def _options() -> dict[str, set[str]]:
    """The options of each command of the command line; those of none under an empty name."""
    from wasmedge_async import _cli

    parser = _cli._parser()
    found = {"": set(parser._option_string_actions)}
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for command, options in action.choices.items():
                found[command] = set(options._option_string_actions)
    return found


def _option(rest: str) -> str:
    command, _, option = rest.rpartition("/") if "--" in rest else (rest, "", "")
    if command not in _options() or (option and option not in _options()[command]):
        raise Problem(f"the command line has no {rest}")
    return f"wasmedge-async {command} {option}".replace("  ", " ").rstrip()


def _host_function(name: str) -> str:
    from wasmedge_runtime import WasmEdgeProcessImportObject

    if name not in WasmEdgeProcessImportObject().externs:
        raise Problem(f"wasmedge_process has no function {name}")
    return f"wasmedge_process.{name}"


def _is_named(name: str, text: str) -> bool:
    """Whether a text uses an object of the table."""
    if name.startswith("cli:"):
        return re.search(rf"(?<![\w-]){name[4:].rpartition('/')[2]}(?![\w-])", text) is not None
    path, _, parameter = name.rpartition(":")[2].removesuffix(")").partition("(")
    last = re.escape(path.rpartition(".")[2])
    if parameter:
        return re.search(rf"\b{parameter}=|\b{last}\([^)]", text) is not None
    return re.search(rf"\b{last}\b", text) is not None


# Tests.


def test_text(test: str) -> str:
    """The text of a test: a function with its decorators, or the examples of a section.

    Raises:
        Problem: there is no such test.
    """
    file, _, name = test.partition("::" if "::" in test else "#")
    path = ROOT / file
    if not path.is_file():
        raise Problem(f"there is no {file}")
    found = _functions(path).get(name) if path.suffix == ".py" else _examples(path).get(name)
    if not found:
        raise Problem(
            f"{file} has no {'test' if path.suffix == '.py' else 'examples under'} {name}"
        )
    return found


@cache
def _functions(path: Path) -> dict[str, str]:
    text = path.read_text(encoding="utf-8")
    lines = text.splitlines()
    found = {}
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name.startswith(
            "test_"
        ):
            first = min([node.lineno, *(one.lineno for one in node.decorator_list)])
            found[node.name] = "\n".join(lines[first - 1 : node.end_lineno])
    return found


@cache
def _examples(path: Path) -> dict[str, str]:
    """The examples of a page's sections, those of sections under them among them, by anchor.

    Without an example of Python, a section has no entry.
    """
    text = path.read_text(encoding="utf-8")
    found: dict[str, str] = {}
    open_sections = [(0, "")]  # the whole page
    parts: dict[str, list[str]] = {}
    for match in re.finditer(r"^(#+) (.*)$|^```(\w*)\n(?s:.*?)^```", text, re.MULTILINE):
        if match[1]:
            depth = len(match[1])
            open_sections = [one for one in open_sections if one[0] < depth]
            open_sections.append((depth, anchor(match[2])))
        elif match[3] in ("python", "text", "wat"):
            for _, name in open_sections:
                parts.setdefault(name, []).append(match[0])
    for name, blocks in parts.items():
        if any(block.startswith("```python") for block in blocks):
            found[name] = "\n".join(blocks)
    return found


def anchor(heading: str) -> str:
    """What links to a heading say."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


def _heading(place: str) -> str:
    """The heading that a link leads to."""
    file, _, name = place.partition("#")
    for heading in re.findall(r"^#+ (.*)$", (PAGES / file).read_text(encoding="utf-8"), re.M):
        if not name or anchor(heading) == name:
            return str(heading)
    raise Problem(f"{file} has no heading #{name}")


def _can_exercise(test: str, name: str) -> bool:
    """Whether a test is of the package that has an object; some objects are in both."""
    kind, _, rest = name.rpartition(":")
    first = re.split(r"[.(]", rest)[0]
    ours, others = (importlib.import_module(_PACKAGES[one]) for one in ("", "a"))
    if kind not in _PACKAGES or getattr(ours, first, ours) is getattr(others, first, others):
        return True
    other_side = ("tests/runtime/", "tests/wasi/") if kind == "a" else ("tests/api/", "tests/pool/")
    return not test.startswith(other_side)


# The pages.


def check(objects: list[str], tests: list[str]) -> list[str]:
    """The full names of objects, each of which one of the tests names."""
    if not objects:
        raise Problem("there is no object")
    if not tests:
        raise Problem("there is no test")
    full = [resolve(name) for name in objects]
    texts = {test: test_text(test) for test in tests}
    for name in objects:
        fitting = [text for test, text in texts.items() if _can_exercise(test, name)]
        if not any(_is_named(name, text) for text in fitting):
            raise Problem(f"{name} is not named in {' or '.join(tests)}")
    return full


def _code(text: str) -> str:
    return f"`{text}`" if text != "-" else ""


def _codes(text: str) -> str:
    """Names, of which each is one."""
    return ", ".join(map(_code, text.split(", ")))


def _by_package(full: list[str]) -> str:
    """Full names, those of one package behind its name."""
    found: dict[str, list[str]] = {}
    for name in full:
        package, _, rest = name.partition(".")
        known = package in _PACKAGES.values()
        found.setdefault(package if known else "", []).append(_code(rest if known else name))
    texts = [", ".join(found.pop(""))] if "" in found else []
    texts += [f"{_code(package)}: {', '.join(names)}" for package, names in found.items()]
    return "; ".join(texts)


def names_page(names: dict[str, list[Row]]) -> str:
    """The page for those who know the Go names."""
    lines = [
        "# Coming from WasmEdge-Go",
        "",
        "Every name of WasmEdge-Go 0.9.1, and what it is called here; where the first column is",
        "empty, the Go SDK has nothing of the kind. Behind it there are few",
        "[rules](index.md#rules-for-names). The names of the engine are in `wasmedge_runtime`;",
        "those of the VM are the same in `wasmedge_async`, where all its methods are awaited.",
        "`tools/reference.py` writes this page.",
    ]
    for heading, rows in names.items():
        lines += ["", f"## {heading}", "", "| WasmEdge-Go | Python | note |", "|---|---|---|"]
        lines += [f"| {_codes(row.go)} | {_code(row.python)} | {row.note} |" for row in rows]
    return "\n".join(lines) + "\n"


def coverage_page(sections: list[Section], names: dict[str, list[Row]], problems: list[str]) -> str:
    """The page that says where everything is, and what tests it."""
    lines = [
        "# Coverage of the reference",
        "",
        "Every section of the WasmEdge-Go 0.9.1 guide and every name of the API, with the object",
        "that implements it and the test that exercises it. `tools/reference.py` writes this page,",
        "and fails when an object is not there, or when no test names it. A test that is a link is",
        "a section whose examples run, as `tests/project/test_docs.py` sees to.",
        "",
        "## Sections",
        "",
        "| | section, which is its test | examples in the reference | here | objects |",
        "|---|---|---|---|---|",
    ]
    for section in sections:
        try:
            test = f"docs/reference/{section.place}"
            full = check(section.objects, [test])
            here = test_text(test).count("```python")
            title = f"[{_heading(section.place)}]({section.place})"
            there = sum(
                one.examples
                for one in sections
                if f"{one.number}.".startswith(f"{section.number}.")
            )
            cells = [section.number, title, there, here, _by_package(full)]
            lines.append(f"| {' | '.join(map(str, cells))} |")
        except Problem as problem:
            problems.append(f"{section.number}: {problem}")
    lines += ["", "## Names"]
    for heading, rows in names.items():
        lines += ["", f"### {heading}", "", "| name | object | test |", "|---|---|---|"]
        for row in rows:
            try:
                full = check(row.objects, row.tests)
            except Problem as problem:
                problems.append(f"{row.python}: {problem}")
                continue
            tests = ", ".join(map(_shown, row.tests))
            lines.append(f"| {_code(row.python)} | {_by_package(full)} | {tests} |")
    return "\n".join(lines) + "\n"


def _shown(test: str) -> str:
    if "::" in test:
        return f"`{test.removeprefix('tests/')}`"
    place = test.removeprefix("docs/reference/")
    return f"[{place}]({place})"


def main() -> int:
    """Write the pages, or with `--check` look at them."""
    sections, names = tables()
    problems: list[str] = []
    pages = {
        "names.md": names_page(names),
        "coverage.md": coverage_page(sections, names, problems),
    }
    for file, text in pages.items():
        if "--check" not in sys.argv:
            (PAGES / file).write_text(text, encoding="utf-8")
        elif (PAGES / file).read_text(encoding="utf-8") != text:
            problems.append(f"docs/reference/{file} is out of date: run tools/reference.py")
    for problem in problems:
        print(problem, file=sys.stderr)
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())

"""What the documentation shows is so: examples run as printed, links lead somewhere.

A `wat` block is a module, named in its first line. A `python` block whose first line is a comment
with a file's name is that file; pytest runs it when it is one of tests. One whose first line is
`# needs FILE...` stands alone, and runs where these real programs are. Behind a block, the line
`prints` and a `text` block give its output, where comments behind `print` do not.
"""

from __future__ import annotations

import ast
import asyncio
import inspect
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.material import find_material
from tests.wat import wat

ROOT = Path(__file__).resolve().parent.parent.parent
DOCS = ROOT / "docs"
PAGES = [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted(DOCS.rglob("*.md"))]


def read(page: Path) -> str:
    return page.read_text(encoding="utf-8")


def blocks(page: Path, language: str) -> list[tuple[int, str]]:
    """The code blocks of a page in one language, each with the line it starts in."""
    text = read(page)
    found = re.finditer(rf"^```{language}\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
    return [(text[: match.start(1)].count("\n"), match[1]) for match in found]


def expected_output(page: Path, source: str) -> list[str]:
    """The lines that a block of a page says it prints."""
    printed = re.search(
        rf"^```python\n{re.escape(source)}```\n\nprints\n\n```text\n(.*?)^```",
        read(page),
        re.DOTALL | re.MULTILINE,
    )
    if printed is not None:
        return printed[1].splitlines()
    return re.findall(r"print\(.*\)  # (.*)$", source, re.MULTILINE)


def needed_files(source: str) -> list[str]:
    """The real programs that a block cannot run without."""
    needs = re.match(r"# needs (.*)\n", source)
    return [] if needs is None else needs[1].split()


def anchors(page: Path) -> set[str]:
    """What links into a page can name: its headings, as GitHub writes them."""
    headings = re.findall(
        r"^#+ (.*)$", re.sub(r"^```.*?^```", "", read(page), flags=re.S | re.M), re.M
    )
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def run(
    runner: asyncio.Runner, source: str, namespace: dict[str, Any], page: Path, line: int
) -> None:
    """Run a block, which may await at its top level; all of a page in one event loop."""
    tree = ast.parse(source)
    ast.increment_lineno(tree, line)
    code = compile(tree, page.name, "exec", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
    result = eval(code, namespace)
    if inspect.iscoroutine(result):
        runner.run(result)


def run_file(path: Path, source: str) -> None:
    """Write a block that is a file; one of tests has to pass."""
    path.write_text(source, encoding="utf-8")
    if path.name.startswith("test_"):
        command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", path.name]
        done = subprocess.run(
            command, cwd=path.parent, capture_output=True, text=True, check=False, timeout=120
        )
        assert done.returncode == 0, done.stdout


@pytest.mark.parametrize(
    "page",
    [page for page in PAGES if DOCS in page.parents and blocks(page, "python")],
    ids=lambda page: str(page.relative_to(DOCS)),
)
def test_the_examples_print_what_their_comments_say(
    page: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    for _, text in blocks(page, "wat"):
        file = text.splitlines()[0].removeprefix(";; ")
        (tmp_path / file).write_bytes(wat(text))
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    namespace: dict[str, Any] = {}
    with asyncio.Runner() as runner:
        for line, source in blocks(page, "python"):
            named = re.match(r"# (\w+\.py)\n", source)
            if named is not None:
                run_file(tmp_path / named[1], source)
                continue
            if needed_files(source):
                continue
            run(runner, source, namespace, page, line)
            expected = expected_output(page, source)
            assert capsys.readouterr().out.splitlines() == expected, f"{page.name}, line {line}"


@pytest.mark.parametrize(
    ("page", "line", "source"),
    [
        pytest.param(page, line, source, id=f"{page.relative_to(DOCS)}:{line}")
        for page in PAGES
        for line, source in blocks(page, "python")
        if needed_files(source)
    ],
)
def test_examples_with_real_programs_print_what_they_say(
    page: Path,
    line: int,
    source: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    programs = find_material("WASM_PROGRAMS", "programs")
    if programs is None:
        pytest.skip("no programs: set WASM_PROGRAMS to the folder that has them")
    for name in needed_files(source):
        shutil.copyfile(programs / name, tmp_path / name)
    monkeypatch.chdir(tmp_path)
    with asyncio.Runner() as runner:
        run(runner, source, {}, page, line)
    assert capsys.readouterr().out.splitlines() == expected_output(page, source)


def test_the_readmes_examples_print_what_it_says() -> None:
    page = ROOT / "README.md"
    text = read(page)
    output = r"(?:prints `(.*?)`\.|prints\n\n```text\n(.*?)\n```)"
    examples = re.findall(rf"```python\n(.*?)```\n\n{output}", text, re.DOTALL)
    assert len(examples) == len(blocks(page, "python"))
    for example, line, lines in examples:
        done = subprocess.run(
            [sys.executable, "-c", example],
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
        assert done.stderr == ""
        assert done.stdout == (line or lines) + "\n"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_to_pages_and_headings(page: Path) -> None:
    lost = []
    for link in re.findall(r"\]\((?!https?:)([^)]+)\)", read(page)):
        name, _, anchor = link.partition("#")
        target = page.parent / name if name else page
        if not target.is_file() or (anchor and anchor not in anchors(target)):
            lost.append(link)
    assert lost == []


def test_files_that_the_pages_name_exist() -> None:
    folders = ("", "runtime/wasmedge_runtime", "pool/wasmedge_pool", "runtime", "pool")
    lost = []
    for page in PAGES:
        for name in re.findall(r"`((?:\w+/)*\w+\.py|(?:\w+/)+)`", read(page)):
            if not any((ROOT / folder / name).exists() for folder in folders):
                lost.append((page.name, name))
    assert lost == []

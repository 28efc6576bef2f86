"""The reference in docs/reference is complete, and its tables say what is so.

What it is compared with, the guide of WasmEdge-Go and the table of Python names, lies beside the
checkout or in the folder WASMEDGE_REFERENCE, and is not needed otherwise.
"""

from __future__ import annotations

import importlib.util
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

from tests.material import find_material

ROOT = Path(__file__).resolve().parent.parent.parent
TOOL = ROOT / "tools" / "reference.py"

# Words between backticks in the table of names that are no names of the API: arguments, parts of
# names, values, Go's and Python's own words.
_NO_NAMES = """
    CMD Execution FUNC GUEST GetV128 HOST Minor N NewXWithY Patch Registered SECONDS True TypeError
    VALUE With WithConfig _000 __cause__ __wbindgen_free __wbindgen_malloc _start all chunk cmds
    conf def externref ftype g get_ go gtype i32 idx imp m mod ms mtype mut name_len name_ptr native
    nil numref off pointer print ptr readonly reftype res result seed snake_case subprocess
    succeeded t ttype valtype value_len value_ptr x z zh ExternType_ RefType_ ValMut_ ValType_
    NAME line wasmedge_runtime _minor _patch _add_arg _add_env _add_stdin _set_timeout _run
    _get_exit_code _get_stdout_len _get_stdout _get_stderr_len _get_stderr
"""


@pytest.fixture(scope="module")
def tool() -> ModuleType:
    spec = importlib.util.spec_from_file_location("reference_tool", TOOL)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def material(name: str) -> str:
    """The text of a file of the reference; the test is skipped without it."""
    folder = find_material("WASMEDGE_REFERENCE", ".")
    files = [] if folder is None else sorted(folder.glob(name))
    if not files:
        pytest.skip(f"no {name}: set WASMEDGE_REFERENCE to the folder that has it")
    return files[0].read_text(encoding="utf-8")


def test_the_tables_are_those_that_the_code_gives() -> None:
    done = subprocess.run(
        [sys.executable, str(TOOL), "--check"],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.stderr == ""
    assert done.returncode == 0


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("Loader.load_flie", "there is no load_flie"),
        ("a:Nothing", "there is no Nothing"),
        ("VM.execute(timeout)", "wasmedge_runtime.VM.execute has no parameter timeout"),
        ("Trap.frame", "there is no frame"),
        ("cli:run/--no-limit", "the command line has no run/--no-limit"),
        ("host:wasmedge_process_stop", "wasmedge_process has no function"),
        ("no:Loader", "wasmedge_runtime.Loader is there now"),
    ],
)
def test_an_object_that_is_not_there_is_a_problem(tool: ModuleType, name: str, words: str) -> None:
    with pytest.raises(tool.Problem, match=re.escape(words)):
        tool.resolve(name)


@pytest.mark.parametrize(
    ("objects", "test", "words"),
    [
        (["Loader"], "tests/runtime/test_nothing.py::test_x", "there is no tests/runtime/test_n"),
        (["Loader"], "tests/runtime/test_loader.py::test_x", "test_loader.py has no test test_x"),
        (["Loader"], "docs/reference/index.md#reference", "index.md has no examples under"),
        (["Store"], "docs/reference/basics.md#limits", "Store is not named in docs/reference/bas"),
        (
            ["a:VM.cleanup"],
            "tests/runtime/test_vm.py::test_cleanup_forgets_modules_names_and_counters",
            "a:VM.cleanup is not named in",
        ),
        ([], "docs/reference/basics.md#limits", "there is no object"),
    ],
)
def test_a_test_that_does_not_name_its_object_is_a_problem(
    tool: ModuleType, objects: list[str], test: str, words: str
) -> None:
    with pytest.raises(tool.Problem, match=re.escape(words)):
        tool.check(objects, [test])


def test_every_section_of_the_reference_has_its_place(tool: ModuleType) -> None:
    text = material("seed/*go-api-reference*.md")
    text = text[text.index("\n## ", text.index("\n## ") + 1) :]  # behind the table of contents
    numbers = [0, 0, 0]
    examples: dict[str, int] = {}
    here = ""
    fenced = False
    for line in text.splitlines():
        if fence := re.match(r"\s*```(\w*)", line):
            fenced = not fenced
            if fenced and fence[1] in ("go", "c"):  # one example of Go is marked as C
                examples[here] += 1
        elif not fenced and (heading := re.match(r"(###?) |( {0,3})\d+\. ", line)):
            depth = len(heading[1]) - 2 if heading[1] else 2
            numbers[depth:] = [numbers[depth] + 1, *[0] * (2 - depth)]
            here = ".".join(map(str, numbers[: depth + 1]))
            examples[here] = 0
    sections, _ = tool.tables()
    assert {section.number: section.examples for section in sections} == examples


def test_every_name_of_the_api_is_in_the_table(tool: ModuleType) -> None:
    word = r"--[\w-]+|[A-Za-z_]\w*"
    wanted: set[str] = set()
    for block, span in re.findall(r"```\w*\n(.*?)```|`([^`\n]+)`", material("API.md"), re.DOTALL):
        wanted |= set(re.findall(word, re.sub(r'"[^"]*"|#.*', "", block or span)))
    _, names = tool.tables()
    rows = [row for group in names.values() for row in group]
    there = set(re.findall(word, " ".join(map(str, rows))))
    assert sorted(wanted - there - set(_NO_NAMES.split())) == []


def test_every_name_of_the_reference_is_in_the_table(tool: ModuleType) -> None:
    text = material("seed/*go-api-reference*.md")
    wanted = set(re.findall(r"\bwasmedge\.([A-Z]\w*)|\.([A-Z]\w*)\(", text))
    _, names = tool.tables()
    rows = [row for group in names.values() for row in group]
    there = set(re.findall(r"\w+", " ".join(f"{row.go} {row.python}" for row in rows)))
    others = {"Environ", "Println"}  # of Go itself
    slips = {"GetV128", "Getdata"}
    assert {one or two for one, two in wanted} - there - others - slips == set()

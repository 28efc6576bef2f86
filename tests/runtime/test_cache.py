"""Compiled code on disk: found again in every process, and not trusted when it should not be."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.runtime.engine import ROOT, Engine, output_of
from wasmedge_runtime import cache

NAME = "ab" * 32


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    place = tmp_path / "cache"
    monkeypatch.setenv("WASMEDGE_CACHE_DIR", str(place))
    return place


def entries(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


def test_an_entry_is_found_again(folder: Path) -> None:
    assert cache.load(NAME) is None
    cache.store(NAME, b"content")
    assert cache.load(NAME) == b"content"
    cache.store(NAME, b"other")
    assert cache.load(NAME) == b"other"
    assert len(entries(folder)) == 1


def test_folders_and_entries_are_private(folder: Path) -> None:
    cache.store(NAME, b"content")
    for path in (folder, *folder.rglob("*")):
        assert not stat.S_IMODE(path.stat().st_mode) & 0o077


@pytest.mark.parametrize("length", [0, 1, 10, 22, 23, 40, 54, 55, 60])
def test_a_truncated_entry_is_a_miss(folder: Path, length: int) -> None:
    cache.store(NAME, b"content" * 3)
    (path,) = entries(folder)
    path.write_bytes(path.read_bytes()[:length])
    assert cache.load(NAME) is None


def test_every_damaged_byte_makes_a_miss(folder: Path) -> None:
    cache.store(NAME, b"content")
    (path,) = entries(folder)
    good = path.read_bytes()
    for index in range(len(good)):
        path.write_bytes(good[:index] + bytes([good[index] ^ 1]) + good[index + 1 :])
        assert cache.load(NAME) is None
    path.write_bytes(good + b"x")
    assert cache.load(NAME) is None


def test_an_entry_under_another_name_is_a_miss(folder: Path) -> None:
    cache.store(NAME, b"content")
    (path,) = entries(folder)
    other = NAME[:-1] + "c"
    path.rename(path.with_name(other))
    assert cache.load(other) is None


@pytest.mark.parametrize("mode", [0o666, 0o620, 0o602])
def test_an_entry_that_others_can_write_is_a_miss(folder: Path, mode: int) -> None:
    cache.store(NAME, b"content")
    (path,) = entries(folder)
    path.chmod(mode)
    assert cache.load(NAME) is None


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
def test_an_entry_of_another_user_is_a_miss(folder: Path) -> None:
    cache.store(NAME, b"content")
    (path,) = entries(folder)
    os.chown(path, 12345, -1)
    assert cache.load(NAME) is None


@pytest.mark.parametrize("which", ["cache", "entries"])
def test_a_folder_that_others_can_write_is_not_written_to(folder: Path, which: str) -> None:
    cache.store(NAME, b"content")
    place = folder if which == "cache" else folder / NAME[:2]
    place.chmod(0o777)
    cache.store(NAME, b"other")
    assert cache.load(NAME) != b"other"


@pytest.mark.parametrize("which", ["cache", "entries"])
def test_a_folder_that_others_can_write_is_not_read_from(folder: Path, which: str) -> None:
    """Whoever can write to the folder can put a file of this user's, made elsewhere, there."""
    cache.store(NAME, b"content")
    place = folder if which == "cache" else folder / NAME[:2]
    place.chmod(0o777)
    assert cache.load(NAME) is None


def test_a_link_or_a_folder_in_place_of_an_entry_is_a_miss(folder: Path, tmp_path: Path) -> None:
    cache.store(NAME, b"content")
    (path,) = entries(folder)
    elsewhere = tmp_path / "elsewhere"
    path.rename(elsewhere)
    path.symlink_to(elsewhere)
    assert cache.load(NAME) is None
    path.unlink()
    path.mkdir()
    assert cache.load(NAME) is None
    cache.store(NAME, b"content")  # no error either


def test_a_folder_that_cannot_be_made_costs_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("not a folder")
    monkeypatch.setenv("WASMEDGE_CACHE_DIR", str(blocked / "cache"))
    cache.store(NAME, b"content")
    assert cache.load(NAME) is None


def test_an_empty_setting_switches_the_cache_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WASMEDGE_CACHE_DIR", "")
    cache.store(NAME, b"content")
    assert cache.load(NAME) is None


def test_a_key_depends_on_every_part_and_on_where_parts_end() -> None:
    keys = [
        cache.key("a", b"b"),
        cache.key("ab", b""),
        cache.key(b"", "ab"),
        cache.key("a", "b", "c"),
        cache.key("a", 1),
        cache.key("a", 2),
        cache.key("a"),
    ]
    assert len(set(keys)) == len(keys)
    assert cache.key("a", b"b") == keys[0]


RUN = """
import sys
{before}
from tests.runtime.engine import I32, Engine
engine = Engine()
engine.host(add=([I32, I32], [I32], lambda data, memory, a, b: a + b))
engine.instantiate('(module (import "host" "add" (func $add (param i32 i32) (result i32)))'
    '(memory 1) (func (export "f") (result i32) (call $add (i32.const 40) (i32.const 2))))')
print(engine.call("f"), "llvmlite" in sys.modules)
"""

WITHOUT_LLVM = "sys.modules['llvmlite'] = None; sys.modules['llvmlite.binding'] = None"


def test_the_second_process_compiles_nothing(folder: Path) -> None:
    assert output_of(RUN.format(before="")) == "[42] True"
    assert output_of(RUN.format(before="")) == "[42] False"
    assert output_of(RUN.format(before=WITHOUT_LLVM)).startswith("[42]")


def test_the_second_load_in_a_process_compiles_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    text = '(module (func (export "second load") (result i32) (i32.const 31337)))'
    first = Engine()
    first.instantiate(text)
    assert first.call("second load") == [31337]

    def compile_object(text: str, level: int) -> bytes:
        raise AssertionError("compiled again")

    monkeypatch.setattr("wasmedge_runtime.codegen.llvm.compile_object", compile_object)
    second = Engine()
    second.instantiate(text)
    assert second.call("second load") == [31337]
    del first, second
    third = Engine()
    third.instantiate(text)
    assert third.call("second load") == [31337]


def test_damaged_entries_of_all_kinds_are_compiled_again(folder: Path) -> None:
    output_of(RUN.format(before=""))
    paths = entries(folder)
    assert len(paths) >= 3  # the support routines, the host function's stub, the module
    for path in paths:
        path.write_bytes(path.read_bytes()[:-5])
    assert output_of(RUN.format(before="")) == "[42] True"
    assert output_of(RUN.format(before="")) == "[42] False"


def test_entries_with_a_right_digest_and_wrong_content_are_compiled_again(folder: Path) -> None:
    output_of(RUN.format(before=""))
    contents = {path.name: cache.load(path.name) or b"" for path in entries(folder)}
    # The module's entry is not an object file alone.
    (module,) = [name for name, content in contents.items() if content[:4] != b"\x7fELF"]
    for content in (b"", b"\xc1", b"\x92\xa3abc\x90", b"\x93\x01\x02\x03", b"not an object"):
        cache.store(module, content)
        assert output_of(RUN.format(before="")) == "[42] True"
    for name in contents:
        cache.store(name, b"not an object")
        assert output_of(RUN.format(before="")) == "[42] True"
    assert output_of(RUN.format(before="")) == "[42] False"


def test_what_changes_code_changes_the_entry(folder: Path) -> None:
    from wasmedge_runtime import Configure, Statistics

    text = '(module (memory 1) (func (export "variants") (result i32) (i32.const 4)))'
    found = set()
    for counting in (False, True):
        for gas in (False, True):
            config = Configure()
            config.statistics_instruction_counting = counting
            config.statistics_cost_measuring = gas
            engine = Engine(config, Statistics())
            engine.instantiate(text)
            assert engine.call("variants") == [4]
            found.add(len(entries(folder)))
    assert len(found) == 4


def test_a_cache_that_is_too_large_loses_what_was_not_used_for_longest(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = [f"{number:02x}" + "0" * 62 for number in range(10)]
    for age, name in enumerate(reversed(names)):
        cache.store(name, bytes(1000))
        long_ago = time.time() - 1e6 - 1000 * age
        os.utime(folder / name[:2] / name, (long_ago, long_ago))
    assert cache.load(names[0]) is not None  # used just now
    monkeypatch.setattr(cache, "_MOST_BYTES", 20_000)
    cache.trim()
    assert all(cache.contains(name) for name in names)
    monkeypatch.setattr(cache, "_MOST_BYTES", 8_000)
    cache.trim()
    assert [cache.contains(name) for name in names] == [True] + [False] * 7 + [True] * 2


def test_what_is_not_of_the_cache_stays_in_its_folder(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache.store(NAME, b"")
    others = [folder / "go" / "notes", folder / "db" / "data", folder / NAME[:2] / "notes"]
    left_over = folder / NAME[:2] / f".{NAME}.12345678"
    for path in (*others, left_over):
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(bytes(1000))
    monkeypatch.setattr(cache, "_MOST_BYTES", 0)
    cache.trim()
    assert all(path.exists() for path in others)
    assert not cache.contains(NAME)
    assert not left_over.exists()


def test_slots_are_shared_by_all_processes(folder: Path) -> None:
    cache.store("ab" + "0" * 62, b"")  # makes the folder
    mine = cache.take_slot(2)
    script = "from wasmedge_runtime import cache; a = cache.take_slot(2); print(cache.take_slot(2))"
    assert output_of(script) == "None"
    assert mine is not None
    os.close(mine)
    assert output_of(script) != "None"


def test_slots_in_a_folder_that_is_open_to_others_are_not_used(folder: Path) -> None:
    cache.store(NAME, b"")
    folder.chmod(0o777)
    assert cache.take_slot(1) == -1


CLAIMANT = """
import sys
from wasmedge_runtime import cache
with cache.claim(sys.argv[1], sys.argv[2] == "wait") as claimed:
    print(claimed, flush=True)
    sys.stdin.readline()
"""


@contextmanager
def claimant(name: str, wait: bool = False) -> Iterator[subprocess.Popen[str]]:
    """A process that claims an entry, says whether it could, and lets go when it is told to."""
    with subprocess.Popen(
        [sys.executable, "-c", CLAIMANT, name, "wait" if wait else "try"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT / "runtime"), *sys.path])},
    ) as process:
        yield process
        process.kill()


def said(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def test_one_process_at_a_time_makes_an_entry(folder: Path) -> None:
    with claimant(NAME) as first:
        assert said(first) == "True"
        with cache.claim(NAME, False) as claimed:
            assert not claimed
        with cache.claim(NAME[:-1] + "c", False) as claimed:
            assert not claimed  # its name begins in the same way
        with cache.claim(NAME[:2] + "cd" * 31, False) as claimed:
            assert claimed


def test_a_claim_ends_with_its_process(folder: Path) -> None:
    with claimant(NAME) as first:
        assert said(first) == "True"
        with claimant(NAME, wait=True) as second:
            first.kill()
            assert said(second) == "True"
    with cache.claim(NAME, False) as claimed:
        assert claimed


def test_everybody_may_make_an_entry_where_there_is_no_cache(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("not a folder")
    for folder in ("", str(blocked)):
        monkeypatch.setenv("WASMEDGE_CACHE_DIR", folder)
        with cache.claim(NAME, False) as one, cache.claim(NAME, False) as other:
            assert (one, other) == (True, True)

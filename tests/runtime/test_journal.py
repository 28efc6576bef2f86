"""The journal of baseline units: pieces that several processes add to one file."""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path

import pytest

from tests.runtime.engine import PATIENCE, output_of
from wasmedge_runtime import cache

NAME = "ab" + "0" * 62


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("WASMEDGE_CACHE_DIR", str(tmp_path))
    return tmp_path


def put(number: int, content: bytes) -> None:
    with cache.Journal(NAME).claim(number) as write:
        write(content)


def file_in(folder: Path) -> Path:
    return folder / NAME[:2] / NAME


def test_pieces_come_back_by_their_number() -> None:
    put(7, b"seven")
    put(1_000_000, b"")
    journal = cache.Journal(NAME)
    assert (journal.get(7), journal.get(1_000_000), journal.get(8)) == (b"seven", b"", None)


def test_a_piece_that_was_cut_short_hides_no_other(folder: Path) -> None:
    put(1, b"one")
    before = file_in(folder).stat().st_size
    put(2, b"two" * 1000)
    for kept in range(0, 3000, 97):
        os.truncate(file_in(folder), before + kept)
        put(3, b"three")
        journal = cache.Journal(NAME)
        assert (journal.get(1), journal.get(2), journal.get(3)) == (b"one", None, b"three"), kept


def test_a_damaged_piece_is_a_miss(folder: Path) -> None:
    put(1, b"one")
    put(2, b"two")
    data = file_in(folder).read_bytes()
    file_in(folder).write_bytes(data.replace(b"one", b"0ne"))
    journal = cache.Journal(NAME)
    assert (journal.get(1), journal.get(2)) == (None, b"two")


def test_a_piece_of_another_journal_is_a_miss(folder: Path) -> None:
    put(1, b"one")
    other = "ab" + "1" * 62
    (folder / "ab" / other).write_bytes(file_in(folder).read_bytes())
    (folder / "ab" / other).chmod(0o600)
    assert cache.Journal(other).get(1) is None


def test_a_file_that_is_no_journal_is_empty(folder: Path) -> None:
    put(1, b"one")
    file_in(folder).write_bytes(os.urandom(5000))
    assert cache.Journal(NAME).get(1) is None


def test_a_process_that_makes_a_piece_is_waited_for(folder: Path) -> None:
    script = f"""
        import sys, time
        from wasmedge_runtime import cache
        with cache.Journal({NAME!r}).claim(5) as write:
            open({str(folder / "claimed")!r}, "w").close()
            time.sleep(0.3)
            write(b"made elsewhere")
        """
    child = threading.Thread(target=output_of, args=(script,))
    child.start()
    patience = time.monotonic() + PATIENCE
    while not (folder / "claimed").exists() and time.monotonic() < patience:
        time.sleep(0.01)
    journal = cache.Journal(NAME)
    assert journal.get(5) is None
    with journal.claim(5):
        assert journal.get(5) == b"made elsewhere"
    child.join()


def test_without_a_cache_nothing_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WASMEDGE_CACHE_DIR", "")
    put(1, b"one")
    assert cache.Journal(NAME).get(1) is None


def test_a_journal_that_others_can_write_to_is_not_used(folder: Path) -> None:
    put(1, b"one")
    file_in(folder).chmod(0o622)
    assert cache.Journal(NAME).get(1) is None
    put(2, b"two")
    file_in(folder).chmod(0o600)
    assert cache.Journal(NAME).get(2) is None

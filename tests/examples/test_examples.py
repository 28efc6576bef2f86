"""The examples do what they say, run as their users run them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.wat import wat

ROOT = Path(__file__).resolve().parent.parent.parent
EXAMPLES = ROOT / "examples"
GUESTS = sorted((EXAMPLES / "guests").glob("*.wat"))


def run(name: str) -> list[str]:
    """The lines that an example prints; it may complain of nothing."""
    # The environment names where the packages are, when they are not installed.
    done = subprocess.run(
        [sys.executable, "-X", "dev", "-W", "error", str(EXAMPLES / name)],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.stderr == ""
    assert done.returncode == 0
    return done.stdout.splitlines()


def test_fibonacci() -> None:
    assert run("fibonacci.py")[-1] == "fib(32) = 3524578"


def test_batch() -> None:
    assert run("batch.py") == [
        "20000 numbers; 17647 takes most steps, 278",
        "27: 111 steps",
        "-1: Trap: unreachable",
        "97: 118 steps",
        "0: CallTimeout: execution interrupted: timeout",
        "871: 178 steps",
        "10 done",
        "20 done",
        "30 done",
    ]


def test_async_host() -> None:
    *customers, last = run("async_host.py")
    assert sorted(customers) == [
        "Ada: 2 items cost 20",
        "Bo: 4 items cost 80",
        "Cy: no answer within 2 seconds",
    ]
    at_once, questions = last.split(" guests waited at once; questions: ")
    assert int(at_once) > 1
    assert "'Ada': 2" in questions  # asked for by the context variable of each task
    assert "'Bo': 4" in questions


def test_interactive() -> None:
    first, *guesses, code, found = run("interactive.py")
    assert first == "A number from 1 to 100?"
    assert guesses[0].startswith("50: ")
    assert guesses[-1].endswith(": right")
    assert code == "exit code 0"
    assert found == f"found in {len(guesses)} guesses"


@pytest.mark.parametrize("text", GUESTS, ids=lambda path: path.stem)
def test_a_guest_is_what_its_text_says(text: Path) -> None:
    assert text.with_suffix(".wasm").read_bytes() == wat(text.read_text(encoding="utf-8"))

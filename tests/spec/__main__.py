"""Runs the suite and reports: `python -m tests.spec [--mode MODE] [NAME ...]`.

Without names all files run, without a mode they run in all modes (`runner.Mode`), one after the
other. Files run in processes of their own, two at a time, so that a crash of the engine is one
failed file. Exit code 1 when a command failed, 0 otherwise.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tests.spec import suite
from tests.spec.report import Report, print_table, print_totals

PROCESSES = 2
TIMEOUT = 600.0  # seconds for one file; the longest takes a small part of it


MODES = ("tiered", "baseline", "optimized", "swapping")
"""Those of `runner.Mode`, which imports the engine."""


def run_apart(directory: Path, name: str, mode: str) -> Report:
    """Run one file in a child process."""
    environment = {**os.environ, "WASMEDGE_CACHE_DIR": str(suite.ROOT / ".cache" / "code")}
    try:
        child = subprocess.run(
            [sys.executable, "-m", "tests.spec", "--mode", mode, "--child", str(directory), name],
            cwd=suite.ROOT,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=TIMEOUT,
        )
    except subprocess.TimeoutExpired:
        return Report(name, failures=[f"{name}.wast: no end after {TIMEOUT:.0f} s"])
    if child.returncode:
        last = child.stderr.strip().splitlines()[-1:] or ["no message"]
        problem = f"{name}.wast: the process ended with {child.returncode}: {last[0]}"
        return Report(name, failures=[problem])
    return Report.from_json(child.stdout.splitlines()[-1])


def main() -> int:
    """Run, report, and give the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.spec")
    parser.add_argument("names", nargs="*", metavar="NAME", help="files, without .wast")
    parser.add_argument("--mode", choices=MODES, help="in which tier code runs; all in turn")
    parser.add_argument("--child", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child is not None:
        from tests.spec.runner import Mode, run_file  # the parent does not need the engine

        print(run_file(options.child, options.names[0], Mode(options.mode)).to_json())
        return 0

    directory = suite.find_suite()
    if directory is None:
        print(f"skipped: {suite.NOT_FOUND}")
        return 0
    # The largest first, so that none of them is left to run alone at the end.
    names = options.names or suite.list_files(directory)
    names.sort(key=lambda name: (directory / f"{name}.wast").stat().st_size, reverse=True)
    modes = [options.mode] if options.mode else MODES
    # A list: all modes run, whatever the first one shows.
    return 0 if all([run_mode(directory, names, mode) for mode in modes]) else 1


def run_mode(directory: Path, names: list[str], mode: str) -> bool:
    """Run files in one mode and print how they did; whether nothing failed."""
    started = time.monotonic()
    print(f"\nmode: {mode}")
    with ThreadPoolExecutor(PROCESSES) as pool:
        reports = dict(
            zip(names, pool.map(lambda name: run_apart(directory, name, mode), names), strict=True)
        )
    print_table(reports)
    passed = print_totals(reports.values())
    print(f"{mode}: {time.monotonic() - started:.1f} s", flush=True)
    return passed


if __name__ == "__main__":
    sys.exit(main())

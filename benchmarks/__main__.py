"""Measures everything, prints the results and writes them to `benchmarks/results/`."""

from __future__ import annotations

import os
import sys
from pathlib import Path

# Compiled code goes into the checkout's cache, as in the tests; read when the engine is imported.
os.environ["WASMEDGE_CACHE_DIR"] = str(Path(__file__).resolve().parent.parent / ".cache" / "code")


def main() -> None:
    """Measure row by row, telling on standard error what is done."""
    from benchmarks import awaited, compiled, rates, report, rows, wasi

    def tell(what: str) -> None:
        print(what, file=sys.stderr, flush=True)

    tell("kernels ...")
    kernels = []
    for row in rows.kernels():
        tell(f"  {row.name}: {row.ratio:.2f}")
        kernels.append(row)
    means = [*rows.means(kernels), rows.kernels_without_simd()]
    tell("calls ...")
    all_rows = [rows.fib(), *kernels, *rows.calls(), rows.counting()]
    tell("WASI ...")
    all_rows += wasi.rows()
    tell("compiled files ...")
    all_rows += compiled.rows()
    tell("rates ...")
    measured = rates.rates()
    tell("awaited ...")
    awaiting = awaited.in_child()
    all_rows += awaiting.rows
    measured |= awaiting.rates
    print(report.table(all_rows, means, measured))
    report.write(all_rows, means, measured)
    print("written to benchmarks/results: results.md, results.json, results.svg")


if __name__ == "__main__":
    main()

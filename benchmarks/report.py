"""Tables, JSON and the plot of a run."""

from __future__ import annotations

import json
import platform
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path

from benchmarks.plot import bar_chart
from benchmarks.rows import Mean, Row

RESULTS = Path(__file__).resolve().parent / "results"


def machine() -> dict[str, str]:
    """What the figures were measured on."""
    processor = platform.processor() or platform.machine()
    information = Path("/proc/cpuinfo")
    if information.exists():
        for line in information.read_text().splitlines():
            if line.startswith("model name"):
                processor = line.partition(":")[2].strip()
                break
    packages = ("wasmedge-async", "llvmlite", "wasmtime", "ziglang")
    return {
        "processor": processor,
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        **{name: _version(name) for name in packages},
    }


def _version(name: str) -> str:
    if name == "wasmedge-async":  # as imported: it may run from a checkout
        from wasmedge_runtime import __version__

        return __version__
    return version(name)


def duration(seconds: float) -> str:
    """A time with a unit that leaves few digits."""
    for factor, unit in ((1.0, "s"), (1e-3, "ms"), (1e-6, "µs")):
        if seconds >= factor:
            return f"{seconds / factor:.3g} {unit}"
    return f"{seconds / 1e-9:.3g} ns"


def table(rows: Sequence[Row], means: Sequence[Mean], rates: Mapping[str, str]) -> str:
    """The results as Markdown."""
    heads = ["", "ours", "wasmtime", "ratio", "aim"]
    if any(row.native is not None for row in rows):
        heads += ["ours / native -O2", "wasmtime / native -O2"]
    lines = [f"| {' | '.join(heads)} |".replace("|  |", "| |"), "|---" * len(heads) + "|"]
    for row in rows:
        theirs = duration(row.theirs)
        if row.peer != "wasmtime":
            theirs += f" ({row.peer})"
        natives = [""] * (len(heads) - 5)
        if row.native is not None:
            natives = [f"{row.ours / row.native:.2f}", f"{row.theirs / row.native:.2f}"]
        cells = [row.name, duration(row.ours), theirs, f"{row.ratio:.3f}", _aim(row.aim), *natives]
        lines.append(f"| {' | '.join(cells)} |")
    if means:
        lines += ["", "| geometric mean | ratio | aim |", "|---|---|---|"]
    lines += [f"| {mean.name} | {mean.ratio:.3f} | {_aim(mean.aim)} |" for mean in means]
    if rates:
        lines += ["", "| rates | |", "|---|---|"]
    lines += [f"| {name} | {value} |" for name, value in rates.items()]
    return "\n".join(lines) + "\n"


def _aim(aim: float | None) -> str:
    return "" if aim is None else f"≤ {aim:g}"


def write(
    rows: Sequence[Row],
    means: Sequence[Mean],
    rates: Mapping[str, str],
    name: str = "results",
    title: str = "wasmedge-async against its peers",
) -> None:
    """Write the results as Markdown, JSON and a plot: `results.md`, `.json` and `.svg`."""
    RESULTS.mkdir(exist_ok=True)
    about = machine()
    data = {
        "machine": about,
        "rows": [
            {
                "name": row.name,
                "ours_seconds": row.ours,
                "peer": row.peer,
                "peer_seconds": row.theirs,
                "ratio": row.ratio,
                "aim": row.aim,
                "native_seconds": row.native,
            }
            for row in rows
        ],
        "means": [{"name": m.name, "ratio": m.ratio, "aim": m.aim} for m in means],
        "rates": rates,
    }
    (RESULTS / f"{name}.json").write_text(json.dumps(data, indent=2) + "\n", encoding="utf-8")
    heading = "\n".join(f"- {name}: {value}" for name, value in about.items())
    text = f"{heading}\n\n{table(rows, means, rates)}"
    (RESULTS / f"{name}.md").write_text(text, encoding="utf-8")
    bars = [(row.name, row.ratio, row.aim) for row in rows]
    bars += [(mean.name, mean.ratio, mean.aim) for mean in means if mean.is_ours]
    chart = bar_chart(title, bars)
    (RESULTS / f"{name}.svg").write_text(chart, encoding="utf-8")

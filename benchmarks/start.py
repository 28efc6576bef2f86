"""How soon real programs start, beside wasmtime: `python -m benchmarks.start [PROGRAM ...]`.

`programs.py` names the modules, `start_child.py` is what each sample's process does, `reset.py`
measures the reset of an instance. Results go to `benchmarks/results/start.*`.
"""

from __future__ import annotations

import ctypes
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import wasmtime

from benchmarks import report, reset
from benchmarks.programs import Program, installed, memory_alone
from benchmarks.rates import count_instructions
from benchmarks.report import duration
from benchmarks.rows import Row
from benchmarks.start_child import Calls, Job, Sample

ROOT = Path(__file__).resolve().parent.parent
ROUNDS = 5

INSTANCE_LIMIT = 50e-6  # seconds that a further instance may take beyond what its memory needs


def run(job: Job, cache: Path) -> Sample:
    """One sample in a process of its own, whose engine (ours) caches in a folder.

    What the process left behind, an optimiser at work, is ended afterwards: it would slow down
    the samples that follow.
    """
    before = _children()
    child = subprocess.run(
        [sys.executable, "-m", "benchmarks.start_child"],
        cwd=ROOT,
        env={**os.environ, "WASMEDGE_CACHE_DIR": str(cache)},
        input=json.dumps(asdict(job)),
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    while orphans := _children() - before:
        for orphan in orphans:
            os.kill(orphan, signal.SIGKILL)
            os.waitpid(orphan, 0)
    return Sample(**json.loads(child.stdout))


@contextmanager
def adopting_orphans() -> Iterator[None]:
    """What a sample's process leaves behind becomes a child of this process (Linux)."""
    if sys.platform != "linux":
        yield
        return
    set_child_subreaper = 36
    prctl = ctypes.CDLL(None).prctl
    prctl(set_child_subreaper, 1, 0, 0, 0)
    try:
        yield
    finally:
        prctl(set_child_subreaper, 0, 0, 0, 0)


def _children() -> set[int]:
    """The child processes of this one; none where the system does not tell."""
    lists = Path("/proc/self/task").glob("*/children")
    return {int(child) for each in lists for child in each.read_text().split()}


@dataclass(frozen=True)
class Starts:
    """The median samples of one program, by what was started."""

    cold: Sample
    warm: Sample
    peer: Sample
    peer_cached: Sample
    peer_deserialized: Sample
    optimised: float  # seconds from the start, nothing cached, until all code is optimised


def measure(module: Path, calls: Calls, rounds: int = ROUNDS) -> Starts:
    """Start a module `rounds` times in each way, the ways taking turns.

    Raises `AssertionError` when the engines disagree about how the first call ends.
    """
    data = module.read_bytes()
    with adopting_orphans(), tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        memory = folder / "memory.wasm"
        memory.write_bytes(memory_alone(data))
        settings = folder / "cache.toml"
        settings.write_text(f'[cache]\ndirectory = "{folder / "wasmtime"}"\n')
        serialized = folder / "serialized"
        serialized.write_bytes(wasmtime.Module(wasmtime.Engine(), data).serialize())

        ours = Job("ours", str(module), calls)
        theirs = replace(ours, engine="wasmtime")
        jobs = {
            "cold": replace(ours, compiles=True),
            "warm": replace(ours, memory=str(memory)),  # with no optimiser at work beside it
            "peer": replace(theirs, memory=str(memory)),
            "peer_cached": replace(theirs, cache=str(settings)),
            "peer_deserialized": replace(theirs, serialized=str(serialized)),
        }
        filled = folder / "warm"
        filling = run(replace(ours, compiles=True, settle=True), filled)
        run(jobs["peer_cached"], filled)
        samples: dict[str, list[Sample]] = {way: [] for way in jobs}
        ways = list(jobs)
        for number in range(rounds):
            shift = number % len(ways)
            for way in ways[shift:] + ways[:shift]:
                with tempfile.TemporaryDirectory(dir=folder) as empty:
                    cache = Path(empty) if way == "cold" else filled
                    samples[way].append(run(jobs[way], cache))
    ends = {sample.ended for each in samples.values() for sample in each}
    if len(ends) != 1:
        raise AssertionError(f"{module.name}: the engines disagree: {ends}")
    return Starts(**{w: median(s) for w, s in samples.items()}, optimised=filling.optimised)


def median(samples: list[Sample]) -> Sample:
    """The median of each figure."""
    figures = {
        name: statistics.median(getattr(sample, name) for sample in samples)
        for name, value in asdict(samples[0]).items()
        if isinstance(value, float)
    }
    return replace(samples[0], **figures)


def rows(name: str, starts: Starts) -> Iterator[Row]:
    """The figures of one program."""
    cold, warm, peer = starts.cold, starts.warm, starts.peer
    cached, deserialized = starts.peer_cached, starts.peer_deserialized

    def row(
        what: str, ours: float, theirs: float, aim: float | None = None, how: str = "wasmtime"
    ) -> Row:
        return Row(f"{name}: {what}", ours, theirs, how, aim)

    def ready(sample: Sample) -> float:
        return sample.ready - sample.imported

    def called(sample: Sample) -> float:
        return sample.called - sample.imported

    yield row("cold, ready", ready(cold), ready(peer), aim=1.0)
    yield row(
        "cold, ready, CPU",
        cold.ready_cpu - cold.imported_cpu,
        peer.ready_cpu - peer.imported_cpu,
    )
    yield row("cold, ready, with imports", cold.ready, peer.ready)
    yield row("cold, first call done", called(cold), called(peer))
    yield row(
        "cold, first call done, CPU",
        cold.called_cpu - cold.imported_cpu,
        peer.called_cpu - peer.imported_cpu,
    )
    yield row("warm, ready", ready(warm), ready(peer), aim=0.3, how="compiling")
    yield row(
        "warm, ready, CPU",
        warm.ready_cpu - warm.imported_cpu,
        peer.ready_cpu - peer.imported_cpu,
        how="compiling",
    )
    yield row("warm, ready, with imports", warm.ready, peer.ready, how="compiling")
    yield row("warm, first call done", called(warm), called(peer), how="compiling")
    yield row("warm, ready, both cached", ready(warm), ready(cached), how="its cache")
    yield row("warm, deserialized", ready(warm), ready(deserialized), how="deserialize_file")
    yield row("further instance", warm.instance, peer.instance)


def notes(program: Program, module: Path, starts: Starts) -> Mapping[str, str]:
    """What else is to be known about a program and its figures, as text."""
    called = ", ".join(name for name, *_ in program.calls)
    beyond = max(starts.warm.instance - starts.warm.memory, 0.0)
    return {
        f"{program.name}: {program.about}": f"{count_instructions(module):,} instructions in "
        f"{module.stat().st_size:,} bytes, from {program.source}",
        f"{program.name}: first call": f"{called}: {starts.cold.ended}",
        f"{program.name}: further instance": f"{duration(starts.warm.memory)} for its memory, "
        f"{duration(beyond)} for the rest (aim ≤ {duration(INSTANCE_LIMIT)})",
        f"{program.name}: optimised after": duration(starts.optimised),
    }


def main(names: list[str]) -> None:
    """Measure the programs of these names, or all."""
    all_rows: list[Row] = []
    all_notes: dict[str, str] = {}
    for program, module in installed(names):
        print(f"{program.name} ...", file=sys.stderr, flush=True)
        starts = measure(module, program.calls)
        all_rows += rows(program.name, starts)
        all_notes |= notes(program, module, starts)
    for row in reset.rows():
        all_rows.append(row)
        all_notes[row.name] = f"{duration(row.ours)} (aim ≤ {duration(reset.LIMIT)})"
    print(report.table(all_rows, [], all_notes))
    report.write(all_rows, [], all_notes, name="start", title="Start: wasmedge-async, wasmtime")
    print("written to benchmarks/results: start.md, start.json, start.svg")


if __name__ == "__main__":
    main(sys.argv[1:])

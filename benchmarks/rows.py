"""What is measured, and which aim each figure has."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from benchmarks import build
from benchmarks.engines import Ours, Wasmtime, native
from benchmarks.measure import geometric_mean, interleave, repeat
from tests.wat import wat
from wasmedge_runtime import Configure

CALLS = 20_000  # per run, where one call is too short to be timed
HOST_CALLS = 50_000


@dataclass(frozen=True)
class Kernel:
    """A C file in `kernels/`, run with an argument that makes it take a few tens of ms."""

    name: str
    argument: int
    about: str


KERNELS = (
    Kernel("collatz", 300_000, "integer"),
    Kernel("sieve", 16_000_000, "integer, byte stores"),
    Kernel("nbody", 200_000, "float"),
    Kernel("mandelbrot", 800, "float, registers only"),
    Kernel("stencil", 40, "memory-bound"),
    Kernel("simd", 10_000, "SIMD"),
    Kernel("interpreter", 1_000_000, "indirect calls"),
    Kernel("quicksort", 700_000, "sorting"),
    Kernel("sha256", 8_000_000, "hashing"),
    Kernel("matmul", 500, "matrix product"),
    Kernel("queens", 13, "recursive calls"),
    Kernel("distance", 5_000, "dynamic programming"),
)


@dataclass(frozen=True)
class Row:
    """One figure: our time, the peer's, and the ratio that is aimed at."""

    name: str
    ours: float  # seconds
    theirs: float  # seconds
    peer: str = "wasmtime"
    aim: float | None = None  # the ratio ours / theirs should be at most this
    native: float | None = None  # seconds

    @property
    def ratio(self) -> float:
        """Our time divided by the peer's."""
        return self.ours / self.theirs


@dataclass(frozen=True)
class Mean:
    """A geometric mean of ratios."""

    name: str
    ratio: float
    aim: float | None = None
    is_ours: bool = True  # False: two others compared, which belongs into the table only


@dataclass(frozen=True)
class Figures:
    """What one measurement gives: rows, and some of them once more as rates, as text by name."""

    rows: list[Row]
    rates: dict[str, str] = field(default_factory=dict)


def _agreeing(runs: dict[str, Callable[[], object]]) -> dict[str, Callable[[], object]]:
    """The runs, after one of each: what warms up, and they must give the same result.

    Raises `AssertionError` when they do not: a figure for a wrong result is none.
    """
    results = {name: run() for name, run in runs.items()}
    if len(set(map(str, results.values()))) != 1:
        raise AssertionError(f"the engines disagree: {results}")
    return runs


def fib() -> Row:
    """Recursive calls: `fib(32)`."""
    module = wat((build.KERNELS / "fib.wat").read_text())
    ours, theirs = Ours(module).function("run"), Wasmtime(module).function("run")
    runs = _agreeing({"ours": lambda: ours(32)[0], "theirs": lambda: theirs(32)})
    times = interleave(runs)
    return Row("fib(32)", times["ours"], times["theirs"], aim=1.0)


def kernels() -> Iterator[Row]:
    """Every kernel, against wasmtime and against native code."""
    for kernel in KERNELS:
        runs = _runs(kernel, vectors=True)
        runs["native"] = _unsigned(native(build.compile_native(kernel.name)), kernel.argument)
        times = interleave(_agreeing(runs))
        name = f"{kernel.name} ({kernel.about})"
        yield Row(name, times["ours"], times["theirs"], native=times["native"])


def kernels_without_simd() -> Mean:
    """The kernels once more, built for a WebAssembly that has no vectors."""
    ratios = []
    for kernel in KERNELS:
        times = interleave(_agreeing(_runs(kernel, vectors=False)))
        ratios.append(times["ours"] / times["theirs"])
    return Mean("kernels, no SIMD: ours / wasmtime", geometric_mean(ratios))


def _runs(kernel: Kernel, vectors: bool) -> dict[str, Callable[[], object]]:
    module = build.compile_kernel(kernel.name, vectors)
    return {
        "ours": _unsigned(Ours(module).function("run"), kernel.argument),
        "theirs": _unsigned(Wasmtime(module).function("run"), kernel.argument),
    }


def _unsigned(function: Callable[[int], object], argument: int) -> Callable[[], int]:
    def run() -> int:
        result = function(argument)
        number = result[0] if isinstance(result, list) else result
        if not isinstance(number, int):
            raise TypeError(f"expected an int, got {number!r}")
        return number & 0xFFFF_FFFF

    return run


def means(rows: list[Row]) -> Iterator[Mean]:
    """The kernels' geometric means."""
    against_native = [row for row in rows if row.native is not None]
    yield Mean("kernels: ours / wasmtime", geometric_mean([r.ratio for r in rows]), aim=0.9)
    yield Mean(
        "kernels: ours / native -O2",
        geometric_mean([r.ours / r.native for r in against_native if r.native]),
    )
    yield Mean(
        "kernels: wasmtime / native -O2",
        geometric_mean([r.theirs / r.native for r in against_native if r.native]),
        is_ours=False,
    )


def calls() -> Iterator[Row]:
    """Calls from Python into a module, and from a module into Python; times are per call."""
    module = wat((build.KERNELS / "calls.wat").read_text())
    host = {"identity": lambda n: n}
    ours, theirs = Ours(module, host=host), Wasmtime(module, host=host)
    times = interleave(
        {
            "function": repeat(ours.function("empty"), CALLS),
            "invoke": repeat(ours.invoke("empty"), CALLS),
            "theirs": repeat(theirs.function("empty"), CALLS),
        }
    )
    per_call = {name: time / CALLS for name, time in times.items()}
    yield Row("empty call, Function", per_call["function"], per_call["theirs"], aim=0.12)
    yield Row("empty call, invoke", per_call["invoke"], per_call["theirs"], aim=0.2)

    our_call, their_call = ours.function("call_host"), theirs.function("call_host")
    times = interleave(
        _agreeing(
            {
                "ours": lambda: our_call(HOST_CALLS)[0],
                "theirs": lambda: their_call(HOST_CALLS),
            }
        )
    )
    yield Row(
        "host function call",
        times["ours"] / HOST_CALLS,
        times["theirs"] / HOST_CALLS,
        aim=0.12,
    )


def counting() -> Row:
    """What counting instructions costs `fib(32)`: with against without."""
    module = wat((build.KERNELS / "fib.wat").read_text())
    configuration = Configure()
    configuration.statistics_instruction_counting = True
    counted, plain = Ours(module, configuration).function("run"), Ours(module).function("run")
    times = interleave(_agreeing({"ours": lambda: counted(32), "theirs": lambda: plain(32)}))
    return Row(
        "fib(32), counting instructions",
        times["ours"],
        times["theirs"],
        peer="without counting",
        aim=2.0,
    )

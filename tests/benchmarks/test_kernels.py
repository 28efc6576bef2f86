"""The kernels compute the same everywhere; the figures are about the right thing."""

from __future__ import annotations

import hashlib

import pytest

from benchmarks import build
from benchmarks.engines import Ours, Wasmtime, native
from benchmarks.rows import KERNELS, Kernel

SMALL = {  # arguments with which a kernel takes a moment
    "collatz": 2000,
    "sieve": 20_000,
    "nbody": 50,
    "mandelbrot": 24,
    "stencil": 1,
    "simd": 3,
    "interpreter": 100,
    "quicksort": 3000,
    "sha256": 1000,
    "matmul": 24,
    "queens": 6,
    "distance": 60,
}


@pytest.mark.parametrize("kernel", KERNELS, ids=lambda kernel: kernel.name)
def test_kernel_agrees_with_wasmtime_and_native_code(kernel: Kernel) -> None:
    module = build.compile_kernel(kernel.name, vectors=True)
    argument = SMALL[kernel.name]
    [ours] = Ours(module).function("run")(argument)
    theirs = Wasmtime(module).function("run")(argument)
    expected = native(build.compile_native(kernel.name))(argument)
    assert (ours & 0xFFFF_FFFF, theirs & 0xFFFF_FFFF) == (expected, expected)


def test_every_kernel_is_measured() -> None:
    files = {path.stem for path in build.KERNELS.glob("*.c")}
    assert files == {kernel.name for kernel in KERNELS} == set(SMALL)


@pytest.mark.parametrize(
    ("name", "argument", "result"),
    [
        ("queens", 6, 4),
        ("sieve", 1000, 168),
        ("collatz", 1000, 871 ^ 178 << 20),
        ("sha256", 100, None),
    ],
)
def test_kernel_computes_what_it_says(name: str, argument: int, result: int | None) -> None:
    if result is None:
        message = bytes((i * 7 + 3) & 255 for i in range(argument))
        result = int.from_bytes(hashlib.sha256(message).digest()[:4], "big")
    assert native(build.compile_native(name))(argument) == result

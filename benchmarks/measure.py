"""Timing of alternatives against each other."""

from __future__ import annotations

import asyncio
import gc
import statistics
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TypeAlias

ROUNDS = 11

AwaitedRun: TypeAlias = Callable[[], Awaitable[object]]
"""What is timed, where it has to be awaited."""


def interleave(
    alternatives: Mapping[str, Callable[[], object]], rounds: int = ROUNDS
) -> dict[str, float]:
    """The median time of each alternative in seconds.

    One run of each belongs to every round, in an order that rotates, so that a machine that
    becomes slower or faster meanwhile does so for all of them alike. The garbage collector is off
    while a run is timed.
    """
    times: dict[str, list[float]] = {name: [] for name in alternatives}
    for name in turns(list(alternatives), rounds):
        times[name].append(time_once(alternatives[name]))
    return medians(times)


async def interleave_awaited(
    alternatives: Mapping[str, AwaitedRun], rounds: int = ROUNDS
) -> dict[str, float]:
    """What `interleave` does, with runs that are awaited."""
    times: dict[str, list[float]] = {name: [] for name in alternatives}
    for name in turns(list(alternatives), rounds):
        with _no_collector():
            started = time.perf_counter()
            await alternatives[name]()
            times[name].append(time.perf_counter() - started)
    return medians(times)


def turns(names: list[str], rounds: int) -> Iterator[str]:
    """The alternatives in the order in which they run: each once in every round."""
    for number in range(rounds):
        shift = number % len(names)
        yield from names[shift:] + names[:shift]


def medians(times: Mapping[str, list[float]]) -> dict[str, float]:
    """The median of each alternative's times."""
    return {name: statistics.median(each) for name, each in times.items()}


def time_once(run: Callable[[], object]) -> float:
    """The time of one run in seconds."""
    with _no_collector():
        started = time.perf_counter()
        run()
        return time.perf_counter() - started


@contextmanager
def _no_collector() -> Iterator[None]:
    collecting = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if collecting:
            gc.enable()


def repeat(call: Callable[[], object], count: int) -> Callable[[], None]:
    """A run that makes `count` calls."""

    def run() -> None:
        for _ in range(count):
            call()

    return run


def repeat_awaited(call: AwaitedRun, count: int, tasks: int = 1) -> AwaitedRun:
    """A run in which so many tasks at once make `count` calls each, one after the other."""

    async def one() -> None:
        for _ in range(count):
            await call()

    async def run() -> None:
        await asyncio.gather(*(one() for _ in range(tasks)))

    return one if tasks == 1 else run


def geometric_mean(values: list[float]) -> float:
    """The geometric mean; the values must be positive."""
    return statistics.geometric_mean(values)

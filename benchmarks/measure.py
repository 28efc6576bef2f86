"""Timing of alternatives against each other."""

from __future__ import annotations

import gc
import statistics
import time
from collections.abc import Callable, Mapping

ROUNDS = 11


def interleave(
    alternatives: Mapping[str, Callable[[], object]], rounds: int = ROUNDS
) -> dict[str, float]:
    """The median time of each alternative in seconds.

    One run of each belongs to every round, in an order that rotates, so that a machine that
    becomes slower or faster meanwhile does so for all of them alike. The garbage collector is off
    while a run is timed.
    """
    names = list(alternatives)
    times: dict[str, list[float]] = {name: [] for name in names}
    for number in range(rounds):
        shift = number % len(names)
        for name in names[shift:] + names[:shift]:
            times[name].append(time_once(alternatives[name]))
    return {name: statistics.median(times[name]) for name in names}


def time_once(run: Callable[[], object]) -> float:
    """The time of one run in seconds."""
    collecting = gc.isenabled()
    gc.disable()
    try:
        started = time.perf_counter()
        run()
        return time.perf_counter() - started
    finally:
        if collecting:
            gc.enable()


def repeat(call: Callable[[], object], count: int) -> Callable[[], None]:
    """A run that makes `count` calls."""

    def run() -> None:
        for _ in range(count):
            call()

    return run


def geometric_mean(values: list[float]) -> float:
    """The geometric mean; the values must be positive."""
    return statistics.geometric_mean(values)

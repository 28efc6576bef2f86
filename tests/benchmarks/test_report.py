"""Tables and the plot say what was measured."""

from __future__ import annotations

import xml.etree.ElementTree as ET

import pytest

from benchmarks.measure import interleave
from benchmarks.plot import bar_chart
from benchmarks.report import duration, table
from benchmarks.rows import Mean, Row


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(2.5, "2.5 s"), (0.0123, "12.3 ms"), (4.56e-6, "4.56 µs"), (7.8e-8, "78 ns")],
)
def test_durations_have_units(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_the_table_shows_ratio_and_aim() -> None:
    text = table(
        [Row("fib(32)", 0.008, 0.010, aim=1.0, native=0.004)],
        [Mean("kernels", 0.85, aim=0.9)],
        {"load": "1 s"},
    )
    assert "| fib(32) | 8 ms | 10 ms | 0.800 | ≤ 1 | 2.00 | 2.50 |" in text
    assert "| kernels | 0.850 | ≤ 0.9 |" in text
    assert "| load | 1 s |" in text


def test_the_plot_is_well_formed_and_has_a_bar_per_row() -> None:
    chart = bar_chart("a <title>", [("fast & small", 0.02, 0.1), ("slow", 3.0, None)])
    bars = [e for e in ET.fromstring(chart) if e.tag.endswith("rect")]
    assert len(bars) == 1 + 2  # the background, and one each
    assert all(float(bar.attrib["width"]) > 0 for bar in bars)


def test_alternatives_are_timed_in_turns() -> None:
    order: list[str] = []
    times = interleave({"a": lambda: order.append("a"), "b": lambda: order.append("b")}, rounds=3)
    assert order == ["a", "b", "b", "a", "a", "b"]
    assert sorted(times) == ["a", "b"]

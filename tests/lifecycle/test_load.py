"""A short load test; `make load` runs it in full."""

from __future__ import annotations

from tests.load import Report, load
from tests.loops import Run


def test_calls_under_load_return_or_were_running(run: Run[Report]) -> None:
    report = run(load(calls=20_000, tasks=500, workers=2, every=0.25))
    assert report.kills >= 1
    assert report.died <= report.kills
    assert report.returned == 20_000 - report.died
    assert report.descriptors[0] == report.descriptors[1]
    assert report.resident[1] - report.resident[0] < 8 * 2**20

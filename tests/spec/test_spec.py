"""Every supported file of the official suite, as a test."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.spec import groups, suite
from tests.spec.runner import run_file

SUPPORTED = sorted(
    name for group in groups.GROUPS if group.name in groups.SUPPORTED for name in group.files
)


@pytest.fixture(scope="module")
def directory() -> Path:
    found = suite.find_suite()
    if found is None:
        pytest.skip(suite.NOT_FOUND)
    return found


@pytest.mark.parametrize("name", SUPPORTED)
def test_file_passes(name: str, directory: Path) -> None:
    report = run_file(directory, name)
    assert report.failures == []
    assert report.passed + report.skipped.total() > 0


def test_every_file_of_the_suite_is_run_or_has_a_reason(directory: Path) -> None:
    for name in suite.list_files(directory):
        assert (groups.not_supported(name) is None) == (name in SUPPORTED)

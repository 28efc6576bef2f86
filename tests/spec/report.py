"""Counts of one script's commands, and the table printed from them."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from tests.spec import groups

SHOWN = 20  # failures printed per file


@dataclass
class Report:
    """The outcome of one script, counted in commands."""

    name: str
    passed: int = 0
    failures: list[str] = field(default_factory=list)
    skipped: Counter[str] = field(default_factory=Counter)  # reason -> commands

    def to_json(self) -> str:
        """One line that `from_json` reads."""
        return json.dumps([self.name, self.passed, self.failures, self.skipped])

    @staticmethod
    def from_json(line: str) -> Report:
        """The report that `to_json` wrote."""
        name, passed, failures, skipped = json.loads(line)
        return Report(name, passed, failures, Counter(skipped))


def print_table(reports: Mapping[str, Report]) -> None:
    """Print a line per file, by groups, each with its first failures."""
    width = max(map(len, reports))
    for group in (*groups.GROUPS, None):
        members = [name for name in sorted(reports) if groups.group_of(name) is group]
        if members:
            print(f"\n{group.name if group else 'not assigned to a group'}")
        for name in members:
            report = reports[name]
            print(
                f"  {name:{width}} {report.passed:>6} passed {len(report.failures):>5} failed"
                f" {report.skipped.total():>5} skipped"
            )
            for failure in report.failures[:SHOWN]:
                print(f"      {failure}")
            if len(report.failures) > SHOWN:
                print(f"      and {len(report.failures) - SHOWN} more")


def print_totals(reports: Iterable[Report]) -> bool:
    """Print the reasons for skips and the totals; whether nothing failed."""
    reports = list(reports)
    reasons = sum((report.skipped for report in reports), Counter[str]())
    passed = sum(report.passed for report in reports)
    failed = sum(len(report.failures) for report in reports)
    print("\nskipped, by reason:")
    for reason, count in reasons.most_common():
        print(f"{count:>7}  {reason}")
    print(
        f"\n{len(reports)} files, {passed + failed + reasons.total()} commands: "
        f"{passed} passed, {failed} failed, {reasons.total()} skipped"
    )
    return not failed

"""One plan in every variant of the code and in every tier, against what wasmtime did."""

from __future__ import annotations

from collections.abc import Iterator

from tests.differential import ours
from tests.differential.smith import Outcome, Plan
from wasmedge_runtime import Statistics


def compare(plan: Plan, theirs: Outcome) -> Iterator[str]:
    """What differs: outcomes from theirs, or counts between tiers."""
    for variant in ours.Variant:
        counts = {}
        for tiers in ours.Tiers:
            statistics = Statistics()
            difference = ours.run(plan, variant, tiers, statistics).difference(theirs)
            if difference is not None:
                yield f"{variant.value}, {tiers.value}: ours and theirs: {difference}"
            counts[tiers.value] = statistics.instr_count, statistics.total_cost
        if len(set(counts.values())) > 1:
            yield f"{variant.value}: instructions and gas differ: {counts}"

"""300 modules with fixed seeds behave as they do in wasmtime."""

from __future__ import annotations

import pytest

from tests.differential import ours, peer
from tests.differential.compare import compare
from tests.differential.smith import Outcome, make_plan

SEEDS, VARIANT_SEEDS, PER_TEST = 300, 60, 10


@pytest.mark.parametrize("first", range(0, SEEDS, PER_TEST))
def test_engines_agree(first: int) -> None:
    differences = []
    for seed in range(first, first + PER_TEST):
        plan = make_plan(seed)
        difference = ours.run(plan).difference(peer.run(plan))
        if difference is not None:
            differences.append(f"seed {seed}: ours and theirs: {difference}")
    assert differences == []


@pytest.mark.parametrize("first", range(1000, 1000 + VARIANT_SEEDS, PER_TEST))
def test_engines_agree_whatever_code_is_generated_and_in_which_tier(first: int) -> None:
    differences = []
    for seed in range(first, first + PER_TEST):
        plan = make_plan(seed)
        theirs = peer.run(plan)
        differences += [f"seed {seed}, {text}" for text in compare(plan, theirs)]
    assert differences == []


def test_modules_do_what_is_worth_comparing() -> None:
    results = traps = host_calls = 0
    for seed in range(20):
        outcome = peer.run(make_plan(seed))
        traps += sum(result.startswith("trap") for _, result in outcome.calls)
        results += len(outcome.calls)
        host_calls += len(outcome.host_calls)
    assert results - traps > 20
    assert traps > 20
    assert host_calls > 5


def test_a_seed_always_makes_the_same_module() -> None:
    assert make_plan(1).module == make_plan(1).module


@pytest.mark.parametrize(
    ("changed", "difference"),
    [
        (Outcome(calls=[("f", "i32:1")]), "calls[0]: ('f', 'i32:0') and ('f', 'i32:1')"),
        (Outcome(calls=[]), "calls: [('f', 'i32:0')] and []"),
        (Outcome(calls=[("f", "i32:0")], memory="1 pages"), "memory:  and 1 pages"),
        (Outcome(calls=[("f", "i32:0")]), None),
    ],
)
def test_differences_are_seen(changed: Outcome, difference: str | None) -> None:
    assert Outcome(calls=[("f", "i32:0")]).difference(changed) == difference

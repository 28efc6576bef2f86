"""Statistics as an object; that the engine adds the right numbers is tested with the engine."""

from __future__ import annotations

import pytest

from wasmedge_runtime import Statistics, WasmEdgeError


@pytest.fixture
def used() -> Statistics:
    """Statistics as the engine leaves them after a call."""
    statistics = Statistics()
    statistics._instr_count = 28271634
    statistics._total_cost = 500
    statistics._wasm_ns = 556372295
    statistics._host_ns = 1000
    return statistics


def test_new_statistics_are_zero() -> None:
    statistics = Statistics()
    assert statistics.instr_count == 0
    assert statistics.total_cost == 0
    assert statistics.total_time_ns == 0
    assert statistics.wasm_time_ns == 0
    assert statistics.host_time_ns == 0
    assert statistics.instr_per_second == 0.0


def test_total_time_is_wasm_and_host_time(used: Statistics) -> None:
    assert used.total_time_ns == 556373295


def test_instructions_per_second_leave_host_time_out(used: Statistics) -> None:
    assert int(used.instr_per_second) == 50814237  # the figures of the reference


def test_clear_resets_counters_and_keeps_table_and_limit(used: Statistics) -> None:
    used.set_cost_table([0, 7])
    used.set_cost_limit(9)
    used.clear()
    assert (used.instr_count, used.total_cost, used.total_time_ns) == (0, 0, 0)
    assert used._cost_table[1] == 7
    assert used._cost_limit == 9


def test_every_instruction_costs_one_by_default() -> None:
    assert Statistics()._cost_table == [1] * 65536


def test_opcodes_beyond_the_cost_table_cost_nothing() -> None:
    statistics = Statistics()
    statistics.set_cost_table([5, 6])
    assert statistics._cost_table == [5, 6, *[0] * 65534]


def test_a_cost_table_is_copied_and_its_version_counts_changes() -> None:
    statistics = Statistics()
    costs = [3] * 65536
    before = statistics._cost_version
    statistics.set_cost_table(costs)
    costs[0] = 99
    assert statistics._cost_table[0] == 3
    assert statistics._cost_version != before


def test_a_refused_cost_table_changes_nothing() -> None:
    statistics = Statistics()
    before = statistics._cost_version
    with pytest.raises(ValueError, match=r"cost of opcode 0x0001 is outside 0 to 2\*\*64 - 1"):
        statistics.set_cost_table([1, -1])
    with pytest.raises(TypeError, match="cost of opcode 0x0000 must be an int, not float"):
        statistics.set_cost_table([1.5])  # type: ignore[list-item]
    with pytest.raises(ValueError, match="at most 65536 entries, not 65537"):
        statistics.set_cost_table([1] * 65537)
    assert statistics._cost_table == [1] * 65536
    assert statistics._cost_version == before


@pytest.mark.parametrize("limit", [-1, 2**64])
def test_a_cost_limit_has_64_bits(limit: int) -> None:
    with pytest.raises(ValueError, match="cost limit is outside"):
        Statistics().set_cost_limit(limit)


def test_closed_statistics_refuse_use() -> None:
    with Statistics() as statistics:
        pass
    statistics.close()
    with pytest.raises(WasmEdgeError, match="Statistics is closed"):
        _ = statistics.instr_count
    with pytest.raises(WasmEdgeError, match="Statistics is closed"):
        statistics.set_cost_limit(1)

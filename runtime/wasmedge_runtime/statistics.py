"""What running code cost: instructions, gas, time."""

from __future__ import annotations

from collections.abc import Sequence

from wasmedge_runtime.closable import Closable

__all__ = ["NO_COST_LIMIT", "OPCODES", "Statistics"]

OPCODES = 1 << 16
"""Entries of a cost table: opcodes have 16 bits, a prefix byte and what follows it."""

NO_COST_LIMIT = (1 << 64) - 1
"""The cost limit of new statistics, as large as the counter itself."""


class Statistics(Closable):
    """Counters that an `Executor` or a `VM` adds to, as far as `Configure` switches them on.

    Instructions are counted as the reference's interpreter counts them, up to and including a
    trapping one. Every instruction costs 1 until `set_cost_table` says otherwise.
    """

    def __init__(self) -> None:
        # Written by the engine at the end of each call, and read by it at the start of one.
        self._instr_count = 0
        self._total_cost = 0
        self._wasm_ns = 0
        self._host_ns = 0
        self._cost_table = [1] * OPCODES
        self._cost_version = 0  # of the table: whoever holds a native copy compares it
        self._cost_limit = NO_COST_LIMIT

    @property
    def instr_count(self) -> int:
        """Executed wasm instructions."""
        self._check_open()
        return self._instr_count

    @property
    def instr_per_second(self) -> float:
        """Executed wasm instructions per second of `wasm_time_ns`, 0.0 while no time has passed."""
        self._check_open()
        return self._instr_count * 1e9 / self._wasm_ns if self._wasm_ns else 0.0

    @property
    def total_cost(self) -> int:
        """The sum of the costs of executed instructions; never more than the limit."""
        self._check_open()
        return self._total_cost

    @property
    def total_time_ns(self) -> int:
        """Time in calls, wasm and host functions together, in nanoseconds."""
        self._check_open()
        return self._wasm_ns + self._host_ns

    @property
    def wasm_time_ns(self) -> int:
        """Time in wasm code, without the host functions it called, in nanoseconds."""
        self._check_open()
        return self._wasm_ns

    @property
    def host_time_ns(self) -> int:
        """Time in host functions, in nanoseconds."""
        self._check_open()
        return self._host_ns

    def set_cost_table(self, costs: Sequence[int]) -> None:
        """Set the cost of each instruction by its 16-bit opcode.

        One-byte opcodes stand for themselves, the others have their prefix in the upper byte:
        `0xFC0A` is `memory.copy`. As in the reference, opcodes beyond the list's end cost nothing.

        Raises:
            TypeError: a cost is not an int.
            ValueError: more than 65536 costs, or one outside 0 to 2**64 - 1.
        """
        self._check_open()
        table = list(costs)
        if len(table) > OPCODES:
            raise ValueError(f"a cost table has at most {OPCODES} entries, not {len(table)}")
        for opcode, cost in enumerate(table):
            _check_cost(f"the cost of opcode {opcode:#06x}", cost)
        table += [0] * (OPCODES - len(table))
        self._cost_table = table
        self._cost_version += 1

    def set_cost_limit(self, limit: int) -> None:
        """Set what `total_cost` may reach, 2**64 - 1 by default.

        A call stops with `ErrCode.CostLimitExceeded` before the instruction that would pass it.

        Raises:
            TypeError: not an int.
            ValueError: outside 0 to 2**64 - 1.
        """
        self._check_open()
        _check_cost("the cost limit", limit)
        self._cost_limit = limit

    def clear(self) -> None:
        """Set counters and times to 0; the cost table and the limit stay."""
        self._check_open()
        self._instr_count = self._total_cost = self._wasm_ns = self._host_ns = 0


def _check_cost(what: str, cost: object) -> None:
    if not isinstance(cost, int):
        raise TypeError(f"{what} must be an int, not {type(cost).__name__}")
    if not 0 <= cost <= NO_COST_LIMIT:
        raise ValueError(f"{what} is outside 0 to 2**64 - 1: {cost:#x}")

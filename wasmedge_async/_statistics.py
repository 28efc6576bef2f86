"""The statistics of a VM in a worker."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Self

from wasmedge_pool.handles import Owner
from wasmedge_pool.messages import GetStatistics, SetStatistics
from wasmedge_pool.request import Request

__all__ = ["Statistics"]

_OPCODES = 1 << 16
_MOST = (1 << 64) - 1


class Statistics:
    """What the calls of a VM had cost when `VM.get_statistics()` was called, as far as its
    `Configure` switches the counters on; and what limits them."""

    def __init__(self, owner: Owner, counters: tuple[int, int, int, int]) -> None:
        self._owner = owner
        self._instr_count, self._total_cost, self._wasm_ns, self._host_ns = counters

    @classmethod
    async def of(cls, owner: Owner) -> Self:
        """Ask for those of a VM."""
        instructions, cost, wasm, host = await owner.ask(Request(GetStatistics(0, owner.number)))
        return cls(owner, (instructions, cost, wasm, host))

    @property
    def instr_count(self) -> int:
        """Executed wasm instructions."""
        return self._instr_count

    @property
    def instr_per_second(self) -> float:
        """Executed wasm instructions per second of `wasm_time_ns`, 0.0 while no time has passed."""
        return self._instr_count * 1e9 / self._wasm_ns if self._wasm_ns else 0.0

    @property
    def total_cost(self) -> int:
        """The sum of the costs of executed instructions; never more than the limit."""
        return self._total_cost

    @property
    def total_time_ns(self) -> int:
        """Time in calls, wasm and host functions together, in nanoseconds."""
        return self._wasm_ns + self._host_ns

    @property
    def wasm_time_ns(self) -> int:
        """Time in wasm code, without the host functions it called, in nanoseconds."""
        return self._wasm_ns

    @property
    def host_time_ns(self) -> int:
        """Time in host functions, with the way to this process and back, in nanoseconds."""
        return self._host_ns

    async def set_cost_table(self, costs: Sequence[int]) -> None:
        """Set the cost of each instruction by its 16-bit opcode.

        One-byte opcodes stand for themselves, the others have their prefix in the upper byte:
        `0xFC0A` is `memory.copy`. Opcodes beyond the list's end cost nothing.

        Raises:
            TypeError: a cost is not an int.
            ValueError: more than 65536 costs, or one outside 0 to 2**64 - 1.
        """
        if len(costs) > _OPCODES:
            raise ValueError(f"a cost table has at most {_OPCODES} entries, not {len(costs)}")
        table = bytearray()
        for opcode, cost in enumerate(costs):
            _check(f"the cost of opcode {opcode:#06x}", cost)
            table += cost.to_bytes(8, "big")
        message = SetStatistics(0, self._owner.number, None, 1, 0)
        await self._owner.ask(Request(message, bytes(table)))

    async def set_cost_limit(self, limit: int) -> None:
        """Set what `total_cost` may reach, 2**64 - 1 by default.

        A call stops with `ErrCode.CostLimitExceeded` before the instruction that would pass it.

        Raises:
            TypeError: not an int.
            ValueError: outside 0 to 2**64 - 1.
        """
        _check("the cost limit", limit)
        await self._owner.ask(Request(SetStatistics(0, self._owner.number, limit, 0, 0)))

    async def clear(self) -> None:
        """Set the VM's counters and times to 0; the cost table and the limit stay."""
        await self._owner.ask(Request(SetStatistics(0, self._owner.number, None, 0, 1)))

    def __repr__(self) -> str:
        return (
            f"<statistics: {self._instr_count} instructions, cost {self._total_cost}, "
            f"{self.total_time_ns / 1e9:.6f} s>"
        )


def _check(what: str, cost: object) -> None:
    if not isinstance(cost, int):
        raise TypeError(f"{what} must be an int, not {type(cost).__name__}")
    if not 0 <= cost <= _MOST:
        raise ValueError(f"{what} is outside 0 to 2**64 - 1: {cost:#x}")

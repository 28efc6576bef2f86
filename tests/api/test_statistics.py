"""What calls in a worker cost: counted, limited, forgotten."""

from __future__ import annotations

import pytest

from tests.loops import Run
from tests.wat import wat
from wasmedge_async import VM, Configure, ErrCode, Statistics, Trap

DIVIDE = wat("""(module (func (export "divide") (param i32 i32) (result i32)
  (i32.div_s (local.get 0) (local.get 1))))""")
DIV_S = 0x6D


def measured() -> Configure:
    config = Configure()
    config.statistics_instruction_counting = True
    config.statistics_cost_measuring = True
    config.statistics_time_measuring = True
    return config


async def divide(vm: VM) -> Statistics:
    await vm.run_wasm_buffer(DIVIDE, "divide", 7, 2)
    return await vm.get_statistics()


def test_counters_add_up_and_are_those_of_the_moment(run: Run[None]) -> None:
    async def main() -> None:
        async with VM(measured()) as vm:
            first, second = await divide(vm), await divide(vm)
            assert (first.instr_count, second.instr_count) == (4, 8)
            assert (first.total_cost, second.total_cost) == (4, 8)
            assert first.total_time_ns == first.wasm_time_ns + first.host_time_ns > 0
            assert first.instr_per_second == 4e9 / first.wasm_time_ns

    run(main())


def test_without_configuration_nothing_is_counted(run: Run[None]) -> None:
    async def main() -> None:
        async with VM() as vm:
            statistics = await divide(vm)
            assert (statistics.instr_count, statistics.total_cost) == (0, 0)
            assert (statistics.total_time_ns, statistics.instr_per_second) == (0, 0.0)

    run(main())


def test_costs_are_by_opcode_and_limited(run: Run[None]) -> None:
    async def main() -> None:
        async with VM(measured()) as vm:
            statistics = await vm.get_statistics()
            await statistics.set_cost_table([0] * DIV_S + [50])
            await statistics.set_cost_limit(60)
            assert (await divide(vm)).total_cost == 50
            with pytest.raises(Trap) as trap:
                await divide(vm)
            assert trap.value.kind is ErrCode.CostLimitExceeded
            assert (await vm.get_statistics()).total_cost == 60

    run(main())


def test_clearing_keeps_the_table_and_the_limit(run: Run[None]) -> None:
    async def main() -> None:
        async with VM(measured()) as vm:
            statistics = await divide(vm)
            await statistics.set_cost_table([0] * DIV_S + [50])
            await statistics.set_cost_limit(60)
            await statistics.clear()
            cleared = await vm.get_statistics()
            assert (cleared.instr_count, cleared.total_cost, cleared.total_time_ns) == (0, 0, 0)
            assert (await divide(vm)).total_cost == 50
            with pytest.raises(Trap):
                await divide(vm)

    run(main())


def test_costs_that_are_none_are_refused_before_anything_is_sent(run: Run[None]) -> None:
    async def main() -> None:
        async with VM(measured()) as vm:
            statistics = await vm.get_statistics()
            with pytest.raises(ValueError, match="at most 65536"):
                await statistics.set_cost_table([1] * 65537)
            with pytest.raises(ValueError, match=r"opcode 0x0001 is outside"):
                await statistics.set_cost_table([1, -1])
            with pytest.raises(TypeError, match="the cost limit must be an int, not float"):
                await statistics.set_cost_limit(1.5)  # type: ignore[arg-type]
            assert (await divide(vm)).total_cost == 4

    run(main())

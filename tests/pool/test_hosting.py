"""Host functions against workers that lie: the call fails, the parent does not."""

from __future__ import annotations

import asyncio
import time
from functools import partial
from typing import Any

import pytest

from tests.loops import Run
from wasmedge_pool.actor import VM_NAME, Actor
from wasmedge_pool.caller_memory import CallerMemory
from wasmedge_pool.errors import CallTimeout, VMLost, WorkerDied
from wasmedge_pool.handles import Memory, Place
from wasmedge_pool.hosting import HostFunctions
from wasmedge_pool.imports import Function
from wasmedge_pool.messages import Call, HostCall, ProtocolError
from wasmedge_pool.process import WorkerProcess
from wasmedge_pool.references import References
from wasmedge_pool.request import Request
from wasmedge_runtime.types import FunctionType, Limit, MemoryType, ValType
from wasmedge_runtime.values import ExternRef, FuncRef


def liar(lie: str, ran: list[int]) -> Actor:
    """An actor whose worker tells a lie when it is called; function 0 reads 10 bytes if it can."""
    vm = Actor(None, partial(WorkerProcess, f"tests.pool.hostile_worker:{lie}"))

    def number(data: Any, memory: CallerMemory | None, value: int) -> None:
        ran.append(value)
        if memory is not None:
            memory.get_data(0, 10)

    vm.hosts.number(Function(FunctionType([ValType.I32], []), number))
    vm.hosts.number(Function(FunctionType([ValType.EXTERNREF], []), lambda *_: ran.append(0)))
    return vm


async def call(vm: Actor, timeout: int | None = None) -> list[Any]:
    seconds = None if timeout is None else timeout / 1e6
    message = Call(0, VM_NAME, None, "f", (), timeout)
    return await vm.ask(Request(message, None, seconds, hosts=vm.hosts))


@pytest.mark.parametrize(
    ("lie", "why", "runs"),
    [
        ("calls_an_unknown_function", "host function 9, which it was not given", 0),
        ("calls_with_wrong_arguments", "host function 0 with", 0),
        ("calls_with_too_few_arguments", "host function 0 with", 0),
        ("calls_with_an_unknown_object", "reference .* that it was never given", 0),
        ("calls_for_another_request", "which it was not running", 0),
        ("calls_for_a_nested_request", "which it was not running", 0),
        ("calls_twice_at_once", "host call 2 out of order", 1),
        ("calls_with_an_old_number", "host call 5 out of order", 1),
        ("answers_a_nested_request_that_is_not", "which it was not running", 0),
        ("drops_what_it_never_had", "object 77 dropped", 0),
        ("drops_nothing", "object 77 dropped", 0),
        ("returns_an_unknown_object", "that it was never given", 0),
        ("sends_data_unasked", "data that was not asked for", 0),
        ("sends_empty_data", "data that was not asked for", 0),
        ("answers_too_little", "nonsense in answer", 1),
        ("answers_too_much", "nonsense in answer", 1),
        ("refuses_without_a_reason", "nonsense in answer", 1),
        ("refuses_with_an_unknown_code", "nonsense in answer", 1),
        ("answers_with_a_skip", "within 1 s", 1),
        ("answers_without_an_end", "endless datagrams|within 1 s", 1),
        ("does_not_answer", "could not be accessed within 1 s", 1),
        ("answers_out_of_the_blue", "nonsense on the control socket", 0),
        ("dies_when_it_is_asked", "code 7", 1),
    ],
)
def test_a_lie_ends_the_worker_and_the_call(run: Run[None], lie: str, why: str, runs: int) -> None:
    async def main() -> None:
        ran: list[int] = []
        vm = liar(lie, ran)
        started = time.monotonic()
        with pytest.raises((WorkerDied, VMLost), match=why):
            await call(vm)
        assert time.monotonic() - started < 20
        assert len(ran) <= runs
        task = asyncio.current_task()
        assert task is not None
        assert task.cancelling() == 0
        await vm.close()

    run(main())


def test_host_calls_without_an_end_can_be_ended(run: Run[None]) -> None:
    async def main() -> None:
        ran: list[int] = []
        vm = liar("calls_for_ever", ran)
        with pytest.raises(CallTimeout):
            await call(vm, 100_000)  # the worker does not know what a timeout is
        assert len(ran) > 10
        await vm.close()

    run(main())


@pytest.mark.parametrize("lie", ["sends_too_much_data", "sends_too_little_data"])
def test_memory_of_another_length_than_asked_for(run: Run[None], lie: str) -> None:
    async def main() -> None:
        vm = liar(lie, [])
        await asyncio.wait([vm.begin().future])
        memory = Memory(MemoryType(Limit(1)))
        memory.settle(Place(vm, vm.life, 1))
        with pytest.raises((WorkerDied, VMLost), match="asked for"):
            await memory.get_data(0, 10)
        await vm.close()

    run(main())


def test_a_request_without_host_functions_may_call_none(run: Run[None]) -> None:
    async def main() -> None:
        ran: list[int] = []
        vm = liar("calls_an_unknown_function", ran)
        with pytest.raises((WorkerDied, VMLost), match="host call 1 out of order"):
            await vm.ask(Request(Call(0, VM_NAME, None, "f", (), None)))
        await vm.close()

    run(main())


# --- What is known of references and functions --------------------------------------------------


def test_an_object_is_held_until_it_was_dropped_as_often_as_sent() -> None:
    references = References()
    reference = ExternRef("object")
    number = reference._handle
    references.sent([reference, reference])
    references.sent([reference])
    references.dropped(number, 2)
    assert references.get(0, number) is reference
    references.dropped(number, 1)
    assert len(references) == 0
    with pytest.raises(ProtocolError):
        references.get(0, number)
    with pytest.raises(ProtocolError):
        references.dropped(number, 1)


@pytest.mark.parametrize("pair", [(0, 5), (1, 1 << 32), (2, 0), (3, 1 << 64), (4, 1 << 64)])
def test_a_pair_that_stands_for_nothing(pair: tuple[int, int]) -> None:
    with pytest.raises(ProtocolError):
        References().get(*pair)


def test_numbers_that_were_passed_for_references() -> None:
    references = References()
    assert references.get(1, 7) == FuncRef(7)
    assert references.get(3, (1 << 64) - 5).value == -5
    assert references.get(3, 5).value == 5
    assert references.get(4, 0x3FF8_0000_0000_0000).value == 1.5


def test_a_function_has_one_number() -> None:
    hosts = HostFunctions()
    one, two = (Function(FunctionType([], []), print) for _ in range(2))
    assert [hosts.number(function) for function in (one, two, one)] == [0, 1, 0]
    assert hosts.get(1) is two
    with pytest.raises(ProtocolError):
        hosts.get(2)


def test_a_worker_does_not_call_its_own_functions_here() -> None:
    hosts = HostFunctions()
    hosts.number(Function(FunctionType([], []), "package.module:function"))
    with pytest.raises(ProtocolError):
        hosts.check(HostCall(1, 1, 0, 0, ()))

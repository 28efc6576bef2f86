"""`wasmedge_async`: what is awaited."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from subprocess import DEVNULL, PIPE, STDOUT
from typing import Any, Literal, assert_type

from anyio.abc import ByteReceiveStream, ByteSendStream

import wasmedge_runtime
from wasmedge_async import (
    VM,
    AwaitedCallerMemory,
    BindgenReturn,
    CallerMemory,
    CallRecord,
    CodeStatus,
    Configure,
    ExternRef,
    FuncRef,
    Function,
    FunctionHandle,
    FunctionType,
    Global,
    GlobalType,
    Histogram,
    HostRegistration,
    ImportObject,
    Limit,
    LineTooLong,
    Memory,
    MemoryType,
    PoolFull,
    PoolStats,
    Process,
    ReceiveStream,
    RefType,
    SendStream,
    Statistics,
    Store,
    Table,
    TableType,
    ValMut,
    ValType,
    VMPool,
    VMState,
    Wasi,
    WasiImportObject,
    WasmEdgeError,
    WasmEdgeProcess,
    WasmEdgeProcessImportObject,
    WorkerStats,
    WouldDeadlock,
)


async def machines(imports: ImportObject, wasi: WasiImportObject) -> None:
    vm = VM()
    VM("module.wasm")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    VM(pool=VMPool(b""))
    async with VM(Configure(HostRegistration.WASI)) as entered:
        assert_type(entered, VM)
    assert_type(vm.state, VMState)
    assert_type(await vm.started(), None)
    assert_type(await vm.restart(), None)

    assert_type(await vm.load_wasm_file(Path("a.wasm")), None)
    assert_type(await vm.load_wasm_buffer(memoryview(b"")), None)
    await vm.load_wasm_buffer("a.wasm")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    await vm.load_wasm_file(3)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    assert_type(await vm.validate(), None)
    assert_type(await vm.instantiate(), None)
    assert_type(await vm.register_wasm_file("name", "a.wasm"), None)
    assert_type(await vm.register_wasm_buffer("name", b""), None)
    assert_type(await vm.register_import(imports), None)
    assert_type(await vm.register_import(wasi), None)
    await vm.register_import(wasmedge_runtime.ImportObject("env"))  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    assert_type(await vm.cleanup(), None)

    assert_type(await vm.execute("fib", 21, timeout=1.5), list[Any])
    assert_type(await vm.execute_registered("math", "add", 1, 2, timeout=None), list[Any])
    assert_type(await vm.run_wasm_file("a.wasm", "fib", 21, timeout=1), list[Any])
    assert_type(await vm.run_wasm_buffer(b"", "fib", 21, timeout=1), list[Any])
    await vm.execute("fib", timeout="1 s")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    await vm.execute(b"fib")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]

    assert_type(await vm.get_function_list(), dict[str, FunctionType])
    assert_type(await vm.get_function_type("fib"), FunctionType | None)
    assert_type(await vm.get_function_type_registered("math", "add"), FunctionType | None)
    assert_type(await vm.get_store(), Store)
    assert_type(await vm.get_import_object(HostRegistration.WASI), Wasi | None)
    process = await vm.get_import_object(HostRegistration.WASMEDGE_PROCESS)
    assert_type(process, WasmEdgeProcess | None)
    assert_type(await vm.get_statistics(), Statistics)
    assert_type(await vm.get_code_status(), CodeStatus | None)
    assert_type(await vm.close(), None)


async def bindgen(vm: VM, kind: BindgenReturn) -> None:
    await vm.execute_bindgen("run", BindgenReturn.VOID, timeout=1)
    assert_type(await vm.execute_bindgen("add", BindgenReturn.I32, 1, 2), int)
    assert_type(await vm.execute_bindgen("add", BindgenReturn.I64, 1, 2), int)
    assert_type(await vm.execute_bindgen("say", BindgenReturn.ARRAY, "x"), bytes)
    assert_type(await vm.execute_bindgen("any", kind), int | bytes | None)
    nothing = await vm.execute_bindgen("run", BindgenReturn.VOID)  # type: ignore[func-returns-value]
    assert_type(nothing, None)
    await vm.execute_bindgen("say", "x")  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue, reportArgumentType]
    found = await vm.execute_bindgen_registered("lib", "say", BindgenReturn.ARRAY, "x", timeout=1)
    assert_type(found, bytes)
    number = await vm.execute_bindgen_registered("lib", "add", BindgenReturn.I64, 1)
    assert_type(number, int)


async def programs(vm: VM, process: Process) -> None:
    process = await vm.spawn(
        Path("program.wasm"),
        args=["program", "x"],
        env={"A": "1"},
        preopens={".": Path("data")},
        stdin=PIPE,
        stdout=DEVNULL,
        stderr=STDOUT,
        allow_sockets=["127.0.0.1:80"],
    )
    await vm.spawn(b"", env=["A=1"], preopens=[".:data:readonly"], stdin=b"5\n", stdout="out.txt")
    await vm.spawn(b"", stdin=3.5)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    assert_type(process.stdin, SendStream | None)
    assert_type(process.stdout, ReceiveStream | None)
    assert_type(process.stderr, ReceiveStream | None)
    assert_type(process.returncode, int | None)
    assert_type(await process.wait(), int)
    assert_type(await process.communicate(b"input"), tuple[bytes | None, bytes | None])
    assert_type(process.terminate(), None)
    assert_type(process.kill(), None)
    assert_type(await process.aclose(), None)
    async with process as entered:
        assert_type(entered, Process)


async def streams(sending: SendStream, receiving: ReceiveStream, error: LineTooLong) -> None:
    assert_type(await sending.send(b"5\n"), None)
    assert_type(sending.bytes_sent, int)
    assert_type(sending.close(), None)
    assert_type(await sending.aclose(), None)
    await sending.send("5\n")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    assert_type(await receiving.receive(100), bytes)
    assert_type(receiving.lines(), AsyncIterator[str])
    assert_type(receiving.lines("latin-1", errors="replace", max_line=80), AsyncIterator[str])
    assert_type(receiving.lines(None), AsyncIterator[bytes])
    async for chunk in receiving:
        assert_type(chunk, bytes)
    assert_type(receiving.close(), None)
    assert_type(await receiving.aclose(), None)
    assert_type(error.max_line, int)
    ends: tuple[ByteSendStream, ByteReceiveStream] = (sending, receiving)
    del ends


async def stores(store: Store) -> None:
    assert_type(await store.find_function("fib"), FunctionHandle | None)
    assert_type(await store.find_function_registered("math", "add"), FunctionHandle | None)
    assert_type(await store.find_table("table"), Table | None)
    assert_type(await store.find_table_registered("math", "table"), Table | None)
    assert_type(await store.find_memory("memory"), Memory | None)
    assert_type(await store.find_memory_registered("math", "memory"), Memory | None)
    assert_type(await store.find_global("counter"), Global | None)
    assert_type(await store.find_global_registered("math", "counter"), Global | None)
    assert_type(await store.list_function(), list[str])
    assert_type(await store.list_function_registered("math"), list[str])
    assert_type(await store.list_table(), list[str])
    assert_type(await store.list_table_registered("math"), list[str])
    assert_type(await store.list_memory(), list[str])
    assert_type(await store.list_memory_registered("math"), list[str])
    assert_type(await store.list_global(), list[str])
    assert_type(await store.list_global_registered("math"), list[str])
    assert_type(await store.list_module(), list[str])
    await store.find_memory()  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]


async def handles(function: FunctionHandle) -> None:
    assert_type(await function(21, timeout=1.0), list[Any])
    assert_type(function.function_type, FunctionType)
    assert_type(function.index, int)

    memory = Memory(MemoryType(Limit(1)))
    assert_type(memory.memory_type, MemoryType)
    assert_type(memory.page_size, int)
    assert_type(await memory.get_page_size(), int)
    assert_type(await memory.get_data(0, 8), bytes)
    assert_type(await memory.set_data(bytearray(8), 0, length=4), None)
    assert_type(await memory.grow_page(1), None)
    assert_type(memory.view(), memoryview)
    await memory.set_data("text", 0)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    with memory as entered:
        assert_type(entered, Memory)

    table = Table(TableType(RefType.EXTERNREF, Limit(1)))
    assert_type(table.table_type, TableType)
    assert_type(table.size, int)
    assert_type(await table.get_size(), int)
    assert_type(await table.get_data(0), ExternRef | FuncRef | None)
    assert_type(await table.set_data(object(), 0), None)
    assert_type(await table.grow(1), None)
    assert_type(table.close(), None)

    variable = Global(GlobalType(ValType.I32, ValMut.VAR), 1)
    assert_type(variable.global_type, GlobalType)
    assert_type(variable.value, Any)
    variable.value = 2
    assert_type(await variable.get_value(), Any)
    assert_type(await variable.set_value(3), None)
    Memory(TableType(RefType.FUNCREF, Limit(1)))  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


async def host_functions(plain: CallerMemory, awaited: AwaitedCallerMemory) -> None:
    imports = ImportObject("env")
    kind = FunctionType([ValType.I32], [ValType.I32])

    @imports.function("fetch", params=[ValType.I32], results=[ValType.I32], data=[], cost=3)
    async def fetch(data: list[str], memory: AwaitedCallerMemory | None, number: int) -> int:
        return number

    assert_type(await fetch([], None, 1), int)  # the decorator leaves the function as it is
    function = Function(kind, fetch, data=[], cost=3)
    Function(kind, "package.module:function")
    Function(kind, 5)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    assert_type(function.function_type, FunctionType)
    assert_type(function.cost, int)
    assert_type(imports.name, str)
    assert_type(imports.add_function("fetch", function), None)
    assert_type(imports.add_table("table", Table(TableType(RefType.FUNCREF, Limit(1)))), None)
    assert_type(imports.add_memory("memory", Memory(MemoryType(Limit(1)))), None)
    assert_type(imports.add_global("g", Global(GlobalType(ValType.I32, ValMut.CONST), 1)), None)
    imports.add_function("fetch", fetch)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    assert_type(imports.close(), None)

    assert_type(plain.get_data(0, 8), bytes)
    assert_type(plain.set_data(b"", 0, length=0), None)
    assert_type(plain.page_size, int)
    assert_type(plain.grow_page(1), None)
    assert_type(plain.view(), memoryview)
    assert_type(await awaited.get_data(0, 8), bytes)
    assert_type(await awaited.set_data(b"", 0, length=0), None)
    assert_type(await awaited.get_page_size(), int)
    assert_type(await awaited.grow_page(1), None)
    assert_type(awaited.view(), memoryview)


async def surroundings(wasi: Wasi) -> None:
    with open("log.txt", "wb") as log:
        WasiImportObject(
            args=["program"],
            envs={"LANG": "C"},
            preopens=["/data:data:readonly"],
            stdin=b"input",
            stdout=log,
            stderr=DEVNULL,
            allow_sockets=["127.0.0.1:80"],
        )
    WasiImportObject(args=[1])  # type: ignore[list-item]  # pyright: ignore[reportArgumentType]
    assert_type(await wasi.init_wasi(["program"], ["A=1"], {"/": "."}, stdout=Path("out")), None)
    assert_type(await wasi.get_exit_code(), int)


async def commands(vm: VM, process: WasmEdgeProcess) -> None:
    given = WasmEdgeProcessImportObject(["ls"], allow_all=False, folder=Path("work"))
    assert_type(await vm.register_import(given), None)
    assert_type(await process.init_wasmedge_process(["ls"], True, folder="work"), None)
    WasmEdgeProcessImportObject(allow_all="ls")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


async def figures(statistics: Statistics) -> None:
    assert_type(statistics.instr_count, int)
    assert_type(statistics.instr_per_second, float)
    assert_type(statistics.total_cost, int)
    assert_type(statistics.total_time_ns, int)
    assert_type(statistics.wasm_time_ns, int)
    assert_type(statistics.host_time_ns, int)
    assert_type(await statistics.set_cost_table([1] * 65536), None)
    assert_type(await statistics.set_cost_limit(1000), None)
    assert_type(await statistics.clear(), None)


async def pools(imports: ImportObject) -> None:
    def tell(status: CodeStatus) -> None: ...

    def note(record: CallRecord) -> None: ...

    pool = VMPool("module.wasm", workers=2, config=Configure(), progress=tell, imports=[imports])
    VMPool(b"", progress=note)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    VMPool(b"", on_call=tell)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    VMPool(
        b"",
        min_workers=1,
        max_workers=4,
        idle=30,
        max_calls=1000,
        max_rss=1 << 30,
        max_queue=100,
        actor_idle=60.0,
        on_call=note,
    )
    VMPool(5)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    VMPool()  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    async with pool as entered:
        assert_type(entered, VMPool)
    assert_type(await pool.execute("fib", 21, timeout=1.5, queue_timeout=1), list[Any])
    many = await pool.execute_many("fib", [(n,) for n in range(9)], timeout=1, return_errors=True)
    assert_type(many, list[Any])
    await pool.execute_many("fib", range(9))  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    results = pool.map("fib", range(9), ordered=False, timeout=1, return_errors=True)
    async for result in results:
        assert_type(result, Any)
    assert_type(await results.aclose(), None)
    async with pool.acquire() as vm:
        assert_type(vm, VM)
    assert_type(pool.actor("session-42"), VM)
    pool.actor(["session-42"])  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    assert_type(await pool.broadcast("setup", 1, timeout=1), list[Any])
    process = await pool.spawn("program.wasm", ["program"], {"A": "1"}, [".:data"], stdin=b"5\n")
    assert_type(process, Process)
    first, second = await asyncio.gather(pool.execute("fib", 1), pool.execute("fib", 2))
    assert_type(first + second, list[Any])
    assert_type(pool.code_status, CodeStatus | None)
    assert_type(await pool.close(), None)
    assert_type(pool.kill(), None)


def statistics_of_pools(pool: VMPool, record: CallRecord) -> None:
    stats = pool.stats()
    assert_type(stats, PoolStats)
    assert_type(stats.calls + stats.running + stats.queued + stats.completed, int)
    assert_type(stats.failed + stats.cancelled + stats.timed_out + stats.refused, int)
    assert_type(stats.starting + stats.actors, int)
    assert_type(stats.queue_time, Histogram)
    assert_type(stats.run_time, Histogram)
    assert_type(stats.workers, tuple[WorkerStats, ...])
    assert_type(stats.restarts, Mapping[str, int])

    assert_type(stats.run_time.count, int)
    assert_type(stats.run_time.sum + stats.run_time.max, float)
    assert_type(stats.run_time.bounds, tuple[float, ...])
    assert_type(stats.run_time.cumulative, tuple[int, ...])
    assert_type(stats.run_time.percentile(95), float)
    assert_type(stats.run_time.p50 + stats.run_time.p90 + stats.run_time.p99, float)

    [worker] = stats.workers
    assert_type(worker.pid + worker.calls + worker.tenants, int)
    assert_type(worker.resident_bytes, int | None)
    assert_type(worker.started, float)
    assert_type(worker.busy, bool)

    assert_type(record.function, str)
    assert_type(record.outcome, Literal["completed", "failed", "cancelled", "timed_out"])
    assert_type(record.calls, int)
    assert_type(record.queue_seconds + record.run_seconds, float)
    assert_type(record.pid, int)

    refusals: list[type[WasmEdgeError]] = [PoolFull, WouldDeadlock]
    del refusals

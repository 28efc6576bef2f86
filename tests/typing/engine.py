"""`wasmedge_runtime`: the synchronous engine."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any, assert_type

from wasmedge_runtime import (
    AST,
    DEVNULL,
    VM,
    BindgenReturn,
    CodeStatus,
    Compiler,
    Configure,
    Executor,
    ExportType,
    ExternRef,
    ExternType,
    FuncRef,
    Function,
    FunctionType,
    Global,
    GlobalType,
    HostRegistration,
    ImportObject,
    ImportType,
    Limit,
    Loader,
    Memory,
    MemoryType,
    ModuleInstance,
    RefType,
    Statistics,
    Store,
    Table,
    TableType,
    Validator,
    ValMut,
    ValType,
    VMState,
    WasiImportObject,
    WasmEdgeProcessImportObject,
)


def tell(status: CodeStatus) -> None: ...


def modules(config: Configure) -> None:
    with Loader(config) as loader:
        assert_type(loader.load_file(Path("a.wasm")), AST)
        ast = loader.load_buffer(memoryview(b""))
    loader.load_buffer("a.wasm")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    loader.load_file(b"\0asm")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    assert_type(ast, AST)
    for imported in ast.list_imports():
        assert_type(imported, ImportType)
        assert_type(imported.external_type, ExternType)
        assert_type(imported.module_name, str)
        assert_type(imported.external_name, str)
        assert_type(imported.external_value, FunctionType | TableType | MemoryType | GlobalType)
    for exported in ast.list_exports():
        assert_type(exported, ExportType)
        assert_type(exported.external_type, ExternType)
        assert_type(exported.external_name, str)
        assert_type(exported.external_value, FunctionType | TableType | MemoryType | GlobalType)
    validator = Validator(config=None)
    assert_type(validator.validate(ast), None)
    validator.validate(b"")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    for closable in (ast, validator, loader):
        assert_type(closable.close(), None)


def compiling(config: Configure) -> None:
    with Compiler(config, progress=tell) as compiler:
        assert_type(compiler.compile("a.wasm", Path("b.wasm")), None)
    compiler.compile(b"\0asm", "b.wasm")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


def execution(ast: AST, imports: ImportObject) -> None:
    statistics = Statistics()
    executor = Executor(Configure(), statistics, progress=tell)
    Executor(statistics)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    with Store() as store:
        instance = executor.instantiate(store, ast)
    assert_type(instance, ModuleInstance)
    assert_type(executor.register_module(store, ast, "math"), ModuleInstance)
    assert_type(executor.register_import(store, imports), None)
    assert_type(executor.register_instance(store, instance, "other"), None)
    assert_type(executor.invoke(store, "fib", 21), list[Any])
    assert_type(executor.invoke_registered(store, "math", "add", 1, 2), list[Any])
    executor.invoke("fib", 21)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    assert_type(executor.close(), None)

    assert_type(instance.name, str)
    assert_type(instance.exports["fib"], Function | Table | Memory | Global)
    assert_type(list(instance.exports), list[str])
    assert_type(instance.code_status, CodeStatus)
    assert_type(instance.checkpoint(), None)
    assert_type(instance.reset(), None)
    assert_type(instance.close(), None)


def stores(store: Store) -> None:
    assert_type(store.find_function("fib"), Function | None)
    assert_type(store.find_function_registered("math", "add"), Function | None)
    assert_type(store.find_table("table"), Table | None)
    assert_type(store.find_table_registered("math", "table"), Table | None)
    assert_type(store.find_memory("memory"), Memory | None)
    assert_type(store.find_memory_registered("math", "memory"), Memory | None)
    assert_type(store.find_global("counter"), Global | None)
    assert_type(store.find_global_registered("math", "counter"), Global | None)
    assert_type(store.list_function(), list[str])
    assert_type(store.list_function_registered("math"), list[str])
    assert_type(store.list_table(), list[str])
    assert_type(store.list_table_registered("math"), list[str])
    assert_type(store.list_memory(), list[str])
    assert_type(store.list_memory_registered("math"), list[str])
    assert_type(store.list_global(), list[str])
    assert_type(store.list_global_registered("math"), list[str])
    assert_type(store.list_module(), list[str])
    assert_type(store.interrupt(), bool)
    store.find_memory()  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]


def externs() -> None:
    kind = FunctionType([ValType.I32], [ValType.I32])

    def double(data: object, memory: Memory | None, number: int) -> int:
        return 2 * number

    function = Function(kind, double, data=object(), cost=3)
    Function(double, kind)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    assert_type(function(21), list[Any])
    assert_type(function.function_type, FunctionType)
    assert_type(function.index, int)

    memory = Memory(MemoryType(Limit(1)))
    assert_type(memory.memory_type, MemoryType)
    assert_type(memory.page_size, int)
    assert_type(memory.get_data(0, 8), bytes)
    assert_type(memory.set_data(bytearray(8), 0, length=4), None)
    assert_type(memory.grow_page(1), None)
    assert_type(memory.view(), memoryview)
    memory.set_data("text", 0)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]

    table = Table(TableType(RefType.EXTERNREF, Limit(1)))
    assert_type(table.table_type, TableType)
    assert_type(table.size, int)
    assert_type(table.get_data(0), FuncRef | ExternRef | None)
    assert_type(table.set_data(object(), 0), None)
    assert_type(table.grow(1), None)

    variable = Global(GlobalType(ValType.I32, ValMut.VAR), 1)
    assert_type(variable.global_type, GlobalType)
    assert_type(variable.value, Any)
    variable.value = 2
    Global(ValType.I32, 1)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]

    with ImportObject("env") as imports:
        assert_type(imports.name, str)
    assert_type(imports.add_function("double", function), None)
    assert_type(imports.add_table("table", table), None)
    assert_type(imports.add_memory("memory", memory), None)
    assert_type(imports.add_global("variable", variable), None)
    imports.add_memory("memory", table)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]

    @imports.function("triple", params=[ValType.I32], results=[ValType.I32], data=1, cost=2)
    def triple(data: int, memory: Memory | None, number: int) -> int:
        return 3 * number

    assert_type(triple(1, None, 7), int)  # the decorator leaves the function as it is


def surroundings(wasi: WasiImportObject) -> None:
    wasi = WasiImportObject(
        args=["program"],
        envs={"LANG": "C"},
        preopens={"/": Path("data")},
        stdin=b"input",
        stdout=io.BytesIO(),
        stderr=DEVNULL,
        allow_sockets=["127.0.0.1:80"],
    )
    assert_type(wasi.init_wasi(["program"], ["A=1"], [".:data"], stdout="out.txt"), None)
    wasi.init_wasi(stdin=3.5)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    wasi.init_wasi(envs=[1])  # type: ignore[list-item]  # pyright: ignore[reportArgumentType]
    assert_type(wasi.restart(), None)
    assert_type(wasi.exited, bool)
    assert_type(wasi.wasi_get_exit_code(), int)
    module: ImportObject = wasi
    assert_type(module.name, str)


def commands(process: WasmEdgeProcessImportObject) -> None:
    process = WasmEdgeProcessImportObject(["ls"], allow_all=False, folder=Path("work"))
    assert_type(process.init_wasmedge_process(["ls"], True, folder="work"), None)
    assert_type(process.restart(), None)
    module: ImportObject = process
    assert_type(module.name, str)
    WasmEdgeProcessImportObject(allow_all="ls")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


def bindgen(vm: VM, kind: BindgenReturn) -> None:
    vm.execute_bindgen("run", BindgenReturn.VOID)
    assert_type(vm.execute_bindgen("add", BindgenReturn.I32, 1, 2), int)
    assert_type(vm.execute_bindgen("add", BindgenReturn.I64, 1, 2), int)
    assert_type(vm.execute_bindgen("say", BindgenReturn.ARRAY, "x"), bytes)
    assert_type(vm.execute_bindgen("any", kind), int | bytes | None)
    vm.execute_bindgen("say", "x")  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue, reportArgumentType]
    assert_type(vm.execute_bindgen_registered("lib", "say", BindgenReturn.ARRAY, "x"), bytes)
    assert_type(vm.execute_bindgen_registered("lib", "add", BindgenReturn.I64, 1), int)


def figures(statistics: Statistics) -> None:
    assert_type(statistics.instr_count, int)
    assert_type(statistics.instr_per_second, float)
    assert_type(statistics.total_cost, int)
    assert_type(statistics.total_time_ns, int)
    assert_type(statistics.wasm_time_ns, int)
    assert_type(statistics.host_time_ns, int)
    assert_type(statistics.set_cost_table([1] * 65536), None)
    assert_type(statistics.set_cost_limit(1000), None)
    assert_type(statistics.clear(), None)


def machines(ast: AST, imports: ImportObject) -> None:
    with VM(Configure(HostRegistration.WASI), Store(), progress=tell) as vm:
        assert_type(vm.state, VMState)
        assert_type(vm.store, Store)
    assert_type(vm.get_store(), Store)
    assert_type(vm.register_wasm_file("name", Path("a.wasm")), None)
    assert_type(vm.register_wasm_buffer("name", b""), None)
    assert_type(vm.register_ast("name", ast), None)
    assert_type(vm.register_import(imports), None)
    assert_type(vm.run_wasm_file("a.wasm", "fib", 21), list[Any])
    assert_type(vm.run_wasm_buffer(b"", "fib", 21), list[Any])
    assert_type(vm.run_wasm_ast(ast, "fib", 21), list[Any])
    assert_type(vm.load_wasm_file("a.wasm"), None)
    assert_type(vm.load_wasm_buffer(b""), None)
    assert_type(vm.load_wasm_ast(ast), None)
    vm.load_wasm_ast(b"")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    assert_type(vm.validate(), None)
    assert_type(vm.instantiate(), None)
    assert_type(vm.execute("fib", 21), list[Any])
    assert_type(vm.execute_registered("math", "add", 1, 2), list[Any])
    assert_type(vm.interrupt(), None)
    assert_type(vm.get_function_list(), dict[str, FunctionType])
    assert_type(vm.get_function_type("fib"), FunctionType | None)
    assert_type(vm.get_function_type_registered("math", "add"), FunctionType | None)
    assert_type(vm.get_import_object(HostRegistration.WASI), WasiImportObject | None)
    commands = vm.get_import_object(HostRegistration.WASMEDGE_PROCESS)
    assert_type(commands, WasmEdgeProcessImportObject | None)
    assert_type(vm.add_host_module(HostRegistration.WASI), WasiImportObject)
    assert_type(vm.get_statistics(), Statistics)
    assert_type(vm.get_code_status(), CodeStatus | None)
    assert_type(vm.cleanup(), None)

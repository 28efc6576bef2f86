"""Names that both packages have: values, types, options, errors."""

from __future__ import annotations

from typing import Any, assert_type

from wasmedge_async import (
    I32,
    I64,
    V128,
    CallTimeout,
    CodeState,
    CodeStatus,
    CompilationMode,
    CompilerOptimizationLevel,
    CompilerOutputFormat,
    Configure,
    ErrCode,
    ExternRef,
    ExternType,
    Fail,
    FuncRef,
    FunctionType,
    GlobalType,
    HostFunctionError,
    HostRegistration,
    InstantiationError,
    Limit,
    LoadError,
    MemoryType,
    PoolClosed,
    Proposal,
    RefType,
    TableType,
    Terminate,
    Trap,
    ValidationError,
    ValMut,
    ValType,
    VMLost,
    VMState,
    WasmEdgeError,
    WorkerDied,
    __version__,
    get_version,
    get_version_major,
    get_version_minor,
    get_version_patch,
    set_log_debug_level,
    set_log_error_level,
)
from wasmedge_runtime import Function


def values(function: Function) -> None:
    number: int = I32(7)
    number = I64(number)
    I32(1.5)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]

    vector = V128(high=1, low=2)
    assert_type(vector.high, int)
    assert_type(vector.low, int)
    assert_type(bytes(vector), bytes)
    assert_type(V128.from_bytes(memoryview(bytes(16))), V128)
    assert_type(vector == V128(1, 2), bool)
    V128(1)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    vector.high = 1  # type: ignore[misc]  # pyright: ignore[reportAttributeAccessIssue]

    reference = FuncRef(3)
    assert_type(reference.index, int)
    assert_type(reference.function, Function | None)
    FuncRef("fib")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]

    with ExternRef(object()) as extern:
        assert_type(extern, ExternRef)
        assert_type(extern.value, Any)
    assert_type(extern.close(), None)


def kinds() -> None:
    limit = Limit(1)
    limit = Limit(min=1, max=2)
    assert_type(limit.min, int)
    assert_type(limit.max, int | None)
    assert_type(limit.has_max, bool)
    Limit()  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    Limit("1")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]

    with FunctionType([ValType.I32], (ValType.F64,)) as function_type:
        assert_type(function_type.parameters, tuple[ValType, ...])
        assert_type(function_type.returns, tuple[ValType, ...])
    FunctionType(returns=[ValType.I64])
    FunctionType(["i32"])  # type: ignore[list-item]  # pyright: ignore[reportArgumentType]
    FunctionType(ValType.I32)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]

    table_type = TableType(RefType.FUNCREF, limit)
    assert_type(table_type.ref_type, RefType)
    assert_type(table_type.limit, Limit)
    TableType(ValType.FUNCREF, limit)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]

    memory_type = MemoryType(limit)
    assert_type(memory_type.limit, Limit)
    assert_type(memory_type.close(), None)
    MemoryType(1)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]

    global_type = GlobalType(ValType.I32, ValMut.VAR)
    assert_type(global_type.val_type, ValType)
    assert_type(global_type.mutability, ValMut)
    GlobalType(ValType.I32, True)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]

    codes: list[int] = [ExternType.FUNCTION, ExternType.TABLE, ExternType.MEMORY, ExternType.GLOBAL]
    codes += [ValType.I32, ValType.I64, ValType.F32, ValType.F64, ValType.V128]
    codes += [ValType.FUNCREF, ValType.EXTERNREF, RefType.EXTERNREF, ValMut.CONST]


def options(config: Configure) -> None:
    config = Configure(Proposal.TAIL_CALL, HostRegistration.WASI)
    Configure("simd")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    config.add_config(HostRegistration.WASMEDGE_PROCESS)
    config.remove_config(Proposal.SIMD)
    config.add_config(CompilationMode.TIERED)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    assert_type(config.has_config(Proposal.THREADS), bool)
    assert_type(Proposal.SIMD in config, bool)
    assert_type(config.proposals, frozenset[Proposal])
    assert_type(config.host_registrations, frozenset[HostRegistration])

    assert_type(config.max_memory_page, int)
    config.max_memory_page = 16
    config.max_memory_page = "16"  # type: ignore[assignment]  # pyright: ignore[reportAttributeAccessIssue]
    assert_type(config.compilation_mode, CompilationMode)
    config.compilation_mode = CompilationMode.OPTIMIZED
    config.compilation_mode = 2  # type: ignore[assignment]  # pyright: ignore[reportAttributeAccessIssue]
    assert_type(config.compiler_optimization_level, CompilerOptimizationLevel)
    config.compiler_optimization_level = CompilerOptimizationLevel.Os
    assert_type(config.compiler_output_format, CompilerOutputFormat)
    config.compiler_output_format = CompilerOutputFormat.NATIVE
    assert_type(config.compiler_dump_ir, bool)
    config.compiler_dump_ir = True
    assert_type(config.compiler_generic_binary, bool)
    config.compiler_generic_binary = True
    assert_type(config.trust_precompiled, bool)
    config.trust_precompiled = True
    assert_type(config.statistics_instruction_counting, bool)
    config.statistics_instruction_counting = True
    assert_type(config.statistics_time_measuring, bool)
    config.statistics_time_measuring = True
    assert_type(config.statistics_cost_measuring, bool)
    config.statistics_cost_measuring = True

    assert_type(config.copy(), Configure)
    with config as same:
        assert_type(same, Configure)
    assert_type(config.close(), None)


def code_status(status: CodeStatus) -> None:
    assert_type(status.state, CodeState)
    assert_type(status.functions, int)
    assert_type(status.baseline, int)
    assert_type(status.optimized, int)
    assert_type(status.from_cache, bool)
    assert_type(status.state is CodeState.OPTIMIZED, bool)
    states: list[VMState] = [VMState.INITED, VMState.LOADED, VMState.VALIDATED]
    states.append(VMState.INSTANTIATED)


def errors(error: WasmEdgeError) -> None:
    assert_type(error.code, ErrCode)
    assert_type(error.message, str)
    every: list[type[WasmEdgeError]] = [
        LoadError,
        ValidationError,
        InstantiationError,
        Trap,
        HostFunctionError,
        CallTimeout,
        PoolClosed,
        VMLost,
        WorkerDied,
    ]
    every.append(Terminate)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    ends: list[type[Exception]] = [Terminate, Fail]
    ends.extend(every)
    timeout: type[TimeoutError] = CallTimeout
    ends.append(timeout)

    if isinstance(error, (LoadError, ValidationError)):
        assert_type(error.offset, int | None)
    if isinstance(error, Trap):
        assert_type(error.frames, tuple[str, ...])
        assert_type(error.kind, ErrCode)
    if isinstance(error, WorkerDied):
        assert_type(error.pid, int)
        assert_type(error.exit_code, int | None)
        assert_type(error.signal, int | None)
    raise WasmEdgeError(ErrCode.ExecutionFailed, "a reason")


def version_and_log() -> None:
    version: str = __version__
    del version
    assert_type(get_version(), str)
    assert_type(get_version_major(), int)
    assert_type(get_version_minor(), int)
    assert_type(get_version_patch(), int)
    assert_type(set_log_debug_level(), None)
    assert_type(set_log_error_level(), None)

"""Which members are API, of public classes that have others for the rest of the project.

Of other classes every member without an underscore is. The site shows what is API
(`tools/griffe_api.py`), and `tests/typing` has to use all of it.
"""

from __future__ import annotations

_IMPORT_OBJECT = "close name add_function add_table add_memory add_global function"
_STATISTICS = "instr_count instr_per_second total_cost total_time_ns wasm_time_ns host_time_ns"
_STORE = " ".join(
    f"{action}_{kind}{where}"
    for action in ("find", "list")
    for kind in ("function", "table", "memory", "global")
    for where in ("", "_registered")
)

PUBLIC = {
    path: frozenset(names.split())
    for path, names in {
        "wasmedge_async._process.Process": "aclose returncode wait communicate terminate kill",
        "wasmedge_async._statistics.Statistics": (
            f"{_STATISTICS} set_cost_table set_cost_limit clear"
        ),
        "wasmedge_async._commands.WasmEdgeProcessImportObject": "",
        "wasmedge_async._wasi.WasiImportObject": "",
        "wasmedge_pool.handles._Handle": "close",
        "wasmedge_pool.handles.FunctionHandle": "function_type index",
        "wasmedge_pool.handles.Global": "global_type value get_value set_value",
        "wasmedge_pool.handles.Memory": (
            "memory_type page_size get_data set_data get_page_size grow_page view"
        ),
        "wasmedge_pool.handles.Table": "table_type size get_data set_data get_size grow",
        "wasmedge_pool.imports.Function": "function_type cost",
        "wasmedge_pool.imports.ImportObject": _IMPORT_OBJECT,
        "wasmedge_runtime.closable.Closable": "close",
        "wasmedge_runtime.function.Function": "function_type index",
        "wasmedge_runtime.global_.Global": "global_type value",
        "wasmedge_runtime.import_object.ImportObject": _IMPORT_OBJECT,
        "wasmedge_runtime.instance.ModuleInstance": (
            "close name exports code_status reset checkpoint"
        ),
        "wasmedge_runtime.loader.Loader": "close load_file load_buffer",
        "wasmedge_runtime.memory.Memory": "memory_type page_size get_data set_data grow_page view",
        "wasmedge_runtime.module.AST": "list_imports list_exports",
        "wasmedge_runtime.store.Store": f"{_STORE} list_module interrupt",
        "wasmedge_runtime.table.Table": "table_type size get_data set_data grow",
        "wasmedge_runtime.wasi.import_object.WasiImportObject": (
            "init_wasi restart exited wasi_get_exit_code"
        ),
    }.items()
}

# Their objects are given to users, who never make one.
NOT_CONSTRUCTED = frozenset(
    {
        "wasmedge_async._commands.WasmEdgeProcess",
        "wasmedge_async._process.Process",
        "wasmedge_async._statistics.Statistics",
        "wasmedge_async._store.Store",
        "wasmedge_async._streams.ReceiveStream",
        "wasmedge_async._streams.SendStream",
        "wasmedge_async._wasi.Wasi",
        "wasmedge_pool.caller_memory.AwaitedCallerMemory",
        "wasmedge_pool.caller_memory.CallerMemory",
        "wasmedge_pool.handles.FunctionHandle",
        "wasmedge_runtime.instance.ModuleInstance",
        "wasmedge_runtime.module.AST",
    }
)


def is_public(path: str, member: str) -> bool:
    """Whether a member is API: of the class with this path, in which it is defined."""
    return not member.startswith("_") and member in PUBLIC.get(path, {member})

"""The two engines behind the same few calls, and native code."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import wasmtime

from wasmedge_runtime import (
    CompilationMode,
    Configure,
    Executor,
    Function,
    FunctionType,
    ImportObject,
    Loader,
    Statistics,
    Store,
    Validator,
    ValType,
)

Host = dict[str, Callable[[int], int]]


class Ours:
    """A module instantiated by this project's engine; `host` functions are imports of `host`."""

    def __init__(
        self, data: bytes, configuration: Configure | None = None, host: Host | None = None
    ) -> None:
        configuration = configuration.copy() if configuration else Configure()
        # What the default mode comes to when its helpers are done.
        configuration.compilation_mode = CompilationMode.OPTIMIZED
        self.statistics = Statistics()
        self.executor = Executor(configuration, self.statistics)
        self.store = Store()
        if host:
            imports = ImportObject("host")
            for name, body in host.items():
                kind = FunctionType([ValType.I32], [ValType.I32])
                # The body is called with its data and the memory before the parameters.
                imports.add_function(name, Function(kind, lambda _, __, n, f=body: f(n)))
            self.executor.register_import(self.store, imports)
        module = Loader(configuration).load_buffer(data)
        Validator(configuration).validate(module)
        self.instance = self.executor.instantiate(self.store, module)

    def function(self, name: str) -> Callable[..., list[Any]]:
        """An exported function."""
        function = self.instance.exports[name]
        if not isinstance(function, Function):
            raise TypeError(f"{name} is no function")
        return function

    def invoke(self, name: str) -> Callable[..., list[Any]]:
        """An exported function, called by its name."""
        executor, store = self.executor, self.store
        return lambda *args: executor.invoke(store, name, *args)

    def close(self) -> None:
        """Release the instance."""
        self.store.close()


class Wasmtime:
    """The same module instantiated by wasmtime."""

    def __init__(self, data: bytes, host: Host | None = None) -> None:
        engine = wasmtime.Engine()
        self.store = wasmtime.Store(engine)
        linker = wasmtime.Linker(engine)
        i32 = wasmtime.ValType.i32()
        for name, body in (host or {}).items():
            kind = wasmtime.FuncType([i32], [i32])
            linker.define_func("host", name, kind, body)
        self.instance = linker.instantiate(self.store, wasmtime.Module(engine, data))

    def function(self, name: str) -> Callable[..., Any]:
        """An exported function."""
        function = self.instance.exports(self.store)[name]
        if not isinstance(function, wasmtime.Func):
            raise TypeError(f"{name} is no function")
        # A partial costs no Python frame, which would weigh on the peer's calls.
        return partial(function, self.store)


def native(library: Path) -> Callable[[int], int]:
    """The function `run` of a shared library."""
    run = ctypes.CDLL(str(library)).run
    run.restype, run.argtypes = ctypes.c_uint32, [ctypes.c_uint32]
    return run

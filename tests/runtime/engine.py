"""What tests of the engine share: the steps to an instance, threads, and other processes."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.wat import wat
from wasmedge_runtime import (
    AST,
    Configure,
    Executor,
    Function,
    FunctionType,
    ImportObject,
    Loader,
    ModuleInstance,
    Statistics,
    Store,
    Trap,
    Validator,
    ValType,
)
from wasmedge_runtime.codegen.context import ContextLayout, Variant
from wasmedge_runtime.codegen.unit import UnitTranslator

ROOT = Path(__file__).resolve().parent.parent.parent

I32, I64, F32, F64, V128 = ValType.I32, ValType.I64, ValType.F32, ValType.F64, ValType.V128
FUNCREF, EXTERNREF = ValType.FUNCREF, ValType.EXTERNREF

PATIENCE = 60.0
"""Seconds after which something that waits for a thread or a process is a failure."""


class Engine:
    """One Store with what is needed to use it."""

    def __init__(
        self,
        configuration: Configure | None = None,
        statistics: Statistics | None = None,
        store: Store | None = None,
    ) -> None:
        self.configuration = configuration or Configure()
        self.statistics = statistics
        self.executor = Executor(self.configuration, statistics)
        self.store = store or Store()

    def load(self, text: str) -> AST:
        module = Loader(self.configuration).load_buffer(wat(text))
        Validator(self.configuration).validate(module)
        return module

    def instantiate(self, text: str) -> ModuleInstance:
        return self.executor.instantiate(self.store, self.load(text))

    def exports(self, text: str) -> Any:
        """The exports of a new anonymous instance; `Any` saves each test from asking for kinds."""
        return self.instantiate(text).exports

    def register(self, name: str, text: str) -> ModuleInstance:
        return self.executor.register_module(self.store, self.load(text), name)

    def host(self, module: str = "host", **bodies: tuple[list[Any], list[Any], Any]) -> None:
        """Register host functions: name=(parameters, results, body)."""
        imports = ImportObject(module)
        for name, (parameters, results, body) in bodies.items():
            imports.add_function(name, Function(FunctionType(parameters, results), body))
        self.executor.register_import(self.store, imports)

    def call(self, name: str, *args: Any) -> list[Any]:
        return self.executor.invoke(self.store, name, *args)

    @property
    def running(self) -> bool:
        """Whether a call is inside the engine."""
        return bool(self.store.core.activation.call_id)


def whole(ast: AST, variant: Variant) -> str:
    """All functions of a module as one unit of LLVM IR."""
    functions = range(ast.imported_functions, len(ast.function_types))
    return UnitTranslator(ast, variant, ContextLayout(ast), functions).text()


class Running:
    """A function in a thread of its own; `result()` gives or raises what it did."""

    def __init__(self, function: Callable[..., Any], *args: Any) -> None:
        self._function = function
        self._args = args
        self._value: Any = None
        self._error: BaseException | None = None
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()

    def _run(self) -> None:
        try:
            self._value = self._function(*self._args)
        except BaseException as error:
            self._error = error

    def result(self) -> Any:
        self.thread.join(PATIENCE)
        if self.thread.is_alive():
            raise TimeoutError("the thread does not end")
        if self._error is not None:
            raise self._error
        return self._value

    def trap(self) -> Trap:
        """The trap that the function raised."""
        try:
            value = self.result()
        except Trap as trap:
            return trap
        raise AssertionError(f"no trap, but {value!r}")


def wait_until(condition: Callable[[], bool]) -> None:
    """Wait for what another thread is about to do."""
    deadline = time.monotonic() + PATIENCE
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError("it does not happen")
        time.sleep(0.001)


def python(script: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a script in a new interpreter that sees this project and its tests."""
    paths = [str(ROOT), str(ROOT / "runtime"), *sys.path]
    return subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script)],
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, paths))} | environment,
        check=False,
    )


def output_of(script: str, **environment: str) -> str:
    """What a script printed; it must have ended well."""
    done = python(script, **environment)
    if done.returncode:
        raise AssertionError(f"exit status {done.returncode}\n{done.stdout}\n{done.stderr}")
    return done.stdout.strip()

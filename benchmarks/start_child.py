"""One sample of a start: what a fresh process does, and how long each part takes.

`python -m benchmarks.start_child` reads a `Job` as JSON from its standard input and prints a
`Sample`. It imports nothing of an engine before the clock runs.
"""

from __future__ import annotations

import json
import resource
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from wasmedge_runtime import ModuleInstance

INSTANCES = 21  # further instances of a module in one process

# WASI calls of these families answer EBADF: there are no files. (Success would let a program that
# lists its folders go on for ever.) All others answer success without doing anything.
NO_FILE = ("fd_", "path_", "poll_", "sock_")
BAD_FILE = 8


Calls = Sequence[Sequence[str]]
"""The first call of a program: exported functions, each with its arguments, which are texts. The
guest gets each text zero-terminated, where its `malloc` says."""


@dataclass(frozen=True)
class Job:
    """What to start, and how."""

    engine: str  # "ours" or "wasmtime"
    module: str
    calls: Calls
    cache: str = ""  # wasmtime: the file with the settings of its cache
    serialized: str = ""  # wasmtime: the file from `Module.serialize`, read instead of compiling
    memory: str = ""  # the module reduced to its memory; further instances are measured with it
    compiles: bool = False  # ours: LLVM is needed, so it is imported with the engine
    settle: bool = False  # ours: wait until the module is optimised


@dataclass
class Sample:
    """Seconds since the clock started, but `instance` and `memory`: those are the median time that
    a further instance takes. CPU times are those of all threads and of ended child processes."""

    imported: float = 0.0
    ready: float = 0.0
    called: float = 0.0
    imported_cpu: float = 0.0
    ready_cpu: float = 0.0
    called_cpu: float = 0.0
    optimised: float = 0.0
    instance: float = 0.0
    memory: float = 0.0
    ended: str = ""
    """How the calls ended, which must be the same with every engine."""


class Exit(Exception):
    """The guest called proc_exit (under wasmtime)."""


@dataclass
class Host:
    """Stub host functions, and which of them were called."""

    leave: Callable[[], BaseException]  # makes the exception that ends the guest
    called: list[str] = field(default_factory=list)

    def stub(self, name: str, results: int) -> Callable[..., Any]:
        """The function of this name."""
        answer = (BAD_FILE if name.startswith(NO_FILE) else 0) if results else None

        def body(*_: object) -> int | None:
            self.called.append(name)
            if name == "proc_exit":
                raise self.leave()
            return answer

        return body


class Ours:
    """A module started by this project's engine."""

    def __init__(self, data: bytes) -> None:
        from wasmedge_runtime import (
            Executor,
            Function,
            FunctionType,
            ImportObject,
            Loader,
            Store,
            Terminate,
            Trap,
            Validator,
        )

        self.trap = Trap
        self.host = Host(Terminate)
        self.ast = Loader().load_buffer(data)
        Validator().validate(self.ast)
        self.executor, self.store = Executor(), Store()
        modules: dict[str, ImportObject] = {}
        for item in self.ast.list_imports():
            kind = item.external_value
            if not isinstance(kind, FunctionType):
                raise TypeError(f"{item.module_name}.{item.external_name} is no function")
            module = modules.setdefault(item.module_name, ImportObject(item.module_name))
            body = self.host.stub(item.external_name, len(kind.returns))
            module.add_function(item.external_name, Function(kind, body))
        for module in modules.values():
            self.executor.register_import(self.store, module)
        self.instance = self.executor.instantiate(self.store, self.ast)

    def call(self, name: str, *arguments: int) -> int | None:
        """Call an exported function; its result, if it has one."""
        return next(iter(self.executor.invoke(self.store, name, *arguments)), None)

    def write(self, data: bytes, address: int) -> None:
        """Write to the exported memory."""
        memory = self.store.find_memory("memory")
        if memory is None:
            raise TypeError("memory is no memory")
        memory.set_data(data, address)

    def again(self) -> ModuleInstance:
        """Make a further instance."""
        return self.executor.instantiate(self.store, self.ast)

    def settle(self) -> None:
        """Wait until helpers have optimised all code."""
        from wasmedge_runtime import CodeState

        while self.instance.code_status.state == CodeState.OPTIMIZING:
            time.sleep(0.05)


class Wasmtime:
    """The same module started by wasmtime."""

    def __init__(self, data: bytes, cache: str = "", serialized: str = "") -> None:
        import wasmtime

        self.trap = wasmtime.Trap
        self.host = Host(Exit)
        configuration = wasmtime.Config()
        if cache:
            configuration.cache = cache
        engine = wasmtime.Engine(configuration)
        if serialized:
            module = wasmtime.Module.deserialize_file(engine, serialized)
        else:
            module = wasmtime.Module(engine, data)
        self.store, linker = wasmtime.Store(engine), wasmtime.Linker(engine)
        linker.allow_shadowing = True  # a module may import a function twice
        for item in module.imports:
            kind, name = item.type, item.name
            if not isinstance(kind, wasmtime.FuncType) or name is None:
                raise TypeError(f"{item.module}.{name} is no function")
            linker.define_func(item.module, name, kind, self.host.stub(name, len(kind.results)))
        self.prepared = linker.instantiate_pre(module)
        self.instance = self.prepared.instantiate(self.store)

    def call(self, name: str, *arguments: int) -> int | None:
        """Call an exported function; its result, if it has one."""
        import wasmtime

        function = self.instance.exports(self.store)[name]
        if not isinstance(function, wasmtime.Func):
            raise TypeError(f"{name} is no function")
        result: int | None = function(self.store, *arguments)
        return result

    def write(self, data: bytes, address: int) -> None:
        """Write to the exported memory."""
        import wasmtime

        memory = self.instance.exports(self.store)["memory"]
        if not isinstance(memory, wasmtime.Memory):
            raise TypeError("memory is no memory")
        memory.write(self.store, data, address)

    def again(self) -> object:
        """Make a further instance."""
        return self.prepared.instantiate(self.store)


def import_engine(job: Job) -> None:
    """Import the packages that the job needs."""
    if job.engine == "wasmtime":
        import wasmtime  # noqa: F401  # this loads its shared library

        return
    import wasmedge_runtime

    for name in wasmedge_runtime.__all__:  # public names are loaded when first used
        getattr(wasmedge_runtime, name)
    if job.compiles:
        import llvmlite.binding  # noqa: F401


def start(job: Job, data: bytes) -> Ours | Wasmtime:
    """The module, ready to be called."""
    if job.engine == "ours":
        return Ours(data)
    return Wasmtime(data, job.cache, job.serialized)


def make_calls(engine: Ours | Wasmtime, calls: Calls) -> str:
    """Make the calls one after the other; how the last of them ended."""
    called = engine.host.called
    how = "nothing called"
    for name, *texts in calls:
        try:
            result = engine.call(name, *(_place(engine, text) for text in texts))
        except engine.trap:
            how = "trapped"
            break
        except Exit:
            result = None
        if called[-1:] == ["proc_exit"]:  # for ours, a call that ends by it returns
            how = "exited"
            break
        how = f"returned {result}" if result is not None else "returned"
    return f"{how} after {len(called)} host calls"


def _place(engine: Ours | Wasmtime, text: str) -> int:
    data = text.encode() + b"\0"
    address = engine.call("malloc", len(data))
    if not address:
        raise MemoryError(f"the guest has no {len(data)} bytes")
    engine.write(data, address)
    return address


def further(engine: Ours | Wasmtime) -> float:
    """The median time of a further instance in seconds; all of them stay alive."""
    import statistics

    from benchmarks.measure import time_once

    kept: list[object] = []
    return statistics.median(
        time_once(lambda: kept.append(engine.again())) for _ in range(INSTANCES)
    )


def cpu() -> float:
    """CPU seconds of this process and of the children it has waited for."""
    ended = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.process_time() + ended.ru_utime + ended.ru_stime


def sample(job: Job) -> Sample:
    """Do the job in this process."""
    data = Path(job.module).read_bytes()
    result = Sample()
    before, before_cpu = time.perf_counter(), cpu()

    def now() -> tuple[float, float]:
        return time.perf_counter() - before, cpu() - before_cpu

    import_engine(job)
    result.imported, result.imported_cpu = now()
    engine = start(job, data)
    result.ready, result.ready_cpu = now()
    result.ended = make_calls(engine, job.calls)
    result.called, result.called_cpu = now()
    if job.settle and isinstance(engine, Ours):
        engine.settle()
        result.optimised, _ = now()
    if job.memory:
        result.instance = further(engine)
        result.memory = further(start(Job(job.engine, "", []), Path(job.memory).read_bytes()))
    return result


if __name__ == "__main__":
    print(json.dumps(asdict(sample(Job(**json.load(sys.stdin))))))

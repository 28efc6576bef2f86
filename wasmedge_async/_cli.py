"""The command line: `wasmedge-async run`, `compile` and `inspect`.

A program runs in this process: it owns the terminal's streams, and nothing else is here that would
have to be protected from it.
"""

from __future__ import annotations

import argparse
import os
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NoReturn, TextIO

from wasmedge_runtime.configure import (
    CompilationMode,
    CompilerOptimizationLevel,
    CompilerOutputFormat,
    Configure,
)
from wasmedge_runtime.errors import ErrCode, HostFunctionError, Trap, WasmEdgeError
from wasmedge_runtime.tiers.status import CodeState, CodeStatus
from wasmedge_runtime.types import (
    FunctionType,
    GlobalType,
    Limit,
    MemoryType,
    TableType,
    ValMut,
    ValType,
)
from wasmedge_runtime.version import __version__

__all__ = ["main"]

_PROGRAM = "wasmedge-async"

_BAD_INPUT = 1
_TRAPPED = 134  # what shells show for a program that was aborted
_INTERRUPTED = 130  # and for Ctrl-C
_LARGEST_CODE = 255

_LEVELS = {level.name[1:]: level for level in CompilerOptimizationLevel}

_BAR = 30  # characters of the progress bar

_FRAMES = 8  # of a trap, in a line that somebody reads


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code.

    Args:
        arguments: those behind the command's name; `sys.argv` when None.
    """
    options = _parser().parse_args(arguments)
    command: Callable[[argparse.Namespace], int] = options.command
    try:
        return command(options)
    except (Trap, HostFunctionError) as error:
        return _complain(_described(error), _TRAPPED)
    except WasmEdgeError as error:
        return _complain(f"{options.file}: {error}", _BAD_INPUT)
    except OSError as error:
        name = "" if error.filename is None else f"{error.filename}: "
        return _complain(f"{name}{error.strerror or error}", _BAD_INPUT)
    except (ValueError, TypeError, OverflowError) as error:
        return _complain(str(error), _BAD_INPUT)
    except KeyboardInterrupt:
        return _INTERRUPTED


class _Parser(argparse.ArgumentParser):
    """Complains in one line, and with the exit code of all other bad input."""

    def error(self, message: str) -> NoReturn:
        self.exit(_BAD_INPUT, f"{_PROGRAM}: {message} (--help shows what there is)\n")


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog=_PROGRAM, description="Run, compile and look into WebAssembly modules.")
    parser.add_argument("--version", action="version", version=f"{_PROGRAM} {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    run = commands.add_parser("run", help="run a program, or one function of a module")
    run.set_defaults(command=_run)
    run.add_argument(
        "--invoke",
        metavar="FUNC",
        help="call this function with ARGS instead of running the program, and print its results",
    )
    run.add_argument(
        "--dir",
        metavar="GUEST:HOST[:readonly]",
        action="append",
        default=[],
        help="let the program see a folder, under the name GUEST; may be given several times",
    )
    run.add_argument(
        "--env",
        metavar="NAME=VALUE",
        action="append",
        default=[],
        help="set an environment variable of the program; may be given several times",
    )
    run.add_argument(
        "--time-limit", metavar="SECONDS", type=float, help="stop the program after this time"
    )
    run.add_argument(
        "--gas-limit", metavar="N", type=int, help="stop the program after N instructions"
    )
    run.add_argument(
        "--memory-page-limit",
        metavar="N",
        type=int,
        help="let a memory have at most N pages of 64 KiB",
    )
    run.add_argument(
        "--enable-all-statistics",
        action="store_true",
        help="print instructions, gas and times on standard error at the end",
    )
    run.add_argument(
        "--allow-command",
        metavar="CMD",
        action="append",
        default=[],
        help="let the program run this command of the host (wasmedge_process), outside of every "
        "sandbox; may be given several times",
    )
    run.add_argument(
        "--compilation",
        choices=[mode.name.lower() for mode in CompilationMode],
        default=CompilationMode.TIERED.name.lower(),
        help="baseline: only what is called, quickly; tiered (the default): the same, and helper "
        "processes optimise meanwhile; optimized: everything before the program starts",
    )
    run.add_argument(
        "--trust-precompiled",
        action="store_true",
        help="run the compiled code in FILE even if another user made it; it is not sandboxed",
    )
    run.add_argument("file", metavar="FILE", help="a WebAssembly module, compiled or not")
    run.add_argument(
        "args", metavar="ARGS", nargs=argparse.REMAINDER, help="for the program, or the function"
    )

    compiling = commands.add_parser("compile", help="compile a module ahead, into another file")
    compiling.set_defaults(command=_compile)
    compiling.add_argument(
        "--optimize",
        choices=list(_LEVELS),
        default="3",
        help="0: not at all; 3 (the default): most; s and z: for small code",
    )
    compiling.add_argument(
        "--format",
        choices=[each.name.lower() for each in CompilerOutputFormat],
        default=CompilerOutputFormat.WASM.name.lower(),
        help="wasm (the default): the module with the code in a section, which other runtimes "
        "run as well; native: a shared library, for which a linker (ld) is needed",
    )
    compiling.add_argument(
        "--generic-binary",
        action="store_true",
        help="code that runs on every processor of this architecture, not only on this one",
    )
    compiling.add_argument(
        "--dump-ir", action="store_true", help="write the LLVM IR to OUT.0.ll, OUT.1.ll, ... too"
    )
    compiling.add_argument(
        "--enable-all-statistics",
        action="store_true",
        help="code for `run --enable-all-statistics`",
    )
    compiling.add_argument("file", metavar="IN", help="a WebAssembly module")
    compiling.add_argument("output", metavar="OUT", help="the file to write")

    inspect = commands.add_parser(
        "inspect", help="show what a module imports and exports, and which code its file has"
    )
    inspect.set_defaults(command=_inspect)
    inspect.add_argument("file", metavar="FILE", help="a WebAssembly module, compiled or not")
    return parser


def _complain(message: str, code: int) -> int:
    print(f"{_PROGRAM}: {_printable(message)}", file=sys.stderr)
    return code


def _printable(text: str) -> str:
    """Names in a module can be anything: what ends lines or commands a terminal is escaped."""
    return "".join(c if c.isprintable() else f"\\u{{{ord(c):x}}}" for c in text)


def _described(error: Trap | HostFunctionError) -> str:
    if not isinstance(error, Trap) or not error.frames:
        return str(error)
    shown = ", called by ".join(error.frames[:_FRAMES])
    return f"{error} (in {shown}{', ...' if len(error.frames) > _FRAMES else ''})"


# run


def _run(options: argparse.Namespace) -> int:
    from wasmedge_runtime.executor import Executor
    from wasmedge_runtime.loader import Loader
    from wasmedge_runtime.log import statistics_block
    from wasmedge_runtime.statistics import Statistics
    from wasmedge_runtime.store import Store
    from wasmedge_runtime.validator import Validator
    from wasmedge_runtime.wasi import WasiImportObject

    config = _configuration(options)
    statistics = Statistics()
    if options.gas_limit is not None:
        statistics.set_cost_limit(options.gas_limit)
    wasi = WasiImportObject(
        [os.path.basename(options.file), *([] if options.invoke else options.args)],
        options.env,
        options.dir,
    )
    module = Loader(config).load_file(options.file)
    Validator(config).validate(module)
    store, executor = Store(), Executor(config, statistics, _progress_bar(sys.stderr))
    executor.register_import(store, wasi)
    if any(entry.module == "wasmedge_process" for entry in module.imports):
        from wasmedge_runtime.process import WasmEdgeProcessImportObject

        executor.register_import(store, WasmEdgeProcessImportObject(options.allow_command))
    try:
        with _time_limit(options.time_limit, store.interrupt) as begin:
            if module.start is not None:
                begin()  # the module's start function is code of the program already
            executor.instantiate(store, module)
            begin()
            if not wasi.exited:  # in the start function
                _call(store, executor, wasi, options.invoke, options.args)
    finally:
        if options.enable_all_statistics:
            print(statistics_block(statistics), file=sys.stderr)
    return min(wasi.wasi_get_exit_code(), _LARGEST_CODE)


def _progress_bar(
    terminal: TextIO, what: str = "optimizing"
) -> Callable[[CodeStatus], None] | None:
    """What shows a bar while a module is compiled, and removes it at the end; None when nobody
    would see it."""
    if not terminal.isatty():
        return None

    def show(status: CodeStatus) -> None:
        share = status.optimized / max(status.functions, 1)
        bar = "#" * round(_BAR * share)
        line = f"{what} [{bar:{_BAR}}] {status.optimized} of {status.functions} functions"
        end = "\r\x1b[K" if status.state is not CodeState.OPTIMIZING else ""
        terminal.write(f"\r{line}{end}")
        terminal.flush()

    return show


def _configuration(options: argparse.Namespace) -> Configure:
    config = Configure()
    config.compilation_mode = CompilationMode[options.compilation.upper()]
    config.trust_precompiled = options.trust_precompiled
    if options.memory_page_limit is not None:
        config.max_memory_page = options.memory_page_limit
    if options.enable_all_statistics:
        config.statistics_instruction_counting = True
        config.statistics_time_measuring = True
        config.statistics_cost_measuring = True
    if options.gas_limit is not None:
        config.statistics_cost_measuring = True
    return config


@contextmanager
def _time_limit(
    seconds: float | None, interrupt: Callable[[], bool]
) -> Iterator[Callable[[], None]]:
    """A block that is interrupted some time after what it gives was called."""
    begun, over = threading.Event(), threading.Event()

    def watch() -> None:
        begun.wait()
        if not over.wait(seconds):
            # Again and again: a call that is not running yet cannot be interrupted.
            while not over.wait(0.01):
                interrupt()

    if seconds is None:
        yield lambda: None
        return
    if not 0 < seconds < threading.TIMEOUT_MAX:
        raise ValueError(f"the time limit must be more than 0 seconds, not {seconds}")
    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield begun.set
    finally:
        over.set()
        begun.set()
        thread.join()


def _call(
    store: Any, executor: Any, wasi: Any, function: str | None, arguments: Sequence[str]
) -> None:
    """Run the program, or call one function and print its results."""
    names = store.list_function()
    if function is None:
        if "_start" not in names:
            raise WasmEdgeError(
                ErrCode.FuncNotFound,
                "no program: the module has no function _start; --invoke FUNC calls one of "
                f"its functions: {', '.join(names) or 'it exports none'}",
            )
        executor.invoke(store, "_start")
        return
    if "_initialize" in names:
        executor.invoke(store, "_initialize")  # a library for WASI wants it first
        if wasi.exited:
            return
    found = store.find_function(function)
    values = [] if found is None else _values(found.function_type, arguments)
    for result in executor.invoke(store, function, *values):
        print(result)


def _values(function_type: FunctionType, arguments: Sequence[str]) -> list[int | float]:
    """Arguments as their parameters' types say; what cannot be one is left to the call."""
    parameters = function_type.parameters
    if len(parameters) != len(arguments):
        raise WasmEdgeError(
            ErrCode.FuncSigMismatch,
            f"the function takes {len(parameters)} arguments, {function_type}; "
            f"{len(arguments)} were given",
        )
    values: list[int | float] = []
    for kind, text in zip(parameters, arguments, strict=True):
        try:
            if kind in (ValType.F32, ValType.F64):
                values.append(float(text))
            elif kind in (ValType.I32, ValType.I64):
                values.append(int(text, 0))
            else:
                raise WasmEdgeError(
                    ErrCode.FuncSigMismatch,
                    f"a {kind.name.lower()} cannot be given on the command line",
                )
        except ValueError:
            raise WasmEdgeError(
                ErrCode.FuncSigMismatch, f"not a number for {kind.name.lower()}: {text!r}"
            ) from None
    return values


# compile


def _compile(options: argparse.Namespace) -> int:
    from wasmedge_runtime.compiler import Compiler

    config = Configure()
    config.compiler_optimization_level = _LEVELS[options.optimize]
    config.compiler_output_format = CompilerOutputFormat[options.format.upper()]
    config.compiler_generic_binary = options.generic_binary
    config.compiler_dump_ir = options.dump_ir
    if options.enable_all_statistics:
        config.statistics_instruction_counting = True
        config.statistics_cost_measuring = True
    Compiler(config, _progress_bar(sys.stderr, "compiling")).compile(options.file, options.output)
    return 0


# inspect


def _inspect(options: argparse.Namespace) -> int:
    from wasmedge_runtime.loader import Loader
    from wasmedge_runtime.precompiled import describe
    from wasmedge_runtime.validator import Validator

    module = Loader().load_file(options.file)
    Validator().validate(module)
    for line in describe(options.file, module):
        print(_printable(line))
    imports, exports = module.list_imports(), module.list_exports()
    print(f"imports: {len(imports)}")
    for entry in imports:
        _show(f"{entry.module_name}.{entry.external_name}", entry.external_value)
    print(f"exports: {len(exports)}")
    for export in exports:
        _show(export.external_name, export.external_value)
    return 0


def _show(name: str, kind: object) -> None:
    """A line as the text format would have it."""
    if isinstance(kind, MemoryType):
        text = f"memory   {name} {_limits(kind.limit)}"
    elif isinstance(kind, TableType):
        text = f"table    {name} {_limits(kind.limit)} {kind.ref_type}"
    elif isinstance(kind, GlobalType):
        mutable = kind.mutability is ValMut.VAR
        text = f"global   {name} {f'(mut {kind.val_type})' if mutable else kind.val_type}"
    else:
        text = f"function {name} {kind}"
    print(f"  {_printable(text)}")


def _limits(limit: Limit) -> str:
    return str(limit.min) if limit.max is None else f"{limit.min} {limit.max}"

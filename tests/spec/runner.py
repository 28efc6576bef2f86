"""Executes the commands of one script and counts what passed, failed and was skipped."""

from __future__ import annotations

import enum
import itertools
import weakref
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tests.spec import groups, suite
from tests.spec.report import Report
from tests.spec.values import Externals, agrees, argument
from wasmedge_runtime import (
    AST,
    CompilationMode,
    Configure,
    Executor,
    Function,
    FunctionType,
    Global,
    GlobalType,
    ImportObject,
    InstantiationError,
    Limit,
    Loader,
    LoadError,
    Memory,
    MemoryType,
    ModuleInstance,
    RefType,
    Store,
    Table,
    TableType,
    Trap,
    ValidationError,
    Validator,
    ValMut,
    ValType,
    WasmEdgeError,
)
from wasmedge_runtime.tiers.module import CompiledModule
from wasmedge_runtime.tiers.plan import Tier

I32, I64, F32, F64 = ValType.I32, ValType.I64, ValType.F32, ValType.F64

# What a command that asserts a failure wants to be raised.
ERRORS: dict[str, type[WasmEdgeError] | tuple[type[WasmEdgeError], ...]] = {
    "assert_malformed": LoadError,
    "assert_invalid": ValidationError,
    "assert_unlinkable": InstantiationError,
    # A segment that does not fit is an error of instantiation without bulk memory operations,
    # and a trap with them.
    "assert_uninstantiable": (Trap, InstantiationError),
    "assert_trap": Trap,
    "assert_exhaustion": Trap,
}


class Mode(enum.Enum):
    """In which tier the code of a script's modules runs."""

    TIERED = "tiered"
    """As the engine decides by default."""
    BASELINE = "baseline"
    OPTIMIZED = "optimized"
    SWAPPING = "swapping"
    """After every call, all functions of all modules change over to the other tier."""

    @property
    def compilation(self) -> CompilationMode:
        """The engine's own mode in which this one begins."""
        return CompilationMode.BASELINE if self is Mode.SWAPPING else CompilationMode[self.name]


class Mismatch(Exception):
    """A command went otherwise than its script says."""


def spectest() -> ImportObject:
    """The host module `spectest` that the suite's modules import."""
    module = ImportObject("spectest")
    printers: dict[str, list[ValType]] = {
        "print": [],
        "print_i32": [I32],
        "print_i64": [I64],
        "print_f32": [F32],
        "print_f64": [F64],
        "print_i32_f32": [I32, F32],
        "print_f64_f64": [F64, F64],
    }
    for name, parameters in printers.items():
        module.add_function(name, Function(FunctionType(parameters, []), lambda *_: None))
    for name, kind, value in (
        ("global_i32", I32, 666),
        ("global_i64", I64, 666),
        ("global_f32", F32, 666.6),
        ("global_f64", F64, 666.6),
    ):
        module.add_global(name, Global(GlobalType(kind, ValMut.CONST), value))
    module.add_table("table", Table(TableType(RefType.FUNCREF, Limit(10, 20))))
    module.add_memory("memory", Memory(MemoryType(Limit(1, 2))))
    return module


def text_agrees(expected: str, message: str) -> bool:
    """Whether an error message is the one a script expects, or one of `groups.OTHER_WORDS`.

    One must begin with the other: a message goes on with details, and so do some of the scripts
    (`uninitialized element 2`).
    """
    return bool(message) and (
        message.startswith(expected)
        or expected.startswith(message)
        or any(expected == e and message.startswith(m) for e, m in groups.OTHER_WORDS)
    )


def lacks_proposal(command: Mapping[str, Any], error: WasmEdgeError) -> bool:
    """Whether a module that must be refused was refused for the lack of a proposal."""
    return (
        command["type"] in ("assert_malformed", "assert_invalid")
        and isinstance(error, (LoadError, ValidationError))
        and groups.MISSING_PROPOSAL.search(error.message) is not None
    )


class Script:
    """The state of a running script: one store, and the instances it has made."""

    def __init__(self, folder: Path, mode: Mode = Mode.TIERED) -> None:
        self.folder = folder
        self.mode = mode
        self.next_tiers = itertools.cycle((Tier.OPTIMIZED, Tier.BASELINE))
        self.code: weakref.WeakSet[CompiledModule] = weakref.WeakSet()
        configuration = Configure()
        configuration.compilation_mode = mode.compilation
        self.loader = Loader(configuration)
        self.validator = Validator(configuration)
        self.executor = Executor(configuration)
        self.store = Store()
        self.executor.register_import(self.store, spectest())
        self.externals = Externals()
        self.current: ModuleInstance | None = None
        self.instances: dict[str, ModuleInstance] = {}
        self.definition: AST | None = None
        self.definitions: dict[str, AST] = {}

    def compile(self, command: Mapping[str, Any]) -> AST:
        # A quoted module that parses comes as text and, beside it, as the binary it stands for.
        file = self.folder / command.get("binary_filename", command["filename"])
        module = self.loader.load_buffer(file.read_bytes())
        self.validator.validate(module)
        return module

    def instantiate(self, module: AST, name: str | None) -> None:
        self.current = None  # a failure must not leave the last module to answer for this one
        self.current = self.executor.instantiate(self.store, module)
        self.code.add(self.current.loaded)
        if name is not None:
            self.instances[name] = self.current

    def instance(self, name: str | None) -> ModuleInstance:
        found = self.current if name is None else self.instances.get(name)
        if found is None:
            raise Mismatch(f"there is no module {name or ''} to use")
        return found

    def act(self, action: Mapping[str, Any]) -> list[Any]:
        exported = self.instance(action.get("module")).exports[action["field"]]
        if action["type"] == "get":
            if not isinstance(exported, Global):
                raise Mismatch(f"{action['field']} is no global")
            return [exported.value]
        if not isinstance(exported, Function):
            raise Mismatch(f"{action['field']} is no function")
        try:
            results: list[Any] = exported(*(argument(a, self.externals) for a in action["args"]))
        finally:
            self.swap()
        return results

    def swap(self) -> None:
        """In the mode that swaps: change the tier of all code."""
        if self.mode is Mode.SWAPPING:
            tier = next(self.next_tiers)
            for code in list(self.code):
                code.use(tier)

    def attempt(self, command: Mapping[str, Any]) -> None:
        """Do what an `assert_trap` and its kin say must fail."""
        if "action" in command:
            self.act(command["action"])
            return
        module = self.compile(command)
        if command["type"] in ("assert_unlinkable", "assert_uninstantiable"):
            self.executor.instantiate(self.store, module)

    def run(self, command: Mapping[str, Any]) -> None:
        """Execute one command. Raises `Mismatch`, or whatever the engine raises unasked."""
        kind = command["type"]
        if kind == "module":
            self.instantiate(self.compile(command), command.get("name"))
        elif kind == "module_definition":
            self.definition = self.compile(command)
            if "name" in command:
                self.definitions[command["name"]] = self.definition
        elif kind == "module_instance":
            name = command.get("module")
            module = self.definition if name is None else self.definitions.get(name)
            if module is None:
                raise Mismatch(f"there is no definition {name or ''}")
            self.instantiate(module, command.get("instance"))
        elif kind == "register":
            instance = self.instance(command.get("name"))
            self.executor.register_instance(self.store, instance, command["as"])
        elif kind == "action":
            self.act(command["action"])
        elif kind == "assert_return":
            results = self.act(command["action"])
            expected = command["expected"]
            if len(results) != len(expected) or not all(map(agrees, expected, results)):
                raise Mismatch(f"expected {expected}, got {results}")
        elif kind in ERRORS:
            self.expect_error(command)
        else:
            raise Mismatch("a kind of command that this runner does not know")

    def expect_error(self, command: Mapping[str, Any]) -> None:
        wanted, text = ERRORS[command["type"]], command["text"]
        try:
            self.attempt(command)
        except WasmEdgeError as error:
            if lacks_proposal(command, error):
                return
            if not isinstance(error, wanted):
                raise Mismatch(f"expected {text!r}, got {type(error).__name__}: {error}") from error
            if not text_agrees(text, error.message):
                raise Mismatch(f"expected {text!r}, got {error.message!r}") from error
        else:
            raise Mismatch(f"expected {text!r}, got no error")

    def close(self) -> None:
        self.store.close()
        self.externals.close()


def skip_reason(command: Mapping[str, Any]) -> str | None:
    """Why a command is not run, or None when it is."""
    is_text = command.get("module_type") == "text" and "binary_filename" not in command
    return groups.TEXT_MODULE if is_text else None


def run_script(name: str, folder: Path, mode: Mode = Mode.TIERED) -> Report:
    """Run a converted script."""
    report = Report(name)
    script = Script(folder, mode)
    try:
        for command in suite.read_commands(folder):
            reason = skip_reason(command)
            if reason is not None:
                report.skipped[reason] += 1
                continue
            try:
                script.run(command)
            except Mismatch as mismatch:
                report.failures.append(_describe(name, command, str(mismatch)))
            except Exception as error:  # every other command of the script still counts
                report.failures.append(_describe(name, command, f"{type(error).__name__}: {error}"))
            else:
                report.passed += 1
    finally:
        script.close()
    return report


def _describe(name: str, command: Mapping[str, Any], what: str) -> str:
    action = command.get("action", {})
    place = f" {action['field']!r}" if "field" in action else ""
    return f"{name}.wast:{command['line']}: {command['type']}{place}: {what}"


def run_file(directory: Path, name: str, mode: Mode = Mode.TIERED) -> Report:
    """Convert and run one file of the suite, or report all of its commands as skipped."""
    folder = suite.convert(directory / f"{name}.wast")
    reason = groups.not_supported(name)
    if reason is None:
        return run_script(name, folder, mode)
    return Report(name, skipped=Counter({reason: len(suite.read_commands(folder))}))

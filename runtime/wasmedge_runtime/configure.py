"""Configuration: which proposals are on, limits, compiler and statistics options."""

from __future__ import annotations

from enum import Enum, IntEnum

from wasmedge_runtime.closable import Closable

__all__ = [
    "DEFAULT_PROPOSALS",
    "CompilationMode",
    "CompilerOptimizationLevel",
    "CompilerOutputFormat",
    "Configure",
    "HostRegistration",
    "Proposal",
]


class Proposal(IntEnum):
    """An extension of WebAssembly 1.0 that can be switched on and off."""

    IMPORT_EXPORT_MUT_GLOBALS = 0
    NON_TRAP_FLOAT_TO_INT_CONVERSIONS = 1
    SIGN_EXTENSION_OPERATORS = 2
    MULTI_VALUE = 3
    BULK_MEMORY_OPERATIONS = 4
    REFERENCE_TYPES = 5
    SIMD = 6
    TAIL_CALL = 7
    ANNOTATIONS = 8
    MEMORY64 = 9
    THREADS = 10
    EXCEPTION_HANDLING = 11
    FUNCTION_REFERENCES = 12
    MULTI_MEMORIES = 13
    RELAXED_SIMD = 14
    EXTENDED_CONST = 15
    GC = 16


DEFAULT_PROPOSALS: frozenset[Proposal] = frozenset(
    {
        Proposal.IMPORT_EXPORT_MUT_GLOBALS,
        Proposal.NON_TRAP_FLOAT_TO_INT_CONVERSIONS,
        Proposal.SIGN_EXTENSION_OPERATORS,
        Proposal.MULTI_VALUE,
        Proposal.BULK_MEMORY_OPERATIONS,
        Proposal.REFERENCE_TYPES,
        Proposal.SIMD,
    }
)


class HostRegistration(Enum):
    """A host module that a VM registers by itself."""

    WASI = "wasi_snapshot_preview1"
    WASMEDGE_PROCESS = "wasmedge_process"


class CompilationMode(IntEnum):
    """When code is compiled, and how well. What has been compiled once is kept on disk."""

    BASELINE = 0
    """Each function when it is first called, as fast as possible. For code that runs once, and for
    hosts where no other process may be started."""
    TIERED = 1
    """The same, and helper processes of low priority optimise the module meanwhile; running code
    changes over to what they have made, function by function, when functions are called."""
    OPTIMIZED = 2
    """Everything is optimised when the module is instantiated, by several processes if it is large;
    instantiation waits for them. For steady speed from the first call on."""


class CompilerOptimizationLevel(IntEnum):
    """How much work goes into compiled code: O0 none, O3 most, Os and Oz for size."""

    O0 = 0
    O1 = 1
    O2 = 2
    O3 = 3
    Os = 4
    Oz = 5


class CompilerOutputFormat(IntEnum):
    """What `Compiler` writes: a shared library, or the wasm file with the code in a section."""

    NATIVE = 0
    WASM = 1


# The most pages of 64 KiB that a memory with 32-bit addresses has (specification 3.2.5).
_MAX_PAGES = 65536


class Configure(Closable):
    """Options for `Loader`, `Validator`, `Executor`, `VM` and `Compiler`.

    The seven proposals of WebAssembly 2.0 are on; `options` switches on more. What is made with a
    configuration copies it: changing or closing it later has no effect there.

    Raises (constructor and methods that take an option):
        TypeError: an option is neither a `Proposal` nor a `HostRegistration`.
    """

    def __init__(self, *options: Proposal | HostRegistration) -> None:
        self._proposals = set(DEFAULT_PROPOSALS)
        self._host_registrations: set[HostRegistration] = set()
        self._max_memory_page = _MAX_PAGES
        self._compiler_optimization_level = CompilerOptimizationLevel.O3
        self._compiler_output_format = CompilerOutputFormat.WASM
        self._compiler_dump_ir = False
        self._compiler_generic_binary = False
        self._compilation_mode = CompilationMode.TIERED
        self._trust_precompiled = False
        self._statistics_instruction_counting = False
        self._statistics_time_measuring = False
        self._statistics_cost_measuring = False
        for option in options:
            self.add_config(option)

    def add_config(self, option: Proposal | HostRegistration) -> None:
        """Switch a proposal or a host registration on."""
        self._check_open()
        if isinstance(option, Proposal):
            self._proposals.add(option)
        elif isinstance(option, HostRegistration):
            self._host_registrations.add(option)
        else:
            raise _not_an_option(option)

    def remove_config(self, option: Proposal | HostRegistration) -> None:
        """Switch a proposal or a host registration off."""
        self._check_open()
        if isinstance(option, Proposal):
            self._proposals.discard(option)
        elif isinstance(option, HostRegistration):
            self._host_registrations.discard(option)
        else:
            raise _not_an_option(option)

    def has_config(self, option: Proposal | HostRegistration) -> bool:
        """Return whether a proposal or a host registration is on; the same as `in`."""
        self._check_open()
        if isinstance(option, Proposal):
            return option in self._proposals
        if isinstance(option, HostRegistration):
            return option in self._host_registrations
        raise _not_an_option(option)

    def __contains__(self, option: Proposal | HostRegistration) -> bool:
        return self.has_config(option)

    @property
    def proposals(self) -> frozenset[Proposal]:
        """The proposals that are on."""
        self._check_open()
        return frozenset(self._proposals)

    @property
    def host_registrations(self) -> frozenset[HostRegistration]:
        """The host modules that a VM registers by itself."""
        self._check_open()
        return frozenset(self._host_registrations)

    @property
    def max_memory_page(self) -> int:
        """The most pages of 64 KiB a memory may have, 0 to 65536 (the default).

        A memory that starts larger is refused, growth beyond it fails. Executor and VM.

        Raises (when set):
            TypeError: not an int.
            ValueError: outside 0 to 65536.
        """
        self._check_open()
        return self._max_memory_page

    @max_memory_page.setter
    def max_memory_page(self, pages: int) -> None:
        self._check_open()
        if type(pages) is bool or not isinstance(pages, int):
            raise TypeError(f"max_memory_page must be an int, not {type(pages).__name__}")
        if not 0 <= pages <= _MAX_PAGES:
            raise ValueError(f"max_memory_page is outside 0 to {_MAX_PAGES}: {pages}")
        self._max_memory_page = pages

    @property
    def compiler_optimization_level(self) -> CompilerOptimizationLevel:
        """How much `Compiler` optimises; O3 by default."""
        self._check_open()
        return self._compiler_optimization_level

    @compiler_optimization_level.setter
    def compiler_optimization_level(self, level: CompilerOptimizationLevel) -> None:
        self._check_open()
        if not isinstance(level, CompilerOptimizationLevel):
            raise TypeError(
                "compiler_optimization_level must be a CompilerOptimizationLevel, "
                f"not {type(level).__name__}"
            )
        self._compiler_optimization_level = level

    @property
    def compiler_output_format(self) -> CompilerOutputFormat:
        """What `Compiler` writes; the universal format (WASM) by default."""
        self._check_open()
        return self._compiler_output_format

    @compiler_output_format.setter
    def compiler_output_format(self, output_format: CompilerOutputFormat) -> None:
        self._check_open()
        if not isinstance(output_format, CompilerOutputFormat):
            raise TypeError(
                "compiler_output_format must be a CompilerOutputFormat, "
                f"not {type(output_format).__name__}"
            )
        self._compiler_output_format = output_format

    @property
    def compiler_dump_ir(self) -> bool:
        """Whether `Compiler` also writes LLVM IR; False by default."""
        self._check_open()
        return self._compiler_dump_ir

    @compiler_dump_ir.setter
    def compiler_dump_ir(self, on: bool) -> None:
        self._compiler_dump_ir = self._flag("compiler_dump_ir", on)

    @property
    def compiler_generic_binary(self) -> bool:
        """Whether `Compiler` uses only what every processor of the architecture has."""
        self._check_open()
        return self._compiler_generic_binary

    @compiler_generic_binary.setter
    def compiler_generic_binary(self, on: bool) -> None:
        self._compiler_generic_binary = self._flag("compiler_generic_binary", on)

    @property
    def compilation_mode(self) -> CompilationMode:
        """When functions are compiled, and how well; TIERED by default. Executor and VM.

        Raises TypeError when set to what is not a CompilationMode.
        """
        self._check_open()
        return self._compilation_mode

    @compilation_mode.setter
    def compilation_mode(self, mode: CompilationMode) -> None:
        self._check_open()
        if not isinstance(mode, CompilationMode):
            raise TypeError(
                f"compilation_mode must be a CompilationMode, not {type(mode).__name__}"
            )
        self._compilation_mode = mode

    @property
    def trust_precompiled(self) -> bool:
        """Whether compiled code in files is run that somebody else made than this user; False by
        default. Loader and VM.

        Such code is not sandboxed: whoever made the file can do whatever this process can. What
        is damaged, or for another processor or version, is not used even so.
        """
        self._check_open()
        return self._trust_precompiled

    @trust_precompiled.setter
    def trust_precompiled(self, on: bool) -> None:
        self._trust_precompiled = self._flag("trust_precompiled", on)

    @property
    def statistics_instruction_counting(self) -> bool:
        """Whether executed instructions are counted; False by default."""
        self._check_open()
        return self._statistics_instruction_counting

    @statistics_instruction_counting.setter
    def statistics_instruction_counting(self, on: bool) -> None:
        self._statistics_instruction_counting = self._flag("statistics_instruction_counting", on)

    @property
    def statistics_time_measuring(self) -> bool:
        """Whether time in wasm code and in host functions is measured; False by default."""
        self._check_open()
        return self._statistics_time_measuring

    @statistics_time_measuring.setter
    def statistics_time_measuring(self, on: bool) -> None:
        self._statistics_time_measuring = self._flag("statistics_time_measuring", on)

    @property
    def statistics_cost_measuring(self) -> bool:
        """Whether the cost of instructions is added up and limited; False by default."""
        self._check_open()
        return self._statistics_cost_measuring

    @statistics_cost_measuring.setter
    def statistics_cost_measuring(self, on: bool) -> None:
        self._statistics_cost_measuring = self._flag("statistics_cost_measuring", on)

    def copy(self) -> Configure:
        """Return an independent configuration with the same options."""
        self._check_open()
        twin = Configure()
        twin.__dict__.update(self.__dict__)
        twin._proposals = set(self._proposals)
        twin._host_registrations = set(self._host_registrations)
        return twin

    def _flag(self, name: str, on: object) -> bool:
        self._check_open()
        if not isinstance(on, bool):
            raise TypeError(f"{name} must be a bool, not {type(on).__name__}")
        return on


def _not_an_option(option: object) -> TypeError:
    return TypeError(
        f"a configuration option must be a Proposal or a HostRegistration, not {option!r}"
    )

"""Configuration: options, properties, copies."""

from __future__ import annotations

import pytest

from wasmedge_runtime import (
    CompilerOptimizationLevel,
    CompilerOutputFormat,
    Configure,
    HostRegistration,
    Proposal,
    WasmEdgeError,
)

DEFAULTS = {
    Proposal.IMPORT_EXPORT_MUT_GLOBALS,
    Proposal.NON_TRAP_FLOAT_TO_INT_CONVERSIONS,
    Proposal.SIGN_EXTENSION_OPERATORS,
    Proposal.MULTI_VALUE,
    Proposal.BULK_MEMORY_OPERATIONS,
    Proposal.REFERENCE_TYPES,
    Proposal.SIMD,
}

FLAGS = [
    "compiler_dump_ir",
    "compiler_generic_binary",
    "statistics_instruction_counting",
    "statistics_time_measuring",
    "statistics_cost_measuring",
]


def test_the_seven_proposals_of_wasm_2_are_on_by_default() -> None:
    assert Configure().proposals == DEFAULTS
    assert Configure().host_registrations == frozenset()


def test_constructor_options_are_in_addition_to_the_defaults() -> None:
    config = Configure(Proposal.TAIL_CALL, HostRegistration.WASI)
    assert config.proposals == DEFAULTS | {Proposal.TAIL_CALL}
    assert config.host_registrations == {HostRegistration.WASI}


@pytest.mark.parametrize("option", [*Proposal, *HostRegistration])
def test_every_option_can_be_added_and_removed(option: Proposal | HostRegistration) -> None:
    config = Configure()
    config.add_config(option)
    config.add_config(option)
    assert config.has_config(option)
    assert option in config
    config.remove_config(option)
    config.remove_config(option)
    assert not config.has_config(option)
    assert option not in config


def test_what_is_not_an_option_is_refused() -> None:
    config = Configure()
    for method in (config.add_config, config.remove_config, config.has_config, Configure):
        with pytest.raises(TypeError, match="Proposal or a HostRegistration, not 'SIMD'"):
            method("SIMD")  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="not 6"):  # a number is not an option, as WASI has none
        _ = 6 in config  # type: ignore[operator]


def test_defaults_of_the_properties() -> None:
    config = Configure()
    assert config.max_memory_page == 65536
    assert config.compiler_optimization_level is CompilerOptimizationLevel.O3
    assert config.compiler_output_format is CompilerOutputFormat.WASM
    assert not any(getattr(config, flag) for flag in FLAGS)


def test_properties_can_be_set() -> None:
    config = Configure()
    config.max_memory_page = 1234
    config.compiler_optimization_level = CompilerOptimizationLevel.Os
    config.compiler_output_format = CompilerOutputFormat.NATIVE
    assert config.max_memory_page == 1234
    assert config.compiler_optimization_level is CompilerOptimizationLevel.Os
    assert config.compiler_output_format is CompilerOutputFormat.NATIVE


@pytest.mark.parametrize("flag", FLAGS)
def test_flags_are_bools(flag: str) -> None:
    config = Configure()
    setattr(config, flag, True)
    assert getattr(config, flag) is True
    assert [name for name in FLAGS if getattr(config, name)] == [flag]
    with pytest.raises(TypeError, match=f"{flag} must be a bool, not int"):
        setattr(config, flag, 1)


def test_properties_refuse_other_values() -> None:
    config = Configure()
    for pages in (-1, 65537):
        with pytest.raises(ValueError, match="max_memory_page is outside 0 to 65536"):
            config.max_memory_page = pages
    with pytest.raises(TypeError, match="max_memory_page must be an int, not str"):
        config.max_memory_page = "10"  # type: ignore[assignment]
    with pytest.raises(TypeError, match="must be a CompilerOptimizationLevel, not int"):
        config.compiler_optimization_level = 3  # type: ignore[assignment]
    with pytest.raises(TypeError, match="must be a CompilerOutputFormat, not str"):
        config.compiler_output_format = "wasm"  # type: ignore[assignment]


def test_a_copy_is_independent() -> None:
    config = Configure(Proposal.GC, HostRegistration.WASI)
    config.max_memory_page = 5
    config.statistics_cost_measuring = True
    twin = config.copy()
    config.add_config(Proposal.THREADS)
    config.remove_config(HostRegistration.WASI)
    config.max_memory_page = 6
    config.close()
    assert twin.proposals == DEFAULTS | {Proposal.GC}
    assert twin.host_registrations == {HostRegistration.WASI}
    assert twin.max_memory_page == 5
    assert twin.statistics_cost_measuring


def test_a_closed_configuration_refuses_use() -> None:
    with Configure() as config:
        pass
    config.close()
    uses = (
        lambda: config.add_config(Proposal.GC),
        lambda: Proposal.GC in config,
        lambda: config.max_memory_page,
        lambda: setattr(config, "compiler_dump_ir", True),
        config.copy,
    )
    for use in uses:
        with pytest.raises(WasmEdgeError, match="this Configure is closed"):
            use()

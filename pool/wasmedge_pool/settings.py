"""`Configure` as data, so that a worker's VM is made with the parent's options."""

from __future__ import annotations

from typing import Any

from wasmedge_pool.messages import ProtocolError
from wasmedge_runtime.configure import (
    CompilationMode,
    CompilerOptimizationLevel,
    CompilerOutputFormat,
    Configure,
    HostRegistration,
    Proposal,
)

__all__ = ["config_from_wire", "config_to_wire"]

# Each property and what its number becomes again; with `proposals` and `host_registrations` these
# are all there are (a test compares).
_PROPERTIES: tuple[tuple[str, type[int]], ...] = (
    ("max_memory_page", int),
    ("compilation_mode", CompilationMode),
    ("compiler_optimization_level", CompilerOptimizationLevel),
    ("compiler_output_format", CompilerOutputFormat),
    ("compiler_dump_ir", bool),
    ("compiler_generic_binary", bool),
    ("trust_precompiled", bool),
    ("statistics_instruction_counting", bool),
    ("statistics_time_measuring", bool),
    ("statistics_cost_measuring", bool),
)


def config_to_wire(config: Configure) -> tuple[Any, ...]:
    """Turn a configuration into data: proposals, host registrations, then the properties."""
    return (
        tuple(sorted(map(int, config.proposals))),
        tuple(sorted(host.value for host in config.host_registrations)),
        *(int(getattr(config, name)) for name, _ in _PROPERTIES),
    )


def config_from_wire(wire: tuple[Any, ...]) -> Configure:
    """Turn data from `config_to_wire` into a configuration.

    Raises:
        ProtocolError: the data is no configuration.
    """
    try:
        proposals, hosts, *numbers = wire
        config = Configure()
        for proposal in config.proposals:
            config.remove_config(proposal)
        for number in proposals:
            config.add_config(Proposal(number))
        for name in hosts:
            config.add_config(HostRegistration(name))
        for (name, kind), number in zip(_PROPERTIES, numbers, strict=True):
            setattr(config, name, kind(number))
    except (TypeError, ValueError) as error:
        raise ProtocolError(f"not a configuration: {error}") from error
    return config

"""A configuration arrives in the worker as it was."""

from __future__ import annotations

import pytest

from wasmedge_pool.messages import CreateVM, ProtocolError
from wasmedge_pool.protocol import Decoder, encode
from wasmedge_pool.settings import _PROPERTIES, config_from_wire, config_to_wire
from wasmedge_runtime.configure import (
    CompilationMode,
    CompilerOptimizationLevel,
    CompilerOutputFormat,
    Configure,
    HostRegistration,
    Proposal,
)


def _through(config: Configure) -> Configure:
    frame = encode(CreateVM(1, 1, config_to_wire(config), 0))
    [message] = Decoder(from_worker=False).feed(frame)
    assert isinstance(message, CreateVM)
    return config_from_wire(message.config)


def test_every_property_travels() -> None:
    public = {name for name, kind in vars(Configure).items() if isinstance(kind, property)}
    assert public == {name for name, _ in _PROPERTIES} | {"proposals", "host_registrations"}


def test_a_configuration_that_is_all_different_arrives_the_same() -> None:
    config = Configure(Proposal.TAIL_CALL, HostRegistration.WASI)
    config.remove_config(Proposal.SIMD)
    config.max_memory_page = 7
    config.compilation_mode = CompilationMode.BASELINE
    config.compiler_optimization_level = CompilerOptimizationLevel.Os
    config.compiler_output_format = CompilerOutputFormat.NATIVE
    config.compiler_dump_ir = True
    config.compiler_generic_binary = True
    config.trust_precompiled = True
    config.statistics_instruction_counting = True
    config.statistics_time_measuring = True
    config.statistics_cost_measuring = True
    arrived = _through(config)
    assert arrived.proposals == config.proposals
    assert arrived.host_registrations == config.host_registrations
    for name, _ in _PROPERTIES:
        assert getattr(arrived, name) == getattr(config, name) != getattr(Configure(), name), name


@pytest.mark.parametrize("wire", [(), (1, 2), ((99,), ()), ((), ("x",)), ((), (), 1)])
def test_what_is_no_configuration_is_refused(wire: tuple[object, ...]) -> None:
    with pytest.raises(ProtocolError, match="not a configuration"):
        config_from_wire(wire)

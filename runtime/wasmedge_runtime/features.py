"""What to say when a module needs a proposal that is off, or one that does not exist here yet."""

from __future__ import annotations

from wasmedge_runtime.configure import DEFAULT_PROPOSALS, Proposal
from wasmedge_runtime.errors import MESSAGES, ErrCode

SUPPORTED: frozenset[Proposal] = DEFAULT_PROPOSALS
"""The proposals that have an effect: WebAssembly 2.0."""


def needs(code: ErrCode, what: str, proposal: Proposal) -> str:
    """The message, with the fix, for a module that uses `what` while `proposal` is off."""
    return f"{MESSAGES[code]}: {what} needs the proposal {remedy(proposal)}"


def remedy(proposal: Proposal) -> str:
    """The name of a proposal, and what its user can do about it."""
    if proposal in SUPPORTED:
        return f"{proposal.name}, which is off (configure.add_config(Proposal.{proposal.name}))"
    return f"{proposal.name}, which is not supported yet"


# Opcodes that are no rows of the table yet: prefix or 0, first, last, proposal. For messages only.
_LATER_OPCODES = (
    (0, 0x06, 0x0A, Proposal.EXCEPTION_HANDLING),
    (0, 0x12, 0x13, Proposal.TAIL_CALL),
    (0, 0x14, 0x15, Proposal.FUNCTION_REFERENCES),
    (0, 0x18, 0x19, Proposal.EXCEPTION_HANDLING),
    (0, 0x1F, 0x1F, Proposal.EXCEPTION_HANDLING),
    (0, 0xD3, 0xD3, Proposal.GC),
    (0, 0xD4, 0xD6, Proposal.FUNCTION_REFERENCES),
    (0, 0xFB, 0xFB, Proposal.GC),
    (0, 0xFE, 0xFE, Proposal.THREADS),
    (0xFD, 0x100, 0x113, Proposal.RELAXED_SIMD),
)


def illegal_opcode(number: int, prefix: int = 0) -> str:
    """The message for an opcode that is not in the table."""
    spelled = f"{prefix:02x} {number:02x}" if prefix else f"{number:02x}"
    message = f"{MESSAGES[ErrCode.IllegalOpCode]} {spelled}"
    for behind, first, last, proposal in _LATER_OPCODES:
        if behind == prefix and first <= number <= last:
            return f"{message}: it needs the proposal {remedy(proposal)}"
    return message

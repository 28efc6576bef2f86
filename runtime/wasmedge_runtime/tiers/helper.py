"""The process that optimises units for another one. It never runs guest code.

It reads requests from standard input and answers on standard output, one at a time, and ends when
the input does. Its parent may be gone before a unit is finished: then the unit is still written to
the cache, so that even programs that end at once leave some work done.
"""

from __future__ import annotations

import os
import resource
import sys
from typing import Any, NamedTuple

from .. import cache
from ..background import run_in_background
from ..codegen.context import ContextLayout, Target, Variant
from ..configure import CompilerOptimizationLevel, Configure, Proposal
from ..errors import WasmEdgeError
from ..loader import Loader
from ..module import AST
from ..validator import Validator
from . import frames
from .plan import Plan
from .unit import UnitCode, compile_unit, load_unit, pack, store_unit, unit_name

_CPU_SECONDS = 120
"""What a unit may take; LLVM has no limit of its own."""

_ADDRESS_SPACE = 2 << 30


class _Job(NamedTuple):
    ast: AST
    variant: Variant
    target: Target
    layout: ContextLayout
    plan: Plan


def _module(
    data: bytes,
    proposals: list[str],
    variant: list[bool],
    target: list[int],
    folder: str,
    engine: str,
) -> _Job:
    if engine != cache.engine_fingerprint():
        # An update while the parent runs: code for other structures would corrupt its memory.
        raise SystemExit("the engine that is installed now is not the one of the program")
    os.environ["WASMEDGE_CACHE_DIR"] = folder
    configuration = Configure()
    for proposal in Proposal:
        if proposal.name in proposals:
            configuration.add_config(proposal)
        else:
            configuration.remove_config(proposal)
    ast = Loader(configuration).load_buffer(data)
    Validator(configuration).validate(ast)
    level, generic = target
    compiled_for = Target(CompilerOptimizationLevel(level), bool(generic))
    return _Job(ast, Variant(*variant), compiled_for, ContextLayout(ast), Plan(ast))


def _unit(job: _Job, number: int, patience: float) -> UnitCode | None:
    """A unit, made now or by somebody else; None while another process makes it, and there is no
    patience. When patience is at its end, it is made twice."""
    name = unit_name(job.ast.digest, job.variant, number, job.target)
    found = load_unit(name)
    if found is not None:
        return found
    with cache.claim(name, patience) as claimed:
        if not claimed and not patience:
            return None
        found = load_unit(name)
        if found is None:
            functions = job.plan.optimized[number]
            _allow_time()
            found = compile_unit(job.ast, job.variant, job.layout, job.target, functions)
            store_unit(name, found)
        return found


def _allow_time() -> None:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    _limit(resource.RLIMIT_CPU, int(usage.ru_utime + usage.ru_stime) + _CPU_SECONDS)


def _limit(kind: int, amount: int) -> None:
    """Limit a resource of this process, below the limits that its parent already has."""
    hard = resource.getrlimit(kind)[1]
    if hard != resource.RLIM_INFINITY:
        amount = min(amount, hard)
    resource.setrlimit(kind, (amount, hard))


def _answer(job: _Job | None, request: list[Any]) -> list[Any]:
    if job is None:
        return [frames.REFUSED, "no module"]
    try:
        unit = _unit(job, request[1], request[2])
    except WasmEdgeError as error:
        return [frames.REFUSED, str(error)]
    return [frames.BUSY] if unit is None else [frames.DONE, pack(unit)]


def main(background: bool) -> None:
    """Serve until the input ends."""
    if background:
        run_in_background()
    _limit(resource.RLIMIT_AS, _ADDRESS_SPACE)
    _limit(resource.RLIMIT_CORE, 0)
    requests, answers = sys.stdin.buffer, sys.stdout.buffer
    job = None
    while (request := frames.read(requests)) is not None:
        if request[0] == frames.MODULE:
            job = _module(*request[1:])
        else:
            try:
                frames.write(answers, _answer(job, request))
            except BrokenPipeError:
                break
    cache.trim()

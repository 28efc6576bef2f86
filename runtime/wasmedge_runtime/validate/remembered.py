"""What the validation of bodies found out, remembered beside compiled code in the cache."""

from __future__ import annotations

import logging

import msgpack

from .. import cache
from ..configure import Proposal
from ..module import AST

_log = logging.getLogger("wasmedge")

_WORTH_BYTES = 50_000
"""Bodies smaller than this together are validated sooner than an entry is found."""


def recall(ast: AST, proposals: frozenset[Proposal]) -> bool:
    """Set what validation sets for the bodies of a module, if that was valid before."""
    if not _is_large(ast):
        return False
    name = _name(ast, proposals)
    entry = cache.load(name)
    if entry is None:
        return False
    count = len(ast.bodies)
    select_types: list[dict[int, int]] = [{} for _ in range(count)]
    try:
        for body, offset, code in msgpack.unpackb(entry):
            select_types[body][offset] = code
    except (ValueError, TypeError, IndexError, msgpack.UnpackException) as error:
        _log.warning("cache entry %s is not usable: %s", name, error)
        return False
    ast.select_types = select_types
    _log.debug("%d functions were validated before", count)
    return True


def keep(ast: AST, proposals: frozenset[Proposal]) -> None:
    """Remember that the bodies of a module are valid."""
    if not _is_large(ast):
        return
    selects = [
        (body, offset, code)
        for body, types in enumerate(ast.select_types)
        for offset, code in types.items()
    ]
    cache.store(_name(ast, proposals), msgpack.packb(selects))


def _is_large(ast: AST) -> bool:
    return bool(ast.bodies) and ast.bodies[-1].end - ast.bodies[0].start >= _WORTH_BYTES


def _name(ast: AST, proposals: frozenset[Proposal]) -> str:
    return cache.key("valid", *sorted(map(int, proposals)), ast.digest)

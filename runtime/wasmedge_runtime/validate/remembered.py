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
    head = ast.precompiled.head if ast.precompiled is not None else None
    if head is not None and set(head.proposals) == proposals:
        return _restore(ast, head.selects)
    if not _is_large(ast):
        return False
    name = _name(ast, proposals)
    entry = cache.load(name)
    if entry is None:
        return False
    try:
        selects = msgpack.unpackb(entry)
    except (ValueError, msgpack.UnpackException) as error:
        _log.warning("cache entry %s is not usable: %s", name, error)
        return False
    return _restore(ast, selects)


def _restore(ast: AST, selects: list[list[int]]) -> bool:
    """Set what `selects_of` gave."""
    count = len(ast.bodies)
    select_types: list[dict[int, int]] = [{} for _ in range(count)]
    try:
        for body, offset, code in selects:
            select_types[body][offset] = code
    except (ValueError, TypeError, IndexError) as error:
        _log.warning("what is remembered of a validation is not usable: %s", error)
        return False
    ast.select_types = select_types
    _log.debug("%d functions were validated before", count)
    return True


def selects_of(ast: AST) -> list[list[int]]:
    """What validation found out about the bodies: of each reachable `select` without a type, its
    body, offset and type."""
    return [
        [body, offset, code]
        for body, types in enumerate(ast.select_types)
        for offset, code in types.items()
    ]


def keep(ast: AST, proposals: frozenset[Proposal]) -> None:
    """Remember that the bodies of a module are valid."""
    if not _is_large(ast):
        return
    cache.store(_name(ast, proposals), msgpack.packb(selects_of(ast)))


def _is_large(ast: AST) -> bool:
    return bool(ast.bodies) and ast.bodies[-1].end - ast.bodies[0].start >= _WORTH_BYTES


def _name(ast: AST, proposals: frozenset[Proposal]) -> str:
    return cache.key("valid", *sorted(map(int, proposals)), ast.digest)

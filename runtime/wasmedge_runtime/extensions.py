"""Modules that mypyc compiled: found where there are any, and used as long as they are current.

Validation and translation are ordinary Python that mypyc can compile to extension modules
(`make compile`, or a wheel built with `WASMEDGE_COMPILE=1`). Those lie in a folder of their own,
with a digest of the sources that they were made from: Python prefers an extension module to the
source beside it, whatever became of the source since. Nothing else of the engine knows of them.
"""

from __future__ import annotations

import functools
import hashlib
import logging
from pathlib import Path

_log = logging.getLogger("wasmedge")

PACKAGE = Path(__file__).parent
FOLDER = PACKAGE / "_mypyc"
"""Holds a folder for each package that has compiled modules."""
RECORD = "sources.sha256"
"""The file in it with the digest."""


def sources_digest() -> str:
    """Hash of all sources of this package: what mypyc compiles of a module depends on the types
    and constants of others."""
    digest = hashlib.sha256()
    for source in sorted(PACKAGE.rglob("*.py")):
        digest.update(str(source.relative_to(PACKAGE)).encode())
        digest.update(source.read_bytes())
    return digest.hexdigest()


@functools.cache
def are_current() -> bool:
    """Whether there are compiled modules, and they were made from the sources that are here."""
    try:
        recorded = (FOLDER / RECORD).read_text(encoding="utf-8")
    except OSError:
        return False
    current = recorded == sources_digest()
    if not current:
        _log.info("the compiled modules in %s are of other sources: not used", FOLDER)
    return current


def prefer(package: str, path: list[str]) -> None:
    """Let a subpackage take its compiled modules first: called with its name and `__path__`."""
    if are_current():
        path.insert(0, str(FOLDER / package.rpartition(".")[2]))

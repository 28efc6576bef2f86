"""Validator: what an AST has to go through before it can be instantiated."""

from __future__ import annotations

import time

from wasmedge_runtime.closable import Closable
from wasmedge_runtime.configure import Configure
from wasmedge_runtime.errors import LoadError
from wasmedge_runtime.features import needs
from wasmedge_runtime.log import log_stage
from wasmedge_runtime.module import AST
from wasmedge_runtime.validate import remembered
from wasmedge_runtime.validate.context import Context
from wasmedge_runtime.validate.function import FunctionValidator
from wasmedge_runtime.validate.module import ModuleValidator


class Validator(Closable):
    """Checks modules by the rules of the core specification, chapter 3.

    Args:
        config: the proposals that are on; the seven of WebAssembly 2.0 by default. One that was
            off when the module was loaded stays off.
    """

    def __init__(self, config: Configure | None = None) -> None:
        self._proposals = (config or Configure()).proposals

    def validate(self, ast: AST) -> None:
        """Check a module; only then `ast.validated` is True.

        The bodies of a large module that was found valid before, with the same proposals, are not
        looked at again: the cache on disk remembers it by the digest of the file.

        Messages of errors end with the offset of the instruction or item in the file.

        Raises:
            LoadError: the instructions of a body are malformed, or use a proposal that is off
                (bodies are decoded here, not by the Loader).
            ValidationError: a rule is broken.
            WasmEdgeError: the AST is closed.
        """
        self._check_open()
        ast._check_open()
        for proposal, (code, what, offset) in ast.uses.items():
            if proposal not in self._proposals:
                raise LoadError(code, needs(code, what, proposal), offset)
        started = time.perf_counter()
        proposals = ast.proposals & self._proposals
        ast.validated = False
        ast.declared_functions = set()
        ModuleValidator(ast, proposals).validate()
        if not remembered.recall(ast, proposals):
            bodies = FunctionValidator(ast, Context(ast, proposals))
            ast.select_types = [bodies.validate(index) for index in range(len(ast.bodies))]
            remembered.keep(ast, proposals)
        ast.validated = True
        log_stage(f"validated {len(ast.bodies)} functions", started)

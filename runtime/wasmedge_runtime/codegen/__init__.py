"""From a validated module to native object code: WebAssembly to LLVM IR text to an object file."""

from __future__ import annotations

from wasmedge_runtime.extensions import prefer

prefer(__name__, __path__)

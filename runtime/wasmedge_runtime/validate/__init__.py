"""The rules a module must keep before it runs: core specification, chapter 3."""

from __future__ import annotations

from wasmedge_runtime.extensions import prefer

prefer(__name__, __path__)

"""What the tests of the pool share."""

from __future__ import annotations

from tests.loops import run

__all__ = ["run"]

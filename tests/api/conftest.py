"""What the tests of the public API share."""

from __future__ import annotations

from tests.loops import run

__all__ = ["run"]

"""What the tests of programs share."""

from __future__ import annotations

from tests.loops import run

__all__ = ["run"]

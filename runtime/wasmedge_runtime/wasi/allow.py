"""Which addresses a program may use."""

from __future__ import annotations

from collections.abc import Iterable

__all__ = ["AllowList"]


class AllowList:
    def __init__(self, rules: Iterable[str]) -> None:
        self._rules = list(rules)

"""The state of an instance that `reset` goes back to in the place of the initial one."""

from __future__ import annotations

import array
import contextlib
import ctypes
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from .errors import WasmEdgeError
from .memory import reset_memories
from .native.image import Image
from .native.pages import few_ranges, filled_ranges, merged
from .types import RefType

if TYPE_CHECKING:
    from .initial import InitialState
    from .instance import ModuleInstance
    from .memory import Memory

_MOST_EXTENTS = 256
"""Parts of a memory that are mapped one by one: the system has room for some 65,000 in a process.
Zeros in a part take memory when they are read, as those in the image of a module do."""

_GAP = 1 << 16
"""Bytes of zeros that are not worth another part."""


class Checkpoint:
    """What an instance had in its memories, tables and globals when this was made.

    It does not hold the instance, which holds it.

    Raises:
        MemoryError: there is no room for it.
    """

    def __init__(self, instance: ModuleInstance, initial: InitialState) -> None:
        self._initial = initial
        self._words = initial.words_of(instance)
        tables = initial.own_tables(instance)
        self._tables = [(table, *table.content()) for table in tables]
        self._kept = {part: part.kept() for part in initial.reference_holders(instance)}
        self._externs = array.array("Q")
        for table in tables:
            if table.table_type.ref_type == RefType.EXTERNREF:
                self._externs.extend(table.handles())
        for index in initial.extern_globals:
            self._externs.extend(instance.global_at(index).handles())
        if self._externs:
            instance.core.extern_holders.add(self)
        self._memories = [_MemoryState(memory) for memory in initial.own_memories(instance)]

    def handles(self) -> Iterator[int]:
        """Handles of the external references in it (for `StoreCore.extern_holders`)."""
        return iter(self._externs)

    def handle_count(self) -> int:
        """How many there are."""
        return len(self._externs)

    def settle(self) -> None:
        """Let the memories, which still have the same content, share it with this."""
        for state in self._memories:
            state.settle()

    def restore(self, instance: ModuleInstance) -> list[Any]:
        """Bring the instance back. As `InitialState.reset`: what it gives, raises, and expects."""
        for state in self._memories:
            state.memory.reset_bytes = state.bytes
        reset_memories([state.memory for state in self._memories])
        for state in self._memories:
            state.fill()
        for table, size, handles in self._tables:
            table.restore(size, handles)
        self._initial.put_words(instance, self._words)
        nothing: frozenset[Any] = frozenset()
        return [
            owner
            for part in self._initial.reference_holders(instance)
            for owner in part.forget(self._kept.get(part, nothing))
        ]


class _MemoryState:
    """The content of a memory: what is not zero, as an image, or copied where there can be none."""

    def __init__(self, memory: Memory) -> None:
        self.memory = memory
        self.bytes = memory.byte_size
        self._image: Image | None = None
        self._copies: list[tuple[int, bytes]] = []
        self._filled = filled = filled_ranges(memory.base, self.bytes, memory.mapped)
        # Also what is zero now where something else is mapped: it has taken memory before. What is
        # mapped without having content there does no harm.
        covered = merged(sorted([*filled, *memory.mapped]))
        if not covered:
            return
        with memory.view() as content:
            with contextlib.suppress(OSError):  # out of descriptors, or forbidden
                self._image = Image(
                    few_ranges(covered, _MOST_EXTENTS, _GAP),
                    ((start, content[start:end]) for start, end in filled),
                )
                return
            self._copies = [(start, bytes(content[start:end])) for start, end in covered]

    def settle(self) -> None:
        """Map the image, if that is still to be done.

        An exception of a signal handler may come in the middle: `fill` does it all again then.
        """
        image, memory = self._image, self.memory
        if image is None:
            return
        earlier = memory.mapped
        memory.mapped = tuple(merged(sorted([*earlier, *self._filled])))
        try:
            memory.map_image(image)
        except WasmEdgeError:  # too many mappings in this process
            self._copies = image.read()
        else:
            memory.mapped = tuple(self._filled)
        self._image = None  # mappings need no descriptor

    def fill(self) -> None:
        """Put the content into the memory that has been reset."""
        self.settle()
        for offset, content in self._copies:
            ctypes.memmove(self.memory.base + offset, content, len(content))

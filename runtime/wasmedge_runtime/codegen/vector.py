"""Vector instructions as LLVM IR (WebAssembly 2.0, section 4.4.3), all families together.

`OPERATORS` and `SEQUENCES` have the form described in `numeric`. Vectors are `<2 x i64>`;
immediates (lane indices, as decimal literals) come after the operands. `v128.const` is the
translator's, and `i8x16.shuffle` is `shuffle(lanes)`. The sequence of a load or store is what it
does besides its access of the type `access(name)`: a load's `{0}` is what was loaded, before the
vector and the lane of `load*_lane`; a store of a lane gives what to store.
"""

from __future__ import annotations

from wasmedge_runtime.codegen import vector_float, vector_integer, vector_lanes
from wasmedge_runtime.codegen.numeric import MACHINE
from wasmedge_runtime.codegen.vector_lanes import OPERATORS, SHAPES, access, shuffle

__all__ = ["OPERATORS", "SEQUENCES", "SHAPES", "access", "sequences", "shuffle"]


def sequences(machine: str) -> dict[str, str]:
    """`SEQUENCES` for a machine: "x86_64" (with SSE4.2, x86-64-v2), "aarch64", or any other."""
    found: dict[str, str] = {}
    for family in (vector_lanes, vector_integer, vector_float):
        found |= family.sequences(machine)
    return found


SEQUENCES = sequences(MACHINE)

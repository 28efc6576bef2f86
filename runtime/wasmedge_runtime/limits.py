"""Every cap on a module, on one page (core specification 7.2 lets an implementation set them).

The format itself allows counts up to 2^32-1. A cap keeps what a file can make us do in proportion
to its size: each is far above what real toolchains produce (most are those of the JavaScript
interface, which every browser applies), and none is an option.
"""

from __future__ import annotations

MAX_MODULE_SIZE = 1 << 30
"""Bytes of a file. Offsets stay small ints; the file is held in memory as a whole."""

MAX_TYPES = 1_000_000
"""Function types. Each is an object, and the smallest is three bytes of the file."""

MAX_FUNCTIONS = 1_000_000
"""Functions, imported and own. Each gets a record and a name in compiled code."""

MAX_IMPORTS = 1_000_000
MAX_EXPORTS = 1_000_000
MAX_GLOBALS = 1_000_000
"""Entries of these sections. Each is an object at run time as well."""

MAX_CUSTOM_SECTIONS = 100_000
"""Custom sections. Each is a record, and the smallest is three bytes of the file."""

MAX_INITIALIZER = 10_000
"""Instructions of a constant expression; in WebAssembly 2.0, a valid one has a single one."""

MAX_TABLES = 100_000
"""Tables, imported and own. Each has its own allocation when instantiated."""

MAX_MEMORIES = 100
"""Memories, imported and own. Each reserves 8 GiB of an address space that has room for 16,000."""

MAX_SEGMENTS = 100_000
"""Element segments, and data segments: each costs a step of every instantiation."""

MAX_TABLE_SIZE = 0xFFFF_FFFF
"""Greatest maximum size of a table: what a 32-bit index reaches (3.2.4)."""

MAX_TABLE_ELEMENTS = 10_000_000
"""Initial size of a table, and elements of all segments: each is a machine word or two."""

MAX_PAGES = 65_536
"""Pages of a memory: 4 GiB, what a 32-bit address reaches (3.2.5)."""

MAX_PARAMS = 1_000
MAX_RESULTS = 1_000
"""Parameters, and results, of a function or block: a call of two bytes pushes as many values."""

MAX_BODY_SIZE = 7_654_321
"""Bytes of one function. It is decoded into a list, and LLVM takes it as a whole."""

MAX_LOCALS = 50_000
"""Locals of one function, parameters included: six bytes declare 2^32-1 of them."""

MAX_TOTAL_LOCALS = 20_000_000
"""Locals of all functions together, for files with many tiny functions of many locals."""

MAX_NESTING = 5_000
"""Blocks inside one another. Code generation keeps a frame for each; a block is two bytes."""

MAX_OPERANDS = 100_000
"""Height of the operand stack of a function: calls with many results multiply quickly."""

MAX_LABELS = 65_520
"""Targets of one `br_table`; each is an edge of the control flow graph."""

MAX_MOVED_VALUES = 1_000_000
"""Results of calls, and values of branches and returns, where one has several: each is a line or
more for LLVM, and two bytes of the file can ask for a thousand."""

MAX_NAME_SIZE = 100_000
"""Bytes of a name of an import, export or custom section."""

"""This engine against wasmtime, on modules that `wasm-tools smith` makes from fixed seeds.

`smith.py` makes a module and a plan of calls, `ours.py` and `peer.py` carry the plan out, and what
they saw must be equal: results, traps, calls of host functions, and in the end memory, globals and
the sizes of tables. `python -m tests.differential COUNT` tries more seeds than the tests do.
"""

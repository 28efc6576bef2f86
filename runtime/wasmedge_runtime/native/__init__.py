"""The machine beneath the engine: reserved memory, loaded code, entry into it, traps and signals.

Nothing here knows WebAssembly's binary format or LLVM. `layout` names the structures that generated
code and Python share; `support` holds the generated run-time routines (entry, traps, signal
handlers, memory and table helpers), whose text is in `ir/`; `elf` and `code` place object files
into the address space; `host_stubs` makes the way from there to host functions.
"""

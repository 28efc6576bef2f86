"""From a validated module to code, in two tiers, with a memory on disk.

`plan` divides a module into units; `unit` compiles one, or finds it in the cache; `module` holds
what is loaded in this process, provides functions with code when they are first called, and swaps
better code in; `optimizer` lets helper processes (`helper`) make that better code, asked by the
messages of `frames`; `status` says how a module stands.
"""

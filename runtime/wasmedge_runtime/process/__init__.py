"""The host module `wasmedge_process`: commands of the host, for programs that may run them.

::

    WasmEdgeProcessImportObject      the module, and what it allows     import_object.py
      -> a function for each import  what a program has asked for so far  functions.py
        -> run                       one command, to its end              command.py
"""

from .import_object import WasmEdgeProcessImportObject

__all__ = ["WasmEdgeProcessImportObject"]

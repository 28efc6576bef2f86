"""The host module `wasmedge_process`: commands of the host, for programs that may run them.

::

    WasmEdgeProcessImportObject    the module, and what it allows          import_object.py
      -> Commands                  its functions, and what a program says  functions.py
        -> run                     one command, to its end                 command.py
"""

from .import_object import WasmEdgeProcessImportObject

__all__ = ["WasmEdgeProcessImportObject"]

"""From a validated module to native object code: WebAssembly to LLVM IR text to an object file."""

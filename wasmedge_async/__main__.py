"""`python -m wasmedge_async`, the same as the command `wasmedge-async`."""

from __future__ import annotations

import sys

from wasmedge_async._cli import main

if __name__ == "__main__":
    sys.exit(main())

"""What all tests share."""

from __future__ import annotations

import os
from pathlib import Path

# Set before anything of the project is imported, and inherited by worker processes: compiled code
# goes into the checkout, not into the caches of whoever runs the tests. It is kept between runs;
# its keys contain a hash of the translator, so that a change of the project never meets old code.
os.environ["WASMEDGE_CACHE_DIR"] = str(Path(__file__).resolve().parent.parent / ".cache" / "code")

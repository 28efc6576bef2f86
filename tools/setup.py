"""Sets up `.venv` with what running needs, or with one of the extras as well.

    python tools/setup.py          # what `make run` needs
    python tools/setup.py dev      # what `make test` needs
    python tools/setup.py bench    # what `make bench-start` needs: that of `dev`, and more
    python tools/setup.py docs     # what `make docs` needs

What was installed for one of them stays when another is asked for.

The work is done again only when it would come out differently: when the declarations in
`pyproject.toml`, the Python version or the place of the checkout changed. A hash of these lies in
`.venv/setup.json`; time stamps play no part, and nothing is downloaded when it agrees.
"""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
import tomllib
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
ENVIRONMENT = ROOT / ".venv"
RECORD = ENVIRONMENT / "setup.json"
EXTRAS = {"": {""}, "dev": {"", "dev"}, "bench": {"", "dev", "bench"}, "docs": {"", "docs"}}
"""What else each extra has all of."""


def fingerprint() -> str:
    """The hash of everything that decides what the set-up installs."""
    declarations = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    relevant = {
        "build-system": declarations["build-system"],
        "project": declarations["project"],
        "hatch": declarations["tool"]["hatch"],
        "python": sys.version,
        "root": str(ROOT),  # an editable install and the environment's scripts hold this path
    }
    return hashlib.sha256(json.dumps(relevant, sort_keys=True).encode()).hexdigest()


def installed(wanted: str) -> set[str]:
    """The extras that the environment was completed with for `wanted`."""
    try:
        record = json.loads(RECORD.read_text(encoding="utf-8"))
        return set(record["extras"]) if record["fingerprint"] == wanted else set()
    except (OSError, ValueError, TypeError, KeyError):
        return set()


def set_up(extra: str) -> None:
    """Create the environment and install the project in place, unless that is done already.

    Raises `subprocess.CalledProcessError` when pip fails.
    """
    wanted = fingerprint()
    there = installed(wanted)
    if extra in there:
        return
    print(f"setting up {ENVIRONMENT.name} ({extra or 'run'})", flush=True)
    # Begun afresh when it was never completed or belongs to other declarations: what a former
    # set of declarations installed must not stay and hide a missing one.
    RECORD.unlink(missing_ok=True)
    if not there:
        venv.create(ENVIRONMENT, clear=True, with_pip=True)
    target = f"{ROOT}[{extra}]" if extra else str(ROOT)
    pip = [str(ENVIRONMENT / "bin" / "python"), "-m", "pip", "--disable-pip-version-check"]
    subprocess.run([*pip, "install", "--quiet", "--editable", target], check=True)
    record = {"fingerprint": wanted, "extras": sorted(there | EXTRAS[extra])}
    RECORD.write_text(json.dumps(record), encoding="utf-8")


if __name__ == "__main__":
    arguments = sys.argv[1:]
    if arguments not in ([], ["dev"], ["bench"], ["docs"]):
        sys.exit("usage: python tools/setup.py [dev|bench|docs]")
    try:
        set_up(arguments[0] if arguments else "")
    except subprocess.CalledProcessError as error:
        sys.exit(error.returncode)

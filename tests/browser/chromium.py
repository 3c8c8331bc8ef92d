"""The Chromium that the tests drive: the one that `make test` takes from npm, else the system's."""

from __future__ import annotations

import shutil
from pathlib import Path

FROM_NPM = Path(__file__).parent / "node_modules" / ".chromium" / "chromium"


def find_chromium() -> str:
    """Return the path of a Chromium that can be driven.

    Raises:
        FileNotFoundError: there is none.
    """
    if FROM_NPM.is_file():
        return str(FROM_NPM)
    found = shutil.which("chromium")
    # A snap cannot read the recordings that the tests give the browser for a microphone.
    if found is None or found.startswith("/snap/"):
        raise FileNotFoundError("There is no Chromium to drive: run `make test`, which gets one.")
    return found

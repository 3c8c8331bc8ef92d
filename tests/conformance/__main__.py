"""Real Realtime clients against the real program: `python -m tests.conformance [CLIENT ...]`.

Each client is installed in an environment of its own, in `.conformance/`.
"""

from __future__ import annotations

import subprocess
import sys
import venv
from dataclasses import dataclass
from pathlib import Path

from tests.running import ROOT, RunningServer

FOLDER = ROOT / ".conformance"


@dataclass(frozen=True)
class Client:
    """A client library: what is installed, and the script that uses it."""

    requirements: tuple[str, ...]
    script: str


CLIENTS = {"openai-python": Client(("openai[realtime]==3.57.0",), "openai_python.py")}


def python_with(name: str, requirements: tuple[str, ...]) -> Path:
    """The Python of an environment that has these."""
    folder = FOLDER / name
    python, stamp = folder / "bin" / "python", folder / "installed"
    wanted = "\n".join(requirements)
    if not stamp.exists() or stamp.read_text() != wanted:
        print(f"Installing {', '.join(requirements)} ...", file=sys.stderr)
        venv.create(folder, clear=True, with_pip=True)
        command = [str(python), "-m", "pip", "install", "--quiet", *requirements]
        subprocess.run([*command, "--disable-pip-version-check"], check=True)
        stamp.write_text(wanted)
    return python


def main(names: list[str]) -> int:
    """Run these clients, or all; how many failed."""
    failed = 0
    pythons = {name: python_with(name, CLIENTS[name].requirements) for name in names or CLIENTS}
    with RunningServer() as server:
        for name, python in pythons.items():
            script = Path(__file__).with_name(CLIENTS[name].script)
            run = subprocess.run([python, script, str(server.web_port)], timeout=600, check=False)
            if run.returncode:
                failed += 1
                print(server.log, file=sys.stderr)
    return failed


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

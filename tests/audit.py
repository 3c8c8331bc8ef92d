"""Looks for dangerous calls in our code and for known faults of the packages we use.

`python -m tests.audit code` runs bandit, `python -m tests.audit packages` pip-audit, which asks the
OSV database. What is meant so stands in `exceptions.yaml`, with the reason.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parent.parent
EXCEPTIONS = Path(__file__).with_name("exceptions.yaml")
FOLDERS = ("fusion", "whisper_live", "language_models", "voices", "realtime", "wyoming_server")
LOCKS = ("requirements.lock", "requirements-dev.lock", "docker/requirements-gpu.lock")

Findings = Mapping[tuple[str, str], str]
"""What was found: where a sentence says more, by file and kind."""


def main() -> int:
    """Run the check that the command line names; the exit status."""
    checks: dict[str, Callable[[], list[str]]] = {"code": code, "packages": packages}
    complaints = checks[sys.argv[1]]()
    for complaint in complaints:
        print(complaint, file=sys.stderr)
    return 1 if complaints else 0


def code() -> list[str]:
    """What bandit finds in our code and nobody has excused."""
    modules = sorted(path.name for path in ROOT.glob("*.py"))
    done = _run("bandit", "--quiet", "--format", "json", "--recursive", *FOLDERS, *modules)
    report = json.loads(done.stdout)
    found = {
        (each["filename"].removeprefix("./"), each["test_id"]): (
            f"{each['filename']}:{each['line_number']}: {each['test_id']} {each['issue_text']}"
        )
        for each in report["results"]
    }
    return [str(each) for each in report["errors"]] + unexcused(found, _exceptions()["code"])


def unexcused(found: Findings, excused: Mapping[str, Mapping[str, str]]) -> list[str]:
    """Findings without an exception, and exceptions without a finding. A file "*" is any."""
    anywhere = set(excused.get("*", ()))
    wanted = {(file, kind) for file, kinds in excused.items() if file != "*" for kind in kinds}
    complaints = [
        sentence
        for (file, kind), sentence in found.items()
        if kind not in anywhere and (file, kind) not in wanted
    ]
    stale = [f"{file}: {kind} is excused and not there" for file, kind in wanted - set(found)]
    return sorted(complaints) + sorted(stale)


def packages() -> list[str]:
    """Known faults of the locked packages; a line on stderr where the database is out of reach."""
    excused = _exceptions()["packages"]
    complaints: list[str] = []
    for lock in LOCKS:
        done = _run(
            *(
                "pip_audit",
                "--strict",
                "--vulnerability-service",
                "osv",
                "--progress-spinner",
                "off",
            ),
            *("--disable-pip", "--require-hashes", "--requirement", lock),
            *(word for name in excused for word in ("--ignore-vuln", name)),
        )
        if done.returncode == 0:
            print(f"{lock}: no known faults")
        elif is_out_of_reach(done.stderr.splitlines()):
            sentence = (
                "NOT CHECKED for known faults: https://api.osv.dev cannot be reached from here."
            )
            print(f"{', '.join(LOCKS)}: {sentence}", file=sys.stderr)
            return []
        else:
            complaints += [lock, done.stdout + done.stderr]
    return complaints


def is_out_of_reach(lines: Iterable[str]) -> bool:
    """Whether pip-audit ended as it reached nobody, and not for what it learned."""
    last = [line for line in lines if line.strip()][-1:]
    return any("ConnectionError" in line or "ConnectTimeout" in line for line in last)


def _run(module: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", module, *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


def _exceptions() -> dict[str, Any]:
    exceptions: dict[str, Any] = yaml.safe_load(EXCEPTIONS.read_text())
    return exceptions


if __name__ == "__main__":
    sys.exit(main())

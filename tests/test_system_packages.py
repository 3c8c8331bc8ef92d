"""What the tests need of the system: one list, installed or asked for before the first test."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests import bare_systems

ROOT = Path(__file__).resolve().parent.parent
SCRIPT = ROOT / "install-system-packages.sh"


class Machine:
    """A machine without libraries, whose programs are stand-ins where they matter here."""

    def __init__(self, folder: Path, user: int, *, sudo: bool = False, works: bool = True) -> None:
        self._bin = folder / "bin"
        self._bin.mkdir()
        self._calls = folder / "calls"
        self._calls.touch()
        self._add("ldconfig", "")
        self._add("id", f"echo {user}")
        self._add("apt-get", f'echo "apt-get $*" >>{self._calls}; exit {0 if works else 100}')
        self._add("sudo", f'[ "$1" != --non-interactive ] || exit {0 if sudo else 1}; exec "$@"')

    def _add(self, name: str, text: str) -> None:
        program = self._bin / name
        program.write_text(f"#!/bin/sh\n{text}\n")
        program.chmod(0o755)

    @property
    def installed(self) -> list[str]:
        """The packages that apt-get was told to install."""
        return [
            package
            for call in self._calls.read_text().splitlines()
            if call.startswith("apt-get install ")
            for package in call.split()[2:]
            if not package.startswith("-")
        ]

    def run(self, purpose: str = "test") -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [SCRIPT, purpose],
            env={**os.environ, "PATH": f"{self._bin}:{os.environ['PATH']}"},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )


def test_with_neither_root_nor_sudo_one_sentence_says_what_to_do(tmp_path: Path) -> None:
    machine = Machine(tmp_path, user=1000)
    ended = machine.run()
    assert ended.returncode == 1
    assert machine.installed == []
    (sentence,) = ended.stderr.splitlines()
    found = re.fullmatch(
        r"The tests need (.+): as root, run `apt-get install --yes --no-install-recommends (.+)`, "
        r"then run this again, or run `make test-python`, which needs less\.",
        sentence,
    )
    assert found is not None, sentence
    assert found[1] == found[2]
    assert {"libgomp1", "libnss3"} <= set(found[1].split())
    assert machine.run("run").stderr == (
        "WhisperFusion needs libgomp1: as root, run `apt-get install --yes --no-install-recommends "
        "libgomp1`, then run this again.\n"
    )


@pytest.mark.parametrize(("user", "sudo"), [(0, False), (1000, True)])
def test_with_root_or_sudo_it_installs_and_says_so(tmp_path: Path, user: int, sudo: bool) -> None:
    machine = Machine(tmp_path, user, sudo=sudo)
    ended = machine.run()
    assert ended.returncode == 0, ended.stderr
    assert "libnss3" in machine.installed
    packages = " ".join(machine.installed)
    (line,) = ended.stderr.splitlines()
    assert line == f"The tests need {packages}: installing now ..."


def test_an_installation_that_fails_is_said_and_ends_it(tmp_path: Path) -> None:
    ended = Machine(tmp_path, user=0, works=False).run()
    assert ended.returncode == 1
    assert "apt-get could not install them" in ended.stderr.splitlines()[-1]


def test_every_mark_of_a_program_has_its_package_and_is_left_out_by_test_python() -> None:
    needs = re.findall(r"^ *(?:.+ \|\| )?need (\w+) (\S+) \w", SCRIPT.read_text(), re.MULTILINE)
    assert ("run", "libgomp1") in needs
    marks = {mark for mark, _ in needs} - {"run"}
    declared = re.findall(r'"(\w+): [^"]*\bsystem\b', (ROOT / "pyproject.toml").read_text())
    assert marks == set(declared)
    (left_out,) = re.findall(r"^SYSTEM_MARKERS := (.+)$", (ROOT / "Makefile").read_text(), re.M)
    assert marks == set(left_out.split(" or "))


def test_a_bare_system_gets_how_the_network_is_reached_and_nothing_else() -> None:
    given = {
        "https_proxy": "http://proxy:3128",
        "NO_PROXY": "localhost",
        "PIP_INDEX_URL": "https://mirror/simple",
        "npm_config_registry": "https://mirror/npm",
        "REQUESTS_CA_BUNDLE": "/etc/ssl/ca.crt",
    }
    other = {"HOME": "/home/me", "WHISPERFUSION_TLS": "1", "VIRTUAL_ENV": "/venv", "LANG": "C"}
    assert bare_systems.network_variables({**given, **other}) == given


def test_a_bare_system_is_made_by_root_alone() -> None:
    ended = subprocess.run(
        [
            sys.executable,
            "-c",
            "import os; os.geteuid = lambda: 1000\nfrom tests.bare_systems import main; main([])",
        ],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert ended.returncode == 1
    assert ended.stderr == "Only root may make a system: run `sudo make bare-systems`.\n"

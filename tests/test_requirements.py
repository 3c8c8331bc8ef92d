"""The lock files belong together, every dependency has its reason, and every licence is named."""

from __future__ import annotations

import itertools
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
SOURCES = sorted(ROOT.glob("requirements*.txt"))
LOCKS = ("requirements.lock", "requirements-dev.lock", "requirements-torch.lock")
UNLOCKED = {"torch", "sounddevice", "vllm"}
Pins = dict[str, set[tuple[str, str]]]


def _name(text: str) -> str:
    return re.sub(r"[-_.]+", "-", text).lower()


def _requirements(path: Path) -> dict[str, str]:
    """Name to reason of each line of a requirements file."""
    lines = [line for line in path.read_text("utf-8").splitlines() if re.match(r"\w", line)]
    return {_name(re.split(r"[=<>\s]", line)[0]): line.partition("#")[2].strip() for line in lines}


def _locked(name: str) -> Pins:
    """Package to its (version, marker) pairs; a universal lock may hold one for each Python."""
    pins: Pins = {}
    for line in (ROOT / name).read_text("utf-8").splitlines():
        if match := re.match(r"([\w.-]+)==(\S+)( ; (.*?))?( \\)?$", line):
            pins.setdefault(_name(match[1]), set()).add((match[2], match[4] or ""))
    return pins


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.name)
def test_every_requirement_says_why_it_is_there(path: Path) -> None:
    reasons = _requirements(path)
    assert reasons
    assert [name for name, reason in reasons.items() if not reason] == []


def test_every_requirement_is_locked() -> None:
    wanted = {name for path in SOURCES for name in _requirements(path)}
    assert wanted - UNLOCKED <= set(_locked("requirements-torch.lock"))
    assert set(_requirements(ROOT / "requirements.txt")) <= set(_locked("requirements.lock"))


def test_a_larger_lock_holds_the_same_versions_as_the_smaller_one() -> None:
    for smaller, larger in itertools.pairwise(LOCKS):
        inner, outer = _locked(smaller), _locked(larger)
        assert len(inner) > 20
        changed = {
            name
            for name, pins in inner.items()
            if {version for version, _ in pins} != {version for version, _ in outer[name]}
        }
        assert changed == set()


@pytest.mark.parametrize("name", LOCKS)
def test_a_lock_holds_hashes_and_no_address_and_no_torch(name: str) -> None:
    text = (ROOT / name).read_text("utf-8")
    pins = len(re.findall(r"^[\w.-]+==", text, re.MULTILINE))
    assert pins == len(re.findall(r"^[\w.-]+==.* \\$", text, re.MULTILINE))
    assert "://" not in text
    assert "torch" not in _locked(name)


def test_every_installed_library_has_its_licence_in_the_docs() -> None:
    text = (ROOT / "docs" / "licences.md").read_text("utf-8")
    named = {_name(word) for word in re.findall(r"[\w.-]+", text)}
    wanted = set(_locked("requirements-torch.lock")) | UNLOCKED
    assert wanted - named == set()

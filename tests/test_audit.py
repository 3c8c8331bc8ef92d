"""What the audits complain of, and what they make of a database out of reach."""

from __future__ import annotations

import yaml

from tests.audit import EXCEPTIONS, is_out_of_reach, unexcused

FOUND = {
    ("a.py", "B101"): "a.py:1: B101 assert",
    ("a.py", "B301"): "a.py:2: B301 pickle",
    ("b.py", "B603"): "b.py:3: B603 subprocess",
}


def test_a_finding_needs_an_exception_and_an_exception_a_finding() -> None:
    excused = {"*": {"B101": "types"}, "a.py": {"B301": "our own"}, "c.py": {"B602": "gone"}}
    assert unexcused(FOUND, excused) == [
        "b.py:3: B603 subprocess",
        "c.py: B602 is excused and not there",
    ]
    assert unexcused(FOUND, {**excused, "b.py": {"B603": "a list"}, "c.py": {}}) == []


def test_every_exception_has_its_reason() -> None:
    exceptions = yaml.safe_load(EXCEPTIONS.read_text())
    reasons = [reason for kinds in exceptions["code"].values() for reason in kinds.values()]
    reasons += exceptions["packages"].values()
    assert len(reasons) > 10
    assert all(len(reason.split()) > 3 for reason in reasons)


def test_a_database_out_of_reach_is_told_from_a_fault() -> None:
    assert is_out_of_reach(["Traceback", "requests.exceptions.ConnectionError: no name", ""])
    assert not is_out_of_reach(["Found 2 known vulnerabilities in 1 package"])
    assert not is_out_of_reach([])

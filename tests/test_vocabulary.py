"""One word, one thing: the old names of the house's parts stand nowhere any more.

`docs/architecture.md` says what the words are. Old flags live on in `fusion/settings.py`, and the
changelog tells of them.
"""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent

OLD_NAMES = (
    *("Board", "Door", "Edges", "Halves", "Hearing", "Heard", "Judge", "Piece", "Proposal"),
    *("Proposed", "Rank", "ReadAhead", "ReadOn", "RecordedPerson", "ReplyCut", "Steering"),
    *("Turns", "Urgency", "_bury", "as_text", "kinship", "read_ahead", "runs_dry_at"),
)
"""Names of classes, functions and attributes."""

OLD_WORDS = (
    *("contested", "farewell", "heard", "hearing", "invitation", "judged", "murmur", "news"),
    *("obey", "phantom", "read ahead", "settled", "sound_ahead", "unsettled", "work ahead"),
    *("work_ahead", "voice_library", "recorded_person"),
)
"""Words that had another meaning here than in the field, in code, comments and docs alike."""

ALIASES = (
    *("fusion/settings.py", "fusion/model_settings.py"),
    *("tests/test_settings.py", "tests/test_vocabulary.py"),
)
FILES = r"\.(py|md|js|mjs|html|css|sh|yml|txt)$|(^|/)(Makefile|Dockerfile[^/]*)$"
ELSEWHERE = r"^(CHANGELOG\.md|docs/licences\.md|tests/contracts/|tests/whisper_live_package/)"


def our_texts() -> dict[str, str]:
    listed = subprocess.run(
        ["git", "ls-files"], cwd=ROOT, check=True, capture_output=True, text=True
    ).stdout.splitlines()
    ours = [name for name in listed if re.search(FILES, name) and not re.search(ELSEWHERE, name)]
    return {name: (ROOT / name).read_text() for name in ours if (ROOT / name).is_file()}


def places(pattern: str) -> list[str]:
    found = re.compile(pattern)
    return [
        f"{name}:{number}: {line.strip()}"
        for name, text in our_texts().items()
        if name not in ALIASES
        for number, line in enumerate(text.splitlines(), start=1)
        if found.search(line)
    ]


def test_there_is_something_to_look_at() -> None:
    assert len(our_texts()) > 150
    assert places(r"\bdef test_there_is_something_to_look_at\b") == []  # this file is left out
    assert places(r"\bclass Session\b")


def test_no_old_name_is_left() -> None:
    # Where a sentence begins with one of them it is an ordinary word: names stand in code.
    assert places(rf"(?<![\w#] )\b({'|'.join(OLD_NAMES)})\b(?=[(.:\]|,)]| =)") == []


@pytest.mark.parametrize("word", OLD_WORDS)
def test_no_old_word_is_left(word: str) -> None:
    assert places(rf"(?i)\b{word}\b") == []


def test_no_file_is_longer_than_it_should_be() -> None:
    long = {name: text.count("\n") for name, text in our_texts().items() if name.endswith(".py")}
    assert {name: lines for name, lines in long.items() if lines > 450} == {}


def test_what_the_design_names_is_there() -> None:
    """The map "where do I find" and the plan of the house lead somewhere."""
    design = (ROOT / "docs" / "architecture.md").read_text()
    table = design.partition("## Where do I find")[2].partition("\n## ")[0]
    rows = re.findall(r"^\| .* \| `([^`]+)` \|$", table, re.M)
    assert len(rows) >= 30
    assert [name for name in rows if not (ROOT / name).is_file()] == []
    plan = design.partition("```")[2].partition("```")[0]
    names = {path.name for path in ROOT.rglob("*.py") if ".venv" not in path.parts}
    assert set(re.findall(r"\b\w+\.py\b", plan)) - names == set()

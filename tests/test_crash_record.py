"""What a restarted voice knows of the clauses that its predecessors died of."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from voices.crash_record import SIZE, CrashRecord


def test_what_two_processes_died_of_is_spoken_no_more() -> None:
    memory = bytearray(SIZE)
    for _ in range(2):
        record = CrashRecord(memory)
        assert record.begin("A. B. C.")
        assert record.begin("Hello.")
        record.end("Hello.")
    record = CrashRecord(memory)
    assert not record.begin("A. B. C.")
    assert not record.begin("A. B. C.")
    assert record.begin("Hello.")


def test_what_was_spoken_to_its_end_in_between_is_not_to_blame() -> None:
    memory = bytearray(SIZE)
    CrashRecord(memory).begin("Hello.")
    record = CrashRecord(memory)
    assert record.begin("Hello.")
    record.end("Hello.")
    assert record.begin("Hello.")
    assert CrashRecord(memory).begin("Hello.")


def test_two_people_may_hear_the_same_at_once() -> None:
    memory = bytearray(SIZE)
    record = CrashRecord(memory)
    assert record.begin("Hello.") and record.begin("Hello.")
    record.end("Hello.")
    assert CrashRecord(memory).begin("Hello.")  # the first of them died with the process
    assert not CrashRecord(memory).begin("Hello.")


@given(st.lists(st.tuples(st.integers(0, 200), st.sampled_from(["end", "die"])), max_size=300))
def test_however_many_clauses_come_nobody_is_blamed_for_less_than_two_deaths(
    steps: list[tuple[int, str]],
) -> None:
    memory = bytearray(SIZE)
    record = CrashRecord(memory)
    deaths: dict[str, int] = {}
    for number, step in steps:
        words = f"clause {number}"
        if not record.begin(words):
            assert deaths.get(words, 0) >= 2
        elif step == "end":
            record.end(words)
            deaths[words] = 0
        else:
            deaths[words] = deaths.get(words, 0) + 1
            record = CrashRecord(memory)
    assert len(memory) == SIZE


def test_the_file_outlives_a_process_that_is_killed(tmp_path: Path) -> None:
    script = f"""
        import os, signal
        from pathlib import Path
        from voices.crash_record import CrashRecord
        record = CrashRecord.open(Path({str(tmp_path / "record")!r}))
        if record.begin("A. B. C."):
            os.kill(os.getpid(), signal.SIGSEGV)
    """
    command = [sys.executable, "-c", textwrap.dedent(script)]
    codes = [
        subprocess.run(command, check=False, timeout=30, cwd=Path(__file__).parents[1]).returncode
        for _ in range(3)
    ]
    assert codes == [-signal.SIGSEGV, -signal.SIGSEGV, os.EX_OK]

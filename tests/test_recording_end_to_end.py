"""The flight recorder of the real program, and `whisperfusion replay` of what it kept."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.simulated_user import person
from tests.recordings import load
from tests.running import ROOT, RunningServer
from tests.test_end_to_end import answered, at
from whisper_live.flight_recorder.replay import load as load_recording

pytestmark = pytest.mark.e2e


def replay(*arguments: str | Path, status: int | tuple[int, ...]) -> str:
    """What `whisperfusion replay` says, and that it exits so."""
    finished = subprocess.run(
        [sys.executable, "whisperfusion.py", "replay", *map(str, arguments)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=170,
    )
    expected = status if isinstance(status, tuple) else (status,)
    assert finished.returncode in expected, finished.stdout + finished.stderr
    assert "Traceback" not in finished.stderr
    return finished.stdout


async def test_a_real_session_is_recorded_and_goes_again(tmp_path: Path) -> None:
    flags = ("--record", str(tmp_path / "kept"), "--max_new_tokens", "40", "--web_port", "0")
    with RunningServer(flags) as running:
        assert "Recording every session in" in running.log
        async with person(at(running)) as someone:
            await someone.say(load("brooklyn_bridge"))
            reply = await answered(someone)
            ready = someone.conversation.ready.fields
            running.kill("transcription")
            running.wait_until_ready()
    first, *_ = sorted((tmp_path / "kept").glob("*.recording"))
    content = first.read_bytes()
    assert ready["audio_key"].encode() not in content
    recording = load_recording(first)
    assert not recording.whole  # its process was killed
    assert "The same in all 1 turns." in replay(first, status=0)
    assert "Differs" in replay(first, "--no-speculative_generation", status=1)
    # The prompt tells the time, so the same model may answer otherwise; it says so then.
    said = replay(first, "--real", status=(0, 1))
    assert re.search(r"turn 1: first sound after \d+ ms then, \d+ ms now", said)
    if "The same words in all 1 turns." not in said:
        assert "turn 1:\n  recorded: 'How old is the Brooklyn Bridge?', complete: " in said
        assert "now:      'How old is the Brooklyn Bridge?', complete: " in said
        assert reply.text in said


def test_another_file_is_refused_in_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "x.recording").write_text("hello\n")
    replay(tmp_path / "x.recording", status=2)
    replay(tmp_path / "missing.recording", status=2)

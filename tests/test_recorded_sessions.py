"""Sessions that `--record` kept, and what must come of them: a fault report becomes a test.

Each is told again what it was told then (`replay`), and what the program makes of it now is looked
at: its turns, what its client is told (`told`), what the language model is asked (`asked`), or that
nothing is otherwise than it was (`first`).
"""

from __future__ import annotations

from pathlib import Path

import pytest

from fusion.messages import Interruption, Spoken
from whisper_live.flight_recorder.replay import Replayed, load, replay

FOLDER = Path(__file__).parent / "recorded_sessions"
NAMES = sorted(path.stem for path in FOLDER.glob("*.recording"))


def again(name: str) -> Replayed:
    """A recorded session with this program."""
    return replay(load(FOLDER / f"{name}.recording"))


@pytest.mark.parametrize("name", NAMES)
def test_every_committed_turn_ends_once(name: str) -> None:
    run = again(name)
    ended = [
        fields["turn"]
        for _, fields in run.told
        if ("llm_output" in fields and fields["eos"]) or fields.get("status") == "ERROR"
    ]
    assert ended
    assert sorted(ended) == [turn.number for turn in run.turns]


def test_a_question_over_the_reply_interrupts_it_and_is_answered() -> None:
    """Recorded with the real models: the second question is asked while the first is answered."""
    run = again("spoken_over")
    first, second = run.turns
    assert (first.question, first.ending) == ("How old is the Brooklyn Bridge?", "interrupted")
    assert (second.question, second.ending) == ("What time is it?", "complete")
    # The conversation keeps what was said aloud, not the sentence's rest.
    [spoken] = [message for _, message in run.asked if isinstance(message, Spoken)]
    assert (spoken.turn, spoken.text) == (1, "The Brooklyn Bridge is 123")
    [stopped] = [at for at, message in run.asked if isinstance(message, Interruption)]
    assert first.committed_at < stopped < second.committed_at

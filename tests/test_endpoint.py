"""How much silence ends a turn, by what the voice and the words say."""

from __future__ import annotations

import math

import pytest

from fusion.settings import Settings
from whisper_live.endpoint import EndpointPolicy

POLICY = EndpointPolicy.from_settings(
    Settings(wait_done=0.4, wait_unsure=0.9, wait_unfinished=1.6, wait_longest=2.5)
)


@pytest.mark.parametrize(
    ("probability", "text", "silence"),
    [
        (0.9, "How old is it?", 0.4),
        (0.9, None, 0.4),
        (0.9, "How old is the", 0.9),
        (0.9, "", 1.6),
        (0.1, "", 1.6),
        (0.1, "How old is it?", 0.9),
        (0.1, "How old is the", 1.6),
        (None, "How old is it?", 0.9),
        (None, None, 0.9),
        (None, "How old is the", 1.6),
        (None, "", 1.6),
    ],
)
def test_a_turn_ends_after(probability: float | None, text: str | None, silence: float) -> None:
    assert POLICY.required_silence(probability, text) == silence


def test_a_verdict_that_is_late_holds_nobody_up_for_longer_than_doubt_does() -> None:
    for text in ("How old is it?", "How old is the", None):
        late = POLICY.required_silence(None, text)
        assert late <= POLICY.required_silence(0.1, text)


def test_what_a_client_chose_ends_a_turn() -> None:
    assert POLICY.ended_by("silence", 0.5).required_silence(None, "How old is the") == 0.5
    assert POLICY.ended_by("none", 0.5).required_silence(0.9, "How old is it?") == math.inf
    assert POLICY.ended_by("semantic", 4.0).required_silence(0.1, "How old is the") == 4.0
    assert POLICY.ended_by("semantic", 4.0).required_silence(0.9, "How old is it?") == 0.4

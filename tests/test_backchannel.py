"""Which words only show that somebody listens, which answer, and which stop the machine."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from whisper_live.backchannel import is_answer, is_backchannel, is_command

# A machine that others use as well is slow at times; that is no failure.
patient = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])


@pytest.mark.parametrize(
    "transcript",
    [
        *("Mm-hm.", "mmhmm", "Mhm", "Hmm.", "Uh-huh.", "uh huh", "Um...", "Ah!", "Oh.", "Aha."),
        *("Yeah.", "yeah, yeah", "Yep", "Yes.", "Okay.", "OK", "Okay, right.", "Right.", "Sure."),
        *("I see.", "Oh, I see.", "Got it.", "All right.", "Wow, cool!", "Haha", "Ha ha ha."),
        *("(coughs)", "[BLANK_AUDIO]", "*laughs*", "(music) [inaudible]", "♪ ♪", "♪ la la la ♪"),
        *("", " ", "...", "Thank you.", "Thanks for watching!", "you", "(coughing) Mm-hm."),
    ],
)
def test_listening_sounds_do_not_interrupt(transcript: str) -> None:
    assert is_backchannel(transcript)


@pytest.mark.parametrize(
    "transcript",
    [
        *("Stop.", "No.", "Wait", "Hold on.", "What?", "Why?", "Hello?", "Okay, stop."),
        *("Yeah, but how old is it?", "Right, and who built it?", "I see the bridge.", "Is it?"),
        *("Thank you, that is enough.", "(coughs) How long is it?", "You are wrong", "Okay Google"),
        *("Sure thing, tell me more", "So what?", "The bridge", "Oh no", "Hmm, I do not think so"),
    ],
)
def test_words_that_mean_something_interrupt(transcript: str) -> None:
    assert not is_backchannel(transcript)


@pytest.mark.parametrize(
    "transcript",
    [
        *("Yes.", "Yeah", "Okay.", "Sure.", "Right.", "Of course.", "Exactly.", "Yes, of course."),
        *("Oh, okay.", "Um, yes.", "Thank you.", "Bye.", "(coughs) Yes.", "I see.", "Okay, bye."),
    ],
)
def test_short_answers_are_answers(transcript: str) -> None:
    assert is_answer(transcript)
    assert is_answer(transcript, to_question=True)


@pytest.mark.parametrize("transcript", ["Mm-hm.", "uh-huh", "Mhm", "Aha.", "mm hm"])
def test_a_hum_answers_a_question_alone(transcript: str) -> None:
    assert is_answer(transcript, to_question=True)
    assert not is_answer(transcript)


@pytest.mark.parametrize(
    "transcript",
    ["", "...", "(coughs)", "Um.", "Ah!", "you", "The", "so", "Thanks for watching!", "Haha"],
)
def test_noise_answers_nothing(transcript: str) -> None:
    assert not is_answer(transcript)
    assert not is_answer(transcript, to_question=True)


def test_a_loop_of_hums_is_read_in_one_way() -> None:
    """With two ways to read each pair, 40 pairs would take until the end of days."""
    assert is_backchannel("mm hm uh huh " * 40)
    assert not is_backchannel("mm hm uh huh " * 40 + "bridge")


def test_a_command_is_short() -> None:
    assert is_command("No, stop.")
    assert is_command("Hold on")
    assert not is_command("Ashoka was a brilliant and just ruler. No.")


@patient
@given(st.text())
def test_nothing_without_a_letter_or_digit_interrupts(text: str) -> None:
    decomposed = unicodedata.normalize("NFKD", text)
    assert is_backchannel("".join(c for c in decomposed if not c.isalnum()))

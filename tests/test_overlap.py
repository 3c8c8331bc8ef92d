"""Speech over the machine, by its words and their time."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from whisper_live.activity import FRAME_SECONDS
from whisper_live.overlap import MachineSpeech, Microphone, OverlapDetector, Verdict, is_question

MINIMUM = 0.4
TEA = "It is five o'clock. Would you like some tea?"
STORY = "The Brooklyn Bridge was opened in 1883 and connects Manhattan with Brooklyn."
SPEAKING = MachineSpeech(active=True, words=STORY, silent_from=math.inf)


def silent(words: str, asked: bool = True) -> MachineSpeech:
    """The machine after its last sound, which ended at 10.0."""
    asked_until = 10.0 if asked else -math.inf
    return MachineSpeech(active=False, words=words, silent_from=10.0, asked_until=asked_until)


def listening(microphone: Microphone = Microphone.UNKNOWN) -> OverlapDetector:
    detector = OverlapDetector(MINIMUM)
    detector.microphone = microphone
    return detector


def decide(
    text: str,
    machine: MachineSpeech,
    began: float,
    *,
    microphone: Microphone = Microphone.UNKNOWN,
    complete: bool = True,
    speech: float = 0.5,
) -> Verdict:
    """The verdict on one utterance, noticed as soon as it can be."""
    detector = listening(microphone)
    detector.notice(1, machine, began + 2 * FRAME_SECONDS)
    return detector.decide(1, text, speech, machine, complete=complete)


def test_speech_in_silence_overlaps_nothing() -> None:
    detector = listening()
    detector.notice(1, MachineSpeech(active=False), 10.0)
    assert not detector.overlaps(1)


def test_a_decided_turn_overlaps_no_longer() -> None:
    detector = listening()
    detector.notice(1, SPEAKING, 10.0)
    assert detector.overlaps(1)
    detector.decide(1, "Stop!", 0.5, SPEAKING)
    assert not detector.overlaps(1)


@pytest.mark.parametrize("text", ["Yes.", "Okay.", "Sure.", "Right.", "Of course.", "Exactly."])
@pytest.mark.parametrize("after", [0.05, 0.3, 0.6])
@pytest.mark.parametrize("asked", [True, False])
@pytest.mark.parametrize("microphone", list(Microphone))
def test_a_short_word_after_the_last_sound_is_an_answer(
    text: str, after: float, asked: bool, microphone: Microphone
) -> None:
    machine = silent(TEA, asked)
    assert decide(text, machine, 10.0 + after, microphone=microphone) is Verdict.ADDRESSED


@pytest.mark.parametrize("text", ["Yes.", "Okay.", "Right.", "Thank you.", "Mm-hm.", "you"])
def test_a_short_word_during_a_reply_is_a_backchannel(text: str) -> None:
    assert decide(text, SPEAKING, 5.0) is Verdict.BACKCHANNEL


@pytest.mark.parametrize(
    ("began", "verdict"),
    [
        (4.0, Verdict.BACKCHANNEL),  # the question had just begun
        (4.8, Verdict.ADDRESSED),  # over its last syllable
        (6.0, Verdict.ADDRESSED),  # while the machine goes on
        (11.0, Verdict.BACKCHANNEL),  # long after it
    ],
)
def test_yes_to_a_question_asked_is_an_answer_while_the_machine_goes_on(
    began: float, verdict: Verdict
) -> None:
    words = "Would you like some tea? I could make coffee as well, or hot chocolate."
    machine = MachineSpeech(active=True, words=words, silent_from=math.inf, asked_until=5.0)
    assert decide("Yes.", machine, began) is verdict
    assert decide("Yes.", machine, began, complete=False) is Verdict.BACKCHANNEL


@pytest.mark.parametrize("microphone", list(Microphone))
@pytest.mark.parametrize("began", [9.7, 10.0, 10.2])
@pytest.mark.parametrize(
    ("text", "words"),
    [("Okay.", "I will open the window. Is that okay?"), ("Right?", "You are at home, right?")],
)
def test_its_own_last_word_is_no_answer(
    microphone: Microphone, began: float, text: str, words: str
) -> None:
    assert decide(text, silent(words), began, microphone=microphone) is Verdict.ECHO


def test_a_quiet_microphone_has_no_echo_so_late() -> None:
    machine = silent("I will open the window. Is that okay?")
    assert decide("Okay.", machine, 10.5, microphone=Microphone.QUIET) is Verdict.ADDRESSED


def test_a_word_that_was_said_long_ago_is_no_echo() -> None:
    machine = silent("Okay, I can do that. The kettle is on the stove. Would you like some tea?")
    assert decide("Okay.", machine, 10.2) is Verdict.ADDRESSED


def test_a_hum_answers_a_question_alone() -> None:
    assert decide("Mm-hm.", silent(TEA), 10.2) is Verdict.ADDRESSED
    assert decide("Mm-hm.", silent(STORY, asked=False), 10.2) is Verdict.BACKCHANNEL


def test_a_pause_after_a_short_answer_is_enough_where_nothing_is_interrupted() -> None:
    detector = listening()
    detector.notice(1, silent(TEA), 10.3)
    assert detector.answers_at_once(1, "Yes.")
    assert not detector.overlaps(1)
    detector.notice(2, SPEAKING, 20.0)
    assert not detector.answers_at_once(2, "Yes.")


@pytest.mark.parametrize(
    ("microphone", "transcripts"),
    [(Microphone.QUIET, 1), (Microphone.UNKNOWN, 2), (Microphone.ECHOING, 3)],
)
def test_how_often_words_must_differ_depends_on_the_microphone(
    microphone: Microphone, transcripts: int
) -> None:
    detector = listening(microphone)
    detector.notice(1, SPEAKING, 10.0)
    text = "please tell me about the weather"
    verdicts = [detector.decide(1, text, 1.0, SPEAKING) for _ in range(transcripts)]
    assert verdicts == [Verdict.UNDECIDED] * (transcripts - 1) + [Verdict.ADDRESSED]


def test_an_echo_in_between_starts_the_count_anew() -> None:
    detector = listening()
    detector.notice(1, SPEAKING, 10.0)
    foreign, echo = "please tell me about the weather", "the Brooklyn Bridge was opened in"
    verdicts = [detector.decide(1, text, 1.0, SPEAKING) for text in (foreign, echo, foreign)]
    assert verdicts == [Verdict.UNDECIDED, Verdict.ECHO, Verdict.UNDECIDED]
    assert detector.microphone is Microphone.ECHOING


@pytest.mark.parametrize(
    ("text", "speech", "verdict"),
    [
        ("Stop!", 0.1, Verdict.UNDECIDED),
        ("Stop!", 0.4, Verdict.ADDRESSED),
        ("Weather", 0.4, Verdict.UNDECIDED),
    ],
)
def test_an_interruption_takes_some_speech(text: str, speech: float, verdict: Verdict) -> None:
    assert decide(text, SPEAKING, 5.0, complete=False, speech=speech) is verdict
    assert decide(text, SPEAKING, 5.0, speech=speech) is Verdict.ADDRESSED


def test_a_microphone_is_quiet_once_it_was_so_for_long_enough() -> None:
    detector = listening()
    for _ in range(40):
        detector.listen(sounding=True, speech=False)
    detector.listen(sounding=True, speech=True)
    for _ in range(46):
        detector.listen(sounding=True, speech=False)
        detector.listen(sounding=False, speech=True)
    assert detector.microphone is Microphone.UNKNOWN
    detector.listen(sounding=True, speech=False)
    assert detector.microphone is Microphone.QUIET


@pytest.mark.parametrize(
    ("clause", "asks"),
    [("Is it?", True), ('He asked "why?"', True), ("好吗？", True), ("It is.", False), ("", False)],
)
def test_a_question_has_its_mark(clause: str, asks: bool) -> None:
    assert is_question(clause) is asks


@given(st.text(max_size=40), st.text(max_size=80), st.floats(5.0, 15.0), st.booleans())
def test_a_complete_utterance_is_decided(text: str, words: str, began: float, active: bool) -> None:
    machine = MachineSpeech(active=active, words=words, silent_from=10.0, asked_until=10.0)
    detector = listening()
    detector.notice(1, machine, began)
    if detector.overlaps(1):
        assert detector.decide(1, text, 0.5, machine, complete=True) is not Verdict.UNDECIDED

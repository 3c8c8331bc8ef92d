"""Is a transcript the machine's own voice coming back?"""

from __future__ import annotations

import string
import unicodedata

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from whisper_live.backchannel import COMMANDS
from whisper_live.echo import is_echo
from whisper_live.words import plain_words

# A machine that others use as well is slow at times; that is no failure.
patient = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])

SPEECH = (
    "The Brooklyn Bridge is a suspension bridge in New York City. It was opened in 1883, and it "
    "connects Manhattan with Brooklyn across the East River. About 120,000 vehicles and many "
    "people on foot cross it every day, and the view of the harbour is one of the best in town."
)
WORDS = SPEECH.split()


@pytest.mark.parametrize(
    "transcript",
    [
        "The Brooklyn Bridge is a suspension bridge in New York City.",
        "the brooklin bridge is a suspension bridge",
        "It was open in 1883 and it connects",
        "connects Manhatten with Brooklyn across the east reaver",
        "About 120,000 vehicles and people on foot cross it",  # "many" was missed
        "bridge in New York. It was opened in 1883",  # so was "City"
        "Suspension bridge.",
        "Manhattan",
        "cross it every day and the view of the harbor",
        "lyn Bridge is a suspension bri",
    ],
)
def test_own_words_are_an_echo(transcript: str) -> None:
    assert is_echo(transcript, SPEECH)


@pytest.mark.parametrize(
    "transcript",
    [
        *("How old is it?", "What is it?", "Who built the Brooklyn Bridge?", "Is it far?"),
        *("How many people cross it every day?", "When was it opened?", "What about the view?"),
        *("And how long is the bridge?", "Tell me about the Golden Gate Bridge instead."),
        *("Can I cross the bridge on foot?", "What is the best view of the harbour in town?"),
        *("Stop.", "Wait, wait.", "No", "Hold on", "Never mind.", "Hey", "It was opened, stop."),
        *("Is it a suspension bridge in Boston?", "Many people on foot or on a horse?"),
        *("Queens", "Yes please", "Go on", "What", "cold city", "Thanks", "and you", "again"),
        *("Is the city in the view of the river and of the day on it?", "", "..."),
        "town in best the of one is harbour the of view the",  # the words, in another order
    ],
)
def test_other_words_are_no_echo(transcript: str) -> None:
    assert not is_echo(transcript, SPEECH)


def test_a_command_is_no_echo_although_the_machine_says_it() -> None:
    assert not is_echo("stop", "The next stop is Jay Street.")
    assert is_echo("the next stop is Jay Street", "The next stop is Jay Street.")


def test_numbers_and_symbols_are_compared_as_said() -> None:
    assert is_echo("three parts", "It has 3 parts and fifty % of them.")
    assert is_echo("fifty percent", "It has 3 parts and fifty % of them.")


@pytest.mark.parametrize("growing", [False, True])
def test_a_persons_words_within_the_echo_are_noticed(growing: bool) -> None:
    """The microphone hears both, and most of the words are the machine's."""
    transcript = (
        "The Brooklyn Bridge is a suspension bridge in New York City. It was opened in 1883, "
        "would you please turn on the living room lamp now"
    )
    assert not is_echo(transcript, SPEECH, growing=growing, likely=True)


def test_a_long_echo_is_one_and_hides_nobody() -> None:
    story = " ".join(f"the {one} king met a {two} ship" for one in WORDS[:25] for two in WORDS[:25])
    transcript = " ".join(story.split()[-400:])
    assert is_echo(transcript, story, growing=True)
    assert not is_echo(f"{transcript} would you please turn on the living room lamp now", story)


def test_an_echo_that_repeats_itself_is_one() -> None:
    once = "Music has the ability to heal."
    assert is_echo(" ".join([once] * 9), f"It is a language. {once} {once}")


def test_the_last_word_of_a_growing_echo_may_be_a_bad_guess() -> None:
    transcript = "It was opened in 1883 and it connects my hat in with No."
    assert is_echo(transcript, SPEECH, growing=True)
    assert not is_echo(transcript, SPEECH)


def test_nothing_is_an_echo_of_silence() -> None:
    assert not is_echo("How old is it?", "")


@st.composite
def echoes(draw: st.DrawFn) -> str:
    """A run of spoken words in which up to every fifth letter is wrong."""
    first = draw(st.integers(0, len(WORDS) - 4))
    count = draw(st.integers(4, 20))
    letters = list(" ".join(WORDS[first : first + count]))
    for start in range(0, len(letters) - 4, 5):
        place = start + draw(st.integers(0, 4))
        if letters[place].isalpha() and draw(st.booleans()):
            letters[place] = draw(st.sampled_from(string.ascii_lowercase))
    echo = "".join(letters)
    # Wrong letters may make "hang" of "many": such a word always counts as somebody's.
    assume(COMMANDS.isdisjoint(plain_words(echo)))
    return echo


@patient
@given(echoes())
def test_a_run_of_words_with_wrong_letters_is_an_echo(transcript: str) -> None:
    assert is_echo(transcript, SPEECH)


@patient
@given(st.integers(0, len(WORDS) - 12), st.integers(1, 10))
def test_a_run_with_a_missed_word_is_an_echo(first: int, missed: int) -> None:
    run = WORDS[first : first + 12]
    assert is_echo(" ".join(run[:missed] + run[missed + 1 :]), SPEECH)


@patient
@given(st.lists(st.sampled_from(["zebra", "quick", "jumpy", "fox", "lazy", "pizza"]), min_size=1))
def test_foreign_words_are_no_echo(words: list[str]) -> None:
    assert not is_echo(" ".join(words), SPEECH)


@patient
@given(st.text(), st.text())
def test_any_text_is_compared(transcript: str, speaking: str) -> None:
    if is_echo(transcript, speaking):
        assert any(c.isalnum() or c in "&%" for c in unicodedata.normalize("NFKD", transcript))
        assert any(c.isalnum() or c in "&%" for c in unicodedata.normalize("NFKD", speaking))

"""Speech while the machine speaks, in a session's simulated world: barge-in, answers, echoes."""

from __future__ import annotations

import pytest

from fusion.messages import ClauseSpoken, Commit, Interruption, Speculation, Spoken
from tests.session_world import World


def test_barge_in_silences_the_machine_and_remembers_what_was_said() -> None:
    world = World(reply_seconds=6.0)
    world.speak(1.2)
    world.silence(2.5)
    assert any(isinstance(f.get("llm_output"), list) for f in world.told)
    world.speak(0.6, "no wait tell me the date")
    interruption = next(m for m in world.to_voice if isinstance(m, Interruption))
    assert interruption.turn == 1
    world.silence(3.0)
    assert Spoken("s", 1, "answer") in world.to_model
    assert [c.text for c in world.commits()] == ["what time is it", "no wait tell me the date"]
    spoken, second = (
        next(i for i, m in enumerate(world.to_model) if isinstance(m, Spoken)),
        next(i for i, m in enumerate(world.to_model) if isinstance(m, Commit) and m.turn == 2),
    )
    assert spoken < second


def test_where_echo_is_possible_words_must_differ_twice() -> None:
    """The first words of an echo are often wrong, so one transcript decides nothing."""
    world = World(reply_seconds=6.0)
    world.speak(1.2)
    world.silence(0.6)
    world.speak(0.45, "tell me the date")
    assert not any(isinstance(m, Interruption) for m in world.to_voice)
    world.speak(0.6, "tell me the date of today")
    assert any(isinstance(m, Interruption) for m in world.to_voice)


def test_a_quiet_microphone_hears_no_echo_in_a_word_or_two() -> None:
    world = World(reply_seconds=6.0)
    world.speak(1.2)
    world.silence(2.5)
    world.speak(0.3, "answer")
    world.speak(0.45, "tell me the date of today")
    assert any(isinstance(m, Interruption) for m in world.to_voice)


def test_words_within_its_echo_interrupt_it() -> None:
    world = World(reply_seconds=6.0)
    world.speak(1.2)
    world.silence(0.6)
    world.speak(1.0, "answer 1.1")
    assert not any(isinstance(m, Interruption) for m in world.to_voice)
    world.speak(2.0, "answer 1.1 would you please tell me the date")
    assert any(isinstance(m, Interruption) for m in world.to_voice)


def test_its_own_voice_does_not_interrupt_it() -> None:
    world = World()
    world.speak(1.2)
    world.silence(0.6)
    world.speak(1.5, "answer 1.1")
    world.silence(4.0)
    assert not any(isinstance(m, Interruption) for m in world.to_voice)
    assert len(world.commits()) == 1
    assert "answer 1.1" not in str(world.finals())


@pytest.mark.parametrize("words", ["Yes.", "Okay.", "Sure.", "Right.", "Of course.", "Exactly."])
@pytest.mark.parametrize("after", [0.05, 0.3, 0.6])
def test_a_short_answer_to_a_machine_that_fell_silent_is_a_turn(words: str, after: float) -> None:
    world = World()
    world.reply_text = "Would you like some tea?"
    world.speak(1.2)
    world.silence(0.6)
    world.silence_after_reply(after)
    world.speak(0.4, words)
    world.silence(3.0)
    assert [commit.text for commit in world.commits()] == ["what time is it", words]
    assert len(world.endings()[2]) == 1
    assert world.events("held") == []
    speculation = Speculation("s", 2, 1, words)
    assert world.to_model.index(speculation) < world.to_model.index(world.commits()[1])


def test_yes_to_a_question_asked_interrupts_what_the_machine_goes_on_to_say() -> None:
    world = World(reply_seconds=4.0)
    world.reply_text = "Would you like some tea?"
    world.speak(1.2)
    world.silence(1.5)
    world.say(ClauseSpoken("s", 1, "I could make coffee as well.", world.now))
    world.silence(0.5)
    world.speak(0.4, "Yes, please.")
    world.silence(3.0)
    assert any(isinstance(m, Interruption) for m in world.to_voice)
    assert [commit.turn for commit in world.commits()] == [1, 2]


def test_its_own_last_word_is_no_turn_and_held_with_the_reason() -> None:
    world = World()
    world.reply_text = "I will open the window. Is that okay?"
    world.speak(1.2)
    world.silence(0.6)
    world.silence_after_reply(-0.1)
    world.speak(0.3, "Okay.")
    world.silence(3.0)
    assert len(world.commits()) == 1
    assert [(e["reason"], e["text"]) for e in world.events("held")] == [("echo", "Okay.")]


def test_an_echo_is_one_however_late_its_transcript_is() -> None:
    """The last clause was spoken after the last live transcript, and is long over."""
    world = World(reply_seconds=3.0)
    world.reply_text = "The sky scatters the light of the sun."
    world.speak(1.2)
    world.silence(1.0)
    world.transcription = 5.0
    world.transcript = "The sky scatters the light of the sun. That is why everybody sees it blue."
    world.run(1.0, 0.95)
    world.say(ClauseSpoken("s", 1, "That is why everybody sees it blue.", world.now))
    world.silence(12.0)
    assert len(world.commits()) == 1
    assert [event["reason"] for event in world.events("held")] == ["echo"]


def test_a_backchannel_does_not_interrupt_and_is_held_with_the_reason() -> None:
    world = World()
    world.speak(1.2)
    world.silence(0.6)
    world.speak(0.4, "mm-hm")
    world.silence(4.0)
    assert not any(isinstance(m, Interruption) for m in world.to_voice)
    assert len(world.commits()) == 1
    assert [(e["reason"], e["text"]) for e in world.events("held")] == [("backchannel", "mm-hm")]


def test_barge_in_can_be_switched_off() -> None:
    world = World(barge_in=False)
    world.speak(1.2)
    world.silence(0.6)
    world.speak(1.0, "tell me something else entirely")
    world.silence(4.0)
    assert not any(isinstance(m, Interruption) for m in world.to_voice)
    assert len(world.endings()) == 2

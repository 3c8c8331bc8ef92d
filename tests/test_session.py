"""Session logic with a clock of its own: random speech, random timing, random failures."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fusion.messages import (
    ClauseSpoken,
    Commit,
    ReplyEnded,
    ReplyFailed,
    ReplyText,
    ReplyThinking,
    Speculation,
    SpeechEnded,
    SpeechStarted,
    Spoken,
    Withdrawal,
)
from fusion.settings import Settings
from tests.session_world import World
from whisper_live.activity import FRAME_SECONDS
from whisper_live.session import UNRECOGNISED


def test_a_question_is_answered_with_work_done_ahead() -> None:
    world = World()
    world.speak(1.2)
    world.silence(3.0)
    speculations = [m for m in world.to_model if isinstance(m, Speculation)]
    assert [p.text for p in speculations] == ["what time is it"]
    assert world.to_model.index(speculations[0]) < world.to_model.index(world.commits()[0])
    assert [f["llm_output"] for f in world.endings()[1]] == [["answer 1.1"]]
    assert any(f.get("event") == "timeline" and f["used_ahead"] is True for f in world.told)
    assert world.timeline()["commit"] < 1000 * Settings().wait_done + 50


def test_speech_that_resumes_withdraws_the_revision() -> None:
    world = World(done=0.1)
    world.speak(1.0, "can i have")
    world.silence(0.6)
    world.speak(0.8, "can i have a coffee")
    world.done = 0.95
    world.silence(3.0)
    assert any(isinstance(m, Withdrawal) and m.revision == 1 for m in world.to_model)
    assert any(isinstance(m, Withdrawal) and m.revision == 1 for m in world.to_voice)
    assert [c.text for c in world.commits()] == ["can i have a coffee"]
    assert world.endings()[1][0]["llm_output"] == ["answer 1.2"]
    assert "answer 1.1" not in str(world.told)


def test_no_words_are_no_turn() -> None:
    world = World()
    world.speak(0.6, "")
    world.silence(3.0)
    assert world.commits() == []
    assert world.finals() == []


def test_a_click_is_no_utterance() -> None:
    world = World()
    world.run(FRAME_SECONDS, 0.9)
    world.silence(1.0)
    world.run(2 * FRAME_SECONDS, 0.9)
    world.silence(1.0)
    assert world.to_model == []


def test_a_click_after_the_last_word_delays_nothing() -> None:
    world = World()
    world.speak(1.0)
    world.silence(0.3)
    world.run(3 * FRAME_SECONDS, 0.9)
    world.silence(0.6)
    assert [c.revision for c in world.commits()] == [1]
    assert world.timeline()["commit"] < 1000 * Settings().wait_done + 50


def test_nothing_is_decided_while_a_sound_may_be_the_next_word() -> None:
    world = World()
    world.speak(1.0, "can i have")
    world.silence(0.35)
    world.speak(0.7, "can i have a coffee")
    world.silence(2.0)
    assert [c.text for c in world.commits()] == ["can i have a coffee"]


def test_a_client_that_stops_sending_in_a_short_sound_is_answered() -> None:
    world = World()
    world.speak(1.0)
    world.silence(0.3)
    world.run(2 * FRAME_SECONDS, 0.9)
    world.run(3.0)
    assert len(world.endings()[1]) == 1


def test_smart_turn_holds_an_unfinished_turn_open_but_not_for_ever() -> None:
    world = World(done=0.05)
    world.speak(1.0, "can i have a")
    world.silence(1.5)
    assert world.commits() == []
    world.silence(1.5)
    assert len(world.commits()) == 1


def test_a_client_that_stops_sending_is_answered() -> None:
    world = World()
    world.speak(1.0)
    world.run(3.0)
    assert len(world.endings()[1]) == 1


def test_without_speculative_generation_nothing_is_made_early() -> None:
    world = World(speculative_generation=False)
    world.speak(1.2)
    world.silence(3.0)
    assert not any(isinstance(m, Speculation) for m in world.to_model)
    assert len(world.endings()[1]) == 1


def test_a_silent_language_model_ends_in_an_error() -> None:
    world = World(reply_timeout=5.0)
    world.model_dies = True
    world.speak(1.2)
    world.silence(10.0)
    assert [f["status"] for f in world.endings()[1]] == ["ERROR"]


def test_a_restarted_language_model_is_asked_again_and_answers() -> None:
    world = World()
    world.model_dies = True
    world.speak(1.2)
    world.silence(1.0)
    world.model_dies = False
    # The question comes with its commit, so it is not part of what is handed over before.
    assert world.session.history() == ()
    world.take(world.session.language_model_restarted(world.now))
    world.say(ReplyEnded("s", 1, 1, "too late", world.now))
    world.silence(3.0)
    [first, again] = world.commits()
    assert (first.text, again.text) == ("what time is it", "what time is it")
    assert again.revision > first.revision
    assert [f["llm_output"] for f in world.endings()[1]] == [[f"answer 1.{again.revision}"]]
    assert again in world.to_voice
    assert world.session.history()[0] == ("user", "what time is it")


def test_a_language_model_that_dies_of_a_turn_twice_ends_it_in_one_error() -> None:
    world = World()
    world.model_dies = True
    world.speak(1.2)
    world.silence(1.0)
    for _ in range(3):
        world.take(world.session.language_model_restarted(world.now))
        world.silence(1.0)
    assert [f.get("status") for f in world.endings()[1]] == ["ERROR"]
    assert len(world.commits()) == 2
    assert world.session.history() == ()  # or it would stand twice in the next prompt
    world.model_dies = False
    world.speak(1.0, "hello again my friend")
    world.silence(3.0)
    assert len(world.endings()) == 2


def test_a_restarted_voice_says_what_did_not_sound() -> None:
    world = World(listens=False)
    world.reply_text = "It is noon. And it is late."
    world.speak(1.2)
    world.silence(1.0)
    revision = world.commits()[0].revision
    world.say(SpeechStarted("s", 1, world.now, world.now))
    world.say(ClauseSpoken("s", 1, "It is noon.", world.now))
    world.say(ClauseSpoken("s", 1, " And it is late.", world.now))
    world.to_voice.clear()
    world.take(world.session.voice_restarted(world.now))
    kinds = [type(message) for message in world.to_voice]
    assert kinds == [Commit, ReplyText, ReplyEnded]
    text = world.to_voice[1]
    assert isinstance(text, ReplyText)
    assert (text.revision, text.text) == (revision + 1, " And it is late.")
    # Twice, as the voice itself leaves out a clause that has ended its process twice.
    world.take(world.session.voice_restarted(world.now))
    world.to_voice.clear()
    world.take(world.session.voice_restarted(world.now))
    assert world.to_voice == []


def test_a_voice_lost_before_the_commit_gets_the_text_from_the_session() -> None:
    world = World(listens=False)
    world.speak(1.2)
    world.silence(0.25)
    assert isinstance(world.to_model[-1], Speculation)
    world.take(world.session.voice_restarted(world.now))
    world.silence(1.0)
    revision = world.commits()[0].revision
    told = [(type(m), m.revision) for m in world.to_voice if not isinstance(m, Withdrawal)]
    again = revision + 1
    assert told == [(Commit, revision), (Commit, again), (ReplyText, again), (ReplyEnded, again)]


def test_what_grows_after_the_voice_was_restarted_comes_from_the_session_alone() -> None:
    world = World(listens=False)
    world.model_dies = True
    world.take(world.session.say("What time is it?", world.now))
    world.say(ReplyText("s", 1, 1, "It is noon.", world.now))
    world.take(world.session.voice_restarted(world.now))
    world.say(ReplyText("s", 1, 1, " And late.", world.now))
    world.say(ReplyEnded("s", 1, 1, "It is noon. And late.", world.now))
    texts = [m.text for m in world.to_voice if isinstance(m, ReplyText | ReplyEnded)]
    assert texts == ["It is noon.", " And late.", "It is noon. And late."]
    assert {m.revision for m in world.to_voice if isinstance(m, ReplyText | ReplyEnded)} == {2}


def test_a_reply_begun_anew_replaces_what_a_restarted_voice_was_given() -> None:
    world = World(listens=False)
    world.model_dies = True
    world.take(world.session.say("What time is it?", world.now))
    world.take(world.session.voice_restarted(world.now))
    world.take(world.session.language_model_restarted(world.now))
    assert [commit.revision for commit in world.commits()] == [1, 3]
    assert [m.revision for m in world.to_voice if isinstance(m, Commit)] == [1, 2, 3]
    world.say(ReplyText("s", 1, 3, "It is noon.", world.now))
    assert not any(isinstance(m, ReplyText) for m in world.to_voice)


def test_a_failed_reply_is_told() -> None:
    world = World()
    world.model_dies = True
    world.speak(1.2)
    world.silence(1.0)
    world.say(ReplyFailed("s", 1, 1, "It was too long."))
    assert [f["message"] for f in world.endings()[1]] == ["It was too long."]


@pytest.mark.parametrize("speculative_generation", [True, False])
def test_a_model_that_thinks_is_told_of_once_and_does_not_time_out(
    speculative_generation: bool,
) -> None:
    world = World(speculative_generation=speculative_generation, reply_timeout=5.0)
    world.model_dies = True
    world.speak(1.2)
    world.silence(0.2)
    assert world.events("thinking") == []
    for _ in range(12):
        world.say(ReplyThinking("s", 1, 1, world.now))
        world.silence(1.0)
    assert [event["turn"] for event in world.events("thinking")] == [1]
    assert not any(world.endings().values())
    world.say(ReplyText("s", 1, 1, "Yes.", world.now))
    world.say(ReplyEnded("s", 1, 1, "Yes.", world.now))
    assert [fields["llm_output"] for fields in world.endings()[1]] == [["Yes."]]


@pytest.mark.parametrize("speculative_generation", [True, False])
def test_words_that_the_recogniser_failed_on_are_told_once(
    speculative_generation: bool,
) -> None:
    world = World(speculative_generation=speculative_generation)
    world.recogniser_fails = True
    world.speak(1.2)
    world.silence(0.3)
    world.speak(1.0)
    world.silence(4.0)
    assert [f["message"] for f in world.endings()[1]] == [UNRECOGNISED]
    assert not world.commits()
    world.recogniser_fails = False
    world.speak(1.2)
    world.silence(3.0)
    assert len(world.endings()) == 2
    assert len(world.commits()) == 1


def test_a_failure_that_passed_before_the_turn_was_over_is_not_told() -> None:
    world = World()
    world.recogniser_fails = True
    world.speak(1.2)
    world.silence(0.1)
    world.recogniser_fails = False
    world.speak(1.0)
    world.silence(3.0)
    assert [f["llm_output"] for f in world.endings()[1]] == [["answer 1.2"]]


def test_long_speech_is_transcribed_whole_and_in_bounded_memory() -> None:
    world = World(done=0.1)
    longest = 0
    for _ in range(10):
        world.speak(8.0, "and so on")
        utterance = world.session._listener._utterance
        assert utterance is not None
        longest = max(longest, len(utterance.audio()))
    world.done = 0.95
    world.silence(3.0)
    assert longest <= 25 * 16_000
    assert len(world.finals()[0]["segments"]) >= 3
    assert world.commits()[0].text.count("and so on") >= 3


def test_a_reply_whose_listener_was_lost_is_remembered_as_far_as_it_was_played() -> None:
    world = World(reply_seconds=60.0)
    world.reply_text = "It is five. It is late."
    world.speak(1.2)
    world.silence(2.5)
    world.say(SpeechEnded("s", 1, "It is five.", world.now, broken_off=True))
    assert Spoken("s", 1, "It is five.") in world.to_model
    assert world.session.history()[-1] == ("assistant", "It is five.")
    assert len(world.endings()[1]) == 1
    world.silence(2.0)
    assert world.session.idle(world.now)


def test_text_that_comes_after_the_listener_was_lost_is_shown_and_not_remembered() -> None:
    world = World(first_token=5.0)
    world.speak(1.2)
    world.silence(1.5)
    world.say(SpeechStarted("s", 1, world.now, world.now))
    world.say(SpeechEnded("s", 1, "Well,", world.now, broken_off=True))
    world.silence(6.0)
    assert [fields["llm_output"] for fields in world.endings()[1]] == [["answer 1.1"]]
    assert world.session.history()[-1] == ("assistant", "Well,")


def test_a_reply_that_goes_on_after_its_connection_came_back_is_an_echo() -> None:
    world = World()
    world.reply_text = "It is five o'clock in the afternoon."
    world.speak(1.2)
    world.silence(0.6)
    world.silence_after_reply(3.0)
    world.say(SpeechStarted("s", 1, world.now, world.now))
    world.speak(1.5, "five o'clock in the afternoon")
    world.say(SpeechEnded("s", 1, "It is five o'clock in the afternoon.", world.now))
    world.silence(4.0)
    assert len(world.commits()) == 1
    assert [e["reason"] for e in world.events("held")] == ["echo"]


def test_typed_text_is_a_turn() -> None:
    world = World()
    world.take(world.session.say("hello", world.now))
    world.run(2.0)
    assert world.endings()[1][0]["llm_output"] == ["answer 1.1"]


def test_push_to_talk_ends_the_turn_at_once() -> None:
    world = World()
    world.speak(1.0)
    world.take(world.session.end_turn(world.now))
    world.run(0.3)
    assert len(world.commits()) == 1


SPEECH = st.tuples(st.just("speak"), st.floats(0.05, 4.0))
SILENCE = st.tuples(st.just("silence"), st.floats(0.03, 3.0))
NOTHING = st.tuples(st.just("nothing"), st.floats(0.03, 2.0))
OTHER = st.tuples(
    st.sampled_from(["model", "voice", "end_turn", "interrupt", "type"]), st.just(0.0)
)
STEPS = st.lists(st.one_of(SPEECH, SILENCE, NOTHING, OTHER), min_size=1, max_size=14)


@settings(max_examples=60, deadline=None)
@given(
    steps=STEPS,
    transcription=st.floats(0.01, 1.5),
    predicting=st.floats(0.01, 0.6),
    first_token=st.floats(0.01, 1.0),
    reply_seconds=st.floats(0.1, 4.0),
    done=st.sampled_from([0.05, 0.95]),
    listens=st.booleans(),
    speculative_generation=st.booleans(),
    barge_in=st.booleans(),
    correction=st.sampled_from(["", "these are other words", None, "never"]),
    longer_look=st.floats(0.01, 2.0),
)
def test_every_turn_ends_once_and_nothing_withdrawn_leaks(
    steps: list[tuple[str, float]],
    transcription: float,
    predicting: float,
    first_token: float,
    reply_seconds: float,
    done: float,
    listens: bool,
    speculative_generation: bool,
    barge_in: bool,
    correction: str | None,
    longer_look: float,
) -> None:
    world = World(
        transcription=transcription,
        predicting=predicting,
        first_token=first_token,
        reply_seconds=reply_seconds,
        done=done,
        listens=listens,
        speculative_generation=speculative_generation,
        barge_in=barge_in,
        reply_timeout=8.0,
    )
    world.doubts = correction != "never"
    world.correction, world.longer_look = correction, longer_look
    for count, (step, seconds) in enumerate(steps):
        if step == "speak":
            world.speak(seconds, f"these are the words number {count}")
        elif step == "silence":
            world.silence(seconds)
        elif step == "nothing":
            world.run(seconds)
        elif step == "model":
            world.take(world.session.language_model_restarted(world.now))
        elif step == "voice":
            world.take(world.session.voice_restarted(world.now))
        elif step == "end_turn":
            world.take(world.session.end_turn(world.now))
        elif step == "interrupt":
            world.take(world.session.interrupt(world.now))
        else:
            world.take(world.session.say(f"typed words number {count}", world.now))
    world.silence(25.0)

    # A turn is committed again, as a revision of its own, when the language model was lost.
    committed = list(dict.fromkeys(commit.turn for commit in world.commits()))
    endings = world.endings()
    assert committed == sorted(set(committed))
    assert sorted(endings) == committed
    assert all(len(ends) == 1 for ends in endings.values())
    assert [fields["turn"] for fields in world.finals()] == committed
    commit_of = {commit.turn: commit for commit in world.commits()}
    assert len(world.commits()) == len({(c.turn, c.revision) for c in world.commits()})
    assert len(world.commits()) <= 2 * len(committed)
    for fields in world.told:
        for text in fields.get("llm_output", []):
            turn = fields["turn"]
            revisions = {c.revision for c in world.commits() if c.turn == turn}
            answers = {f"answer {turn}.{revision}" for revision in revisions}
            assert text in {"", "answer", *answers}
    for message in world.to_voice:
        if isinstance(message, Withdrawal) and message.turn in commit_of:
            assert message.revision < commit_of[message.turn].revision
    assert world.session.idle(world.now)

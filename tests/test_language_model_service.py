"""The language model's service in a simulated world: who is answered, with what, and when not."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator, Sequence
from datetime import timedelta

import pytest

from fusion.errors import ModelError
from fusion.messages import (
    Interruption,
    Prefill,
    ReplyEnded,
    ReplyFailed,
    ReplyText,
    ReplyThinking,
    Speculation,
    Spoken,
    Withdrawal,
)
from language_models.base import THINKING, ChatMessage, Finish
from tests.language_model_world import PATIENCE, SYSTEM, ScriptedModel, World


@pytest.fixture
def world() -> Iterator[World]:
    world = World()
    world.start("a")
    yield world
    world.service.forget_all()


def contents(messages: Sequence[ChatMessage]) -> list[str]:
    return [message.content for message in messages]


# -- a turn and its reply ---------------------------------------------------------


def test_a_committed_turn_is_answered_piece_by_piece(world: World) -> None:
    world.commit("a", 1, 1, "How old is it?")
    reply = world.reply_to("How old is it?")
    reply.write("It was ", "opened ", "in 1883.").end()
    ended = world.until_sent(ReplyEnded, session="a", turn=1, revision=1)
    assert ended.text == world.text("a", 1) == "It was opened in 1883."
    assert contents(reply.request.messages) == [SYSTEM, "How old is it?"]


def test_the_next_prompt_has_what_was_said_before(world: World) -> None:
    world.commit("a", 1, 1, "How old is it?")
    world.reply_to("How old is it?").write("Very old.").end()
    world.until_sent(ReplyEnded, turn=1)
    world.commit("a", 2, 1, "And how long?")
    prompt = contents(world.reply_to("And how long?").request.messages)
    assert prompt == [SYSTEM, "How old is it?", "Very old.", "And how long?"]


def test_a_commit_adopts_the_reply_that_is_under_way(world: World) -> None:
    reply = world.speculate("a", 1, 1, "How old is it?").write("Very ")
    world.until_sent(ReplyText, text="Very")
    world.commit("a", 1, 1, "How old is it?")
    reply.write("old.").end()
    assert world.until_sent(ReplyEnded, turn=1).text == "Very old."
    assert len(world.model.replies) == 1


def test_a_commit_adopts_the_reply_that_is_complete(world: World) -> None:
    world.speculate("a", 1, 1, "How old is it?").write("Very old.").end()
    world.until_sent(ReplyEnded, turn=1)
    world.commit("a", 1, 1, "How old is it?")
    world.commit("a", 2, 1, "Why?")
    prompt = contents(world.reply_to("Why?").request.messages)
    assert prompt == [SYSTEM, "How old is it?", "Very old.", "Why?"]
    assert len(world.model.replies) == 2


def test_a_withdrawn_revision_is_never_heard_of_again(world: World) -> None:
    reply = world.speculate("a", 1, 1, "How old")
    world.tell(Withdrawal("a", 1, 1))
    reply.write("Very old.").end()
    world.until_running(0)
    assert world.sent == []
    world.speculate("a", 1, 2, "How old is it?").write("Very old.").end()
    assert world.until_sent(ReplyEnded).revision == 2


def test_a_newer_revision_takes_the_place_of_an_older_one(world: World) -> None:
    older = world.speculate("a", 1, 1, "How old")
    world.speculate("a", 1, 2, "How old is it?")
    assert older.cancellation.requested


def test_an_interrupted_reply_is_remembered_as_far_as_it_was_heard(world: World) -> None:
    world.commit("a", 1, 1, "Tell me a story.")
    reply = world.reply_to("Tell me a story.").write("Once upon ")
    world.until_sent(ReplyText)
    world.tell(Interruption("a", 1))
    reply.write("a time.").end()
    world.until_running(0)
    assert not any(isinstance(message, ReplyEnded) for message in world.sent)
    world.tell(Spoken("a", 1, "Once"))
    world.commit("a", 2, 1, "Go on.")
    prompt = contents(world.reply_to("Go on.").request.messages)
    assert prompt == [SYSTEM, "Tell me a story.", "Once", "Go on."]


def test_sessions_know_nothing_of_each_other(world: World) -> None:
    world.start("b", (("user", "My name is Ada."), ("assistant", "Hello Ada.")))
    world.commit("a", 1, 1, "What is my name?")
    world.commit("b", 1, 1, "Who am I?")
    world.reply_to("What is my name?").write("I do not know.").end()
    world.reply_to("Who am I?").write("Ada.").end()
    assert world.until_sent(ReplyEnded, session="a").text == "I do not know."
    assert world.until_sent(ReplyEnded, session="b").text == "Ada."
    assert "Hello Ada." in contents(world.reply_to("Who am I?").request.messages)
    assert "Hello Ada." not in contents(world.reply_to("What is my name?").request.messages)


def test_a_session_that_ended_is_told_nothing_more(world: World) -> None:
    world.commit("a", 1, 1, "How old is it?")
    reply = world.reply_to("How old is it?")
    world.end("a")
    reply.write("Very old.").end()
    world.until_running(0)
    world.commit("a", 2, 1, "Anybody there?")
    assert world.sent == []
    assert len(world.model.replies) == 1


def test_words_that_are_sure_are_read_ahead_and_answered_by_nobody(world: World) -> None:
    world.tell(Prefill("a", 1, "How old"))
    world.until(lambda: world.model.prefilled == ["How old"])
    world.until_running(0)
    assert world.sent == []


def test_the_time_that_a_turn_begins_with_stays_with_it(world: World) -> None:
    """All revisions of a turn begin alike, and so do all later prompts."""
    world.now += timedelta(minutes=5)
    world.tell(Speculation("a", 1, 1, "How"))
    world.reply_to("(It is now 3:45 PM.) How")
    world.now += timedelta(minutes=5)
    asked = "(It is now 3:45 PM.) How old"
    world.tell(Speculation("a", 1, 2, "How old"))
    world.reply_to(asked).write("Very old.").end()
    world.until_sent(ReplyEnded, turn=1, revision=2)
    world.commit("a", 1, 2, "How old")
    world.now += timedelta(seconds=10)
    world.commit("a", 2, 1, "Why?")
    prompt = contents(world.reply_to("(It is now 3:50 PM.) Why?").request.messages)
    assert prompt == [SYSTEM, asked, "Very old.", "(It is now 3:50 PM.) Why?"]


# -- failures ---------------------------------------------------------


def test_a_models_error_ends_its_turn_alone(world: World) -> None:
    world.start("b")
    world.commit("a", 1, 1, "How old is it?")
    world.commit("b", 1, 1, "And you?")
    world.reply_to("How old is it?").fail(ModelError("It broke off."))
    assert world.until_sent(ReplyFailed).reason == "It broke off."
    world.reply_to("And you?").write("Fine.").end()
    assert world.until_sent(ReplyEnded).session == "b"


def test_a_question_that_is_too_long_is_an_error_for_the_turn(world: World) -> None:
    world.model.count = lambda _: 10_000
    world.commit("a", 1, 1, "x" * 2000)
    assert "too long" in world.until_sent(ReplyFailed, turn=1).reason


@pytest.mark.parametrize(
    "error", [TypeError("no"), KeyError("delta"), AttributeError(), RuntimeError("CUDA"), OSError()]
)
def test_whatever_a_library_raises_ends_its_turn_alone(world: World, error: Exception) -> None:
    world.start("b")
    world.commit("a", 1, 1, "How old is it?")
    world.commit("b", 1, 1, "And you?")
    world.reply_to("How old is it?").write("Very ").fail(error)
    failed = world.until_sent(ReplyFailed)
    assert (failed.session, failed.turn) == ("a", 1)
    assert type(error).__name__ in failed.reason
    world.reply_to("And you?").write("Fine.").end()
    assert world.until_sent(ReplyEnded).session == "b"


def test_a_prefill_that_fails_is_no_matter(world: World) -> None:
    def fail(*_: object) -> None:
        raise TypeError("no")

    world.model.prefill = fail  # type: ignore[method-assign]
    world.tell(Prefill("a", 1, "How old"))
    world.until_running(0)
    world.commit("a", 1, 1, "How old is it?")
    world.reply_to("How old is it?").write("Very old.").end()
    world.until_sent(ReplyEnded, turn=1)
    assert not any(isinstance(message, ReplyFailed) for message in world.sent)


def test_a_count_that_fails_is_an_error_for_the_turn(world: World) -> None:
    def fail(_: object) -> int:
        raise TypeError("no")

    world.model.count = fail
    world.commit("a", 1, 1, "x" * 2000)
    assert "TypeError" in world.until_sent(ReplyFailed, turn=1).reason


# -- what of a model's text is said ---------------------------------------------------------------


def test_thinking_is_told_of_but_neither_shown_nor_remembered(world: World) -> None:
    world.commit("a", 1, 1, "How old is it?")
    reply = world.reply_to("How old is it?").write("<thi", "nk>Hm, ", "1883.")
    world.until_sent(ReplyThinking, session="a", turn=1, revision=1)
    reply.write("</thi", "nk>\n\n", "Very", " old.").end()
    assert world.until_sent(ReplyEnded).text == world.text("a", 1) == "Very old."
    world.commit("a", 2, 1, "Why?")
    prompt = contents(world.reply_to("Why?").request.messages)
    assert prompt == [SYSTEM, "How old is it?", "Very old.", "Why?"]


def test_thinking_apart_from_the_text_is_told_of_once_a_second(world: World) -> None:
    world.commit("a", 1, 1, "How old is it?")
    world.reply_to("How old is it?").write(*[THINKING] * 50, "Old.").end()
    assert world.until_sent(ReplyEnded).text == "Old."
    told = [message for message in world.sent if isinstance(message, ReplyThinking)]
    assert 1 <= len(told) < 20


@pytest.mark.parametrize(
    ("pieces", "finish", "reason"),
    [
        ([], Finish.STOP, "empty answer"),
        ([" ", "\n"], Finish.STOP, "empty answer"),
        (["Assistant:"], Finish.STOP, "empty answer"),
        ([THINKING], Finish.STOP, "gave no answer"),
        (["<think>hm</think>"], Finish.STOP, "gave no answer"),
        ([THINKING], Finish.LENGTH, r"all its 100 tokens on thinking.*--max_new_tokens"),
        (["<think>", "hm"], Finish.LENGTH, r"all its 100 tokens on thinking"),
    ],
)
def test_an_empty_reply_is_an_error_that_says_why(
    world: World, pieces: list[object], finish: Finish, reason: str
) -> None:
    world.commit("a", 1, 1, "How old is it?")
    world.reply_to("How old is it?").write(*pieces).end(finish)
    assert re.search(reason, world.until_sent(ReplyFailed, turn=1).reason)
    world.until_running(0)
    assert not any(isinstance(message, ReplyEnded) for message in world.sent)


def test_a_speculation_that_failed_is_tried_again_by_its_commit(world: World) -> None:
    world.speculate("a", 1, 1, "How old is it?").fail(ModelError("It broke off."))
    world.until_running(0)
    assert world.sent == []
    world.commit("a", 1, 1, "How old is it?")
    world.until(lambda: len(world.model.replies) == 2)
    world.model.replies[1].write("Very old.").end()
    assert world.until_sent(ReplyEnded).text == "Very old."


def test_a_reply_that_is_cut_ends_with_its_last_whole_sentence() -> None:
    world = World(max_new_tokens=8)
    world.start("a")
    world.commit("a", 1, 1, "How old is it?")
    pieces = ["It", " was", " opened", ".", " He", " lived", " in", " Par"]
    world.reply_to("How old is it?").write(*pieces).end(Finish.LENGTH)
    assert world.until_sent(ReplyEnded).text == world.text("a", 1) == "It was opened."


def test_a_repeated_sentence_stops_the_model(world: World) -> None:
    world.commit("a", 1, 1, "Who are you?")
    reply = world.reply_to("Who are you?").write("I am Emily. ", "I am Emily. ", "I am ")
    assert world.until_sent(ReplyEnded).text == world.text("a", 1) == "I am Emily."
    world.until_running(0)
    assert not reply.cancellation.requested


# -- whose turn it is ---------------------------------------------------------


def test_nobody_waits_for_the_counting_of_anothers_tokens(world: World) -> None:
    """A server may take a second to count: other people's messages are handled meanwhile."""
    counting, release = threading.Event(), threading.Event()

    def count(_: Sequence[ChatMessage]) -> int:
        counting.set()
        assert release.wait(PATIENCE)
        return 1

    world.start("b")
    reply = world.speculate("b", 1, 1, "Hello?")
    world.model.count = count
    world.commit("a", 1, 1, "x" * 2000)
    assert counting.wait(PATIENCE)
    handled = threading.Event()

    def interrupt() -> None:
        world.tell(Withdrawal("b", 1, 1))
        handled.set()

    threading.Thread(target=interrupt, daemon=True).start()
    try:
        assert handled.wait(5), "a withdrawal waits until another session's tokens are counted"
        assert reply.cancellation.requested
    finally:
        release.set()
    world.reply_to("x" * 2000).write("Long.").end()
    world.until_sent(ReplyEnded, session="a")


def test_what_a_prompt_forgot_stays_forgotten(world: World) -> None:
    world.start("b", tuple(("user", "a") if n % 2 == 0 else ("assistant", "b") for n in range(400)))
    world.model.count = lambda messages: 10 * len(messages)
    for turn, question in enumerate(("One?", "Two?"), 1):
        world.commit("b", turn, 1, question)
        world.reply_to(question).write("Yes.").end()
        world.until_sent(ReplyEnded, session="b", turn=turn)
    first, second = (world.reply_to(q).request.messages for q in ("One?", "Two?"))
    assert len(first) < 60
    assert second[: len(first)] == first, "the beginning stays, and so does the prompt cache"


def test_a_committed_turn_goes_before_speculation() -> None:
    world = World(ScriptedModel(max_concurrent=1))
    for session in ("a", "b"):
        world.start(session)
    ahead = world.speculate("a", 1, 1, "Perhaps?")
    world.commit("b", 1, 1, "Surely.")
    assert ahead.cancellation.requested
    world.reply_to("Surely.").write("Yes.").end()
    assert world.until_sent(ReplyEnded).session == "b"

"""What every language model promises, whichever library is behind it.

A test file of a library makes a class of its own from this one, and gives the fixture `model`:

    class TestContract(LanguageModelContract):
        library = "llama_cpp"

Whether the text is right is the business of each file.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence

import pytest

from fusion.errors import ModelError
from language_models.base import (
    Cancellation,
    ChatMessage,
    Finish,
    GenerationRequest,
    LanguageModel,
)

SYSTEM = ChatMessage("system", "You are a friendly voice assistant.")
STORY = "Tell me a long story about a king, a river and a bridge."
PATIENCE = 60.0


def conversation(*texts: str) -> tuple[ChatMessage, ...]:
    parts = zip(["user", "assistant"] * len(texts), texts, strict=False)
    return (SYSTEM, *(ChatMessage(role, text) for role, text in parts))  # type: ignore[arg-type]


def read(
    model: LanguageModel,
    messages: Sequence[ChatMessage],
    max_tokens: int = 12,
    cancellation: Cancellation | None = None,
    stop_after: int | None = None,
) -> tuple[str, Finish]:
    """A reply's text and why it ended; cancelled after so many pieces."""
    cancellation = cancellation or Cancellation()
    stream = model.stream(GenerationRequest(tuple(messages), max_tokens), cancellation)
    pieces: list[str] = []
    while True:
        try:
            piece = next(stream)
        except StopIteration as end:
            return "".join(pieces), end.value
        if isinstance(piece, str):
            pieces.append(piece)
        if len(pieces) == stop_after:
            cancellation.request()


class LanguageModelContract:
    library = ""
    too_many_words = 6000
    """Words that fit into no prompt."""

    def test_its_name_begins_with_its_library(self, model: LanguageModel) -> None:
        assert model.name.startswith(f"{self.library}: ")
        assert model.max_concurrent >= 1

    def test_it_warms_up_any_number_of_times(self, model: LanguageModel) -> None:
        model.warm_up()
        model.warm_up()

    def test_a_reply_comes_in_pieces_and_says_that_it_was_cut(self, model: LanguageModel) -> None:
        stream = model.stream(GenerationRequest(conversation(STORY), 12), Cancellation())
        pieces = []
        while True:
            try:
                pieces.append(next(stream))
            except StopIteration as end:
                finish = end.value
                break
        assert finish is Finish.LENGTH
        assert 2 <= len(pieces) <= 12
        assert all(isinstance(piece, str) and piece for piece in pieces)
        assert "\ufffd" not in "".join(map(str, pieces))

    def test_greedy_decoding_says_the_same_each_time(self, model: LanguageModel) -> None:
        assert read(model, conversation(STORY)) == read(model, conversation(STORY))

    def test_a_stream_cancelled_before_it_begins_says_nothing(self, model: LanguageModel) -> None:
        cancellation = Cancellation()
        cancellation.request()
        assert read(model, conversation(STORY), cancellation=cancellation) == ("", Finish.STOP)

    def test_a_cancelled_stream_ends_at_once_and_without_an_error(
        self, model: LanguageModel
    ) -> None:
        text, _ = read(model, conversation(STORY), 60, stop_after=2)
        whole, _ = read(model, conversation(STORY), 60)
        assert text
        assert len(text) < len(whole)
        assert whole.startswith(text)

    def test_a_stream_that_nobody_reads_on_keeps_nobody_waiting(self, model: LanguageModel) -> None:
        for _ in range(model.max_concurrent + 1):
            stream = model.stream(GenerationRequest(conversation(STORY), 60), Cancellation())
            next(stream)
            stream.close()
        assert read(model, conversation(STORY))[0]

    def test_a_cancellation_is_safe_after_the_end(self, model: LanguageModel) -> None:
        cancellation = Cancellation()
        assert read(model, conversation(STORY), cancellation=cancellation)[0]
        cancellation.request()
        cancellation.request()

    def test_several_are_answered_at_once(self, model: LanguageModel) -> None:
        texts: dict[str, str] = {}
        questions = [f"Tell me a story about {what}." for what in ("a fox", "a bear", "a crow")]

        def ask(question: str) -> None:
            texts[question] = read(model, conversation(question))[0]

        threads = [threading.Thread(target=ask, args=(question,)) for question in questions]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(PATIENCE)
        assert all(texts.get(question) for question in questions)

    def test_a_longer_conversation_has_more_tokens(self, model: LanguageModel) -> None:
        counts = [
            model.count_tokens(conversation(*texts))
            for texts in (["Hi"], ["Hi there"], ["Hi there", "Hello.", "How are you?"])
        ]
        assert counts == sorted(set(counts))
        assert counts[0] > 0
        assert model.count_tokens(conversation("Hi")) == counts[0]

    def test_a_prompt_without_a_system_message_is_one_too(self, model: LanguageModel) -> None:
        assert read(model, [ChatMessage("user", STORY)])[0]

    def test_reading_ahead_changes_no_word(self, model: LanguageModel) -> None:
        before = read(model, conversation(STORY))
        for words in ("Tell me", "Tell me a long story about a king, a"):
            model.prefill(conversation(words), Cancellation())
        assert read(model, conversation(STORY))[0].split()[:4] == before[0].split()[:4]

    def test_reading_ahead_may_be_cancelled_before_it_begins(self, model: LanguageModel) -> None:
        cancellation = Cancellation()
        cancellation.request()
        model.prefill(conversation(STORY), cancellation)
        assert read(model, conversation(STORY))[0]

    def test_a_prompt_that_does_not_fit_is_a_sentence(self, model: LanguageModel) -> None:
        with pytest.raises(ModelError) as failure:
            read(model, conversation("word " * self.too_many_words))
        assert "\n" not in str(failure.value)
        assert read(model, conversation(STORY))[0], "and the next reply comes"

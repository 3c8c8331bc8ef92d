"""The PyTorch model on CPU, with the default model's real weights out of its GGUF file."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from fusion.errors import ConfigurationError, ModelError
from fusion.models import lookup
from fusion.selection import Gpu
from fusion.settings import Settings
from language_models import transformers as subject
from language_models.base import Cancellation, ChatMessage, GenerationRequest
from language_models.llama_cpp import LlamaCpp
from language_models.transformers import TransformersModel, _pick, _without_system, load
from language_models.transformers_batch import Batch
from tests.language_model_contract import LanguageModelContract

# Reading the GGUF file takes a minute on a busy machine.
pytestmark = [pytest.mark.torch, pytest.mark.timeout(600)]

SYSTEM = ChatMessage("system", Settings().system_prompt)
LONG_TEXT = "The ferry crosses the river every hour of the day. " * 30

STORY = ChatMessage("user", "Write a long story about a king, a river and a bridge.")
LONG_REPLY = GenerationRequest((STORY,), max_tokens=100)


@pytest.fixture(scope="module")
def gguf() -> Path:
    defaults = Settings()
    return lookup.fetch("smollm2-135m", defaults.cache_folder)


@pytest.fixture(scope="module")
def model(gguf: Path) -> Iterator[TransformersModel]:
    model = load(Settings(transformers_model=str(gguf), max_clients=2))
    assert isinstance(model, TransformersModel)
    model.warm_up()
    yield model
    model.close()


def ask(*texts: str) -> tuple[ChatMessage, ...]:
    """A conversation: the person and the machine speak in turns."""
    roles = itertools.cycle(("user", "assistant"))
    return (SYSTEM, *(ChatMessage(role, text) for role, text in zip(roles, texts, strict=False)))


def reply(model: TransformersModel, *texts: str, max_tokens: int = 16) -> str:
    return "".join(model.stream(GenerationRequest(ask(*texts), max_tokens), Cancellation()))


class Reads:
    """The tokens that the model is given, one list for each piece of a prompt."""

    def __init__(self, batch: Batch, monkeypatch: pytest.MonkeyPatch) -> None:
        self.pieces: list[int] = []
        forward = batch._forward

        def counted(ids, positions, cache, **options):  # type: ignore[no-untyped-def]
            if cache is not batch._whole:
                self.pieces.append(ids.shape[1])
            return forward(ids, positions, cache, **options)

        monkeypatch.setattr(batch, "_forward", counted)


@pytest.fixture
def reads(model: TransformersModel, monkeypatch: pytest.MonkeyPatch) -> Reads:
    return Reads(model._worker._batch, monkeypatch)


def test_the_first_words_are_those_of_llama_cpp(model: TransformersModel, gguf: Path) -> None:
    other = LlamaCpp(gguf, Settings(max_clients=1))
    question = "What is the capital of France?"  # quantised weights may answer another number
    theirs = "".join(other.stream(GenerationRequest(ask(question), 16), Cancellation()))
    assert model.count_tokens(ask(question)) == other.count_tokens(ask(question))
    other.close()
    # llama.cpp computes with the quantised weights, so later words may differ.
    assert reply(model, question).split()[:8] == theirs.split()[:8]


def test_the_text_is_that_of_transformers_own_generate(model: TransformersModel) -> None:
    ids = model._encode(model._render(ask("Name three colours.")))
    whole = model._worker._batch._model.generate(
        torch.tensor([ids]), max_new_tokens=16, do_sample=False
    )
    assert reply(model, "Name three colours.") == model._decode(whole[0, len(ids) :].tolist())


def test_two_at_once_get_what_each_gets_alone(model: TransformersModel) -> None:
    questions = ("What is the capital of Italy?", "Tell me about the sea and its fish.")
    alone = [reply(model, question) for question in questions]
    together: dict[str, str] = {}
    arrivals: list[str] = []

    def run(question: str) -> None:
        request = GenerationRequest(ask(question), 16)
        for piece in model.stream(request, Cancellation()):
            together[question] = together.get(question, "") + piece
            arrivals.append(question)

    threads = [threading.Thread(target=run, args=(question,)) for question in questions]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    assert [together[question] for question in questions] == alone
    # Side by side, not one after the other.
    assert sum(a != b for a, b in itertools.pairwise(arrivals)) > 3


def test_more_jobs_than_slots_are_all_answered(model: TransformersModel) -> None:
    texts: list[str] = []
    threads = [
        threading.Thread(target=lambda: texts.append(reply(model, "Say yes.", max_tokens=3)))
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    assert len(texts) == 4
    assert len(set(texts)) == 1
    assert texts[0]


def test_cancelling_stops_within_a_token(model: TransformersModel) -> None:
    cancellation = Cancellation()
    pieces = []
    for piece in model.stream(LONG_REPLY, cancellation):
        pieces.append(piece)
        if len(pieces) == 3:
            cancellation.request()
    assert len(pieces) == 3
    wait_until_idle(model)
    assert reply_tokens_held(model) < 20


def test_cancelling_stops_the_reading_of_a_prompt(model: TransformersModel, reads: Reads) -> None:
    cancellation = Cancellation()
    threading.Timer(0.1, cancellation.request).start()
    request = GenerationRequest(ask(LONG_TEXT), 5)
    assert list(model.stream(request, cancellation)) == []
    wait_until_idle(model)
    assert sum(reads.pieces) < model.count_tokens(ask(LONG_TEXT)) / 2


def test_a_slot_is_never_written_by_two(
    model: TransformersModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A reply that is cancelled just when the next one is given its slot writes no more to it."""
    asked = ask(LONG_TEXT[:500])  # read in several pieces
    slots, older = model._worker._slots, Cancellation()
    take = slots.take

    def cancel_and_take(messages, cancellation):  # type: ignore[no-untyped-def]
        if cancellation is not older:
            older.request()
        return take(messages, cancellation)

    monkeypatch.setattr(slots, "take", cancel_and_take)
    stream = model.stream(GenerationRequest((*asked[:1], STORY, *asked[1:]), 100), older)
    next(stream)
    used = [slot for slot in slots.all if slot.user is older]
    "".join(model.stream(GenerationRequest(asked, 4), Cancellation()))
    assert [max(slots.all, key=lambda slot: slot.used_at)] == used, "another slot was taken"
    prompt = model._encode(model._render(asked))
    assert model._worker._batch._held[used[0].number][: len(prompt)] == prompt


def test_a_gpu_that_pytorch_cannot_use_is_told(
    model: TransformersModel, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(subject, "first_gpu", lambda: Gpu("NVIDIA GeForce RTX 5090", (12, 0)))
    monkeypatch.setattr(subject.torch.cuda, "is_available", lambda: False)
    with pytest.raises(ConfigurationError):
        load(Settings(transformers_model="/nowhere.gguf"))
    assert "cannot use the NVIDIA GeForce RTX 5090" in caplog.text


def test_a_stream_that_is_abandoned_ends(model: TransformersModel) -> None:
    stream = model.stream(LONG_REPLY, Cancellation())
    next(stream)
    stream.close()
    wait_until_idle(model)
    assert reply_tokens_held(model) < 20


def reply_tokens_held(model: TransformersModel) -> int:
    """How many tokens of `LONG_REPLY` were generated, in the slot that was used last."""
    used = max(model._worker._slots.all, key=lambda slot: slot.used_at)
    return model._worker._batch.length(used.number) - model.count_tokens(LONG_REPLY.messages)


def wait_until_idle(model: TransformersModel, seconds: float = 20.0) -> None:
    deadline = time.monotonic() + seconds
    while model._worker._running or model._worker._waiting:
        assert time.monotonic() < deadline, "a job still runs"
        time.sleep(0.02)


def test_a_next_turn_reads_only_what_is_new(model: TransformersModel, reads: Reads) -> None:
    first = "Is Oslo a city with many visitors in the cold winter?"
    answer = reply(model, first, max_tokens=6)
    reads.pieces.clear()
    reply(model, first, answer, "Why?", max_tokens=2)
    # The question, the template around it and the end of the answer: not the turn before.
    assert sum(reads.pieces) <= 16


def test_reused_tokens_do_not_change_the_reply(model: TransformersModel) -> None:
    talk = ("Is Rome an old city?", "Yes, it is very old.", "What can I see there?")
    reply(model, *talk[:1], max_tokens=4)
    reused = reply(model, *talk)
    model._worker._batch.forget()
    assert reply(model, *talk) == reused


def test_reading_ahead_leaves_only_the_last_words_to_read(
    model: TransformersModel, reads: Reads
) -> None:
    words = "My grandmother lived in a small town by the sea where the boats came in at dawn"
    whole = f"{words} every day. What could she see?"
    model.prefill(ask(words), Cancellation())
    assert sum(reads.pieces) > 10
    reads.pieces.clear()
    reply(model, whole, max_tokens=1)
    new = model.count_tokens(ask(whole)) - model.count_tokens(ask(words))
    # Besides the new words: the last one of those that were prefilled, and the template's end.
    assert sum(reads.pieces) <= new + 1 + 6


def test_characters_of_several_tokens_come_whole(model: TransformersModel) -> None:
    assert model.count_tokens(ask("👩")) > model.count_tokens(ask("a"))
    pieces = list(
        model.stream(
            GenerationRequest(ask("Repeat exactly: 日本語 🎉 👩‍👩‍👧‍👦 🎉🎉"), 16), Cancellation()
        )
    )
    assert any(ord(character) > 0xFFFF for character in "".join(pieces))
    assert "\ufffd" not in "".join(pieces)


def test_a_prompt_that_does_not_fit_is_a_sentence(model: TransformersModel) -> None:
    with pytest.raises(ModelError, match=r"has \d+ tokens.*holds 1023"):
        reply(model, LONG_TEXT * 4)


def test_a_failure_of_pytorch_is_told_and_survived(
    model: TransformersModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("CUDA out of memory")

    with monkeypatch.context() as broken:
        broken.setattr(model._worker._batch, "step", fail)
        with pytest.raises(ModelError, match="failed"):
            reply(model, "Hello?")
        batch = model._worker._batch
        assert not any(batch.length(slot) for slot in range(batch.slots))
    assert reply(model, "Hello?", max_tokens=3)


def test_closing_is_final(model: TransformersModel) -> None:
    weights = model._worker._batch._model
    model = TransformersModel(weights, model._tokenizer, Settings(max_clients=1))
    stream = model.stream(LONG_REPLY, Cancellation())
    next(stream)
    model.close()
    model.close()
    with pytest.raises(ModelError, match="closed"):
        for _ in stream:
            pass
    with pytest.raises(ModelError, match="closed"):
        next(model.stream(GenerationRequest(ask("Hello"), 5), Cancellation()))


def test_a_missing_model_is_one_sentence(tmp_path: Path) -> None:
    for source in (tmp_path / "missing.gguf", tmp_path):
        with pytest.raises(ConfigurationError, match="transformers_model"):
            load(Settings(transformers_model=str(source)))


def test_sampling_keeps_to_the_nucleus() -> None:
    logits = torch.log(torch.tensor([[0.5, 0.3, 0.15, 0.05]]))
    request = GenerationRequest(ask("?"), temperature=1.0, top_p=0.7)
    drawn = {_pick(logits, [request])[0] for _ in range(200)}
    assert drawn == {0, 1}
    assert _pick(logits, [GenerationRequest(ask("?"))]) == [0]


def test_a_template_without_a_system_part_gets_it_with_the_question() -> None:
    first, second = _without_system(ask("Hello?", "Yes?"))
    assert first == ChatMessage("user", f"{SYSTEM.content}\n\nHello?")
    assert second == ChatMessage("assistant", "Yes?")


class TestContract(LanguageModelContract):
    library = "transformers"

"""Whisper on TensorRT-LLM: what it makes of sound."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from fusion.audio import SAMPLE_RATE
from fusion.errors import ModelError
from tests.tensorrt_whisper.conftest import HIGH, LOW, MIDDLE, WORDS, hear, tone
from whisper_live.transcribers import guards
from whisper_live.transcribers.base import NOTHING_HEARD, TranscriptionRequest
from whisper_live.vad import DetectedSpeech

pytestmark = pytest.mark.torch


# -- one request ----------------------------------------------------------------------------------


def test_text_is_what_was_said(transcriber: Any, says: Any) -> None:
    says(LOW, " How old is it?", sure=0.9)
    (hypotheses,) = transcriber.transcribe([TranscriptionRequest(tone(LOW))])
    assert (hypotheses.text, hypotheses.language) == ("How old is it?", "en")
    assert hypotheses.no_speech == pytest.approx(0.01, abs=0.002)
    # The end of the text counts as a token, and it is as sure as the others.
    assert hypotheses.confidence == pytest.approx(np.log(0.9), abs=0.005)


def test_a_whole_window_and_none_at_all(transcriber: Any, says: Any, player: Any) -> None:
    says(LOW, " Yes, indeed.")
    whole = TranscriptionRequest(tone(LOW, 30.0))
    longer = TranscriptionRequest(tone(LOW, 31.0))
    assert hear(transcriber, whole, longer) == ["Yes, indeed."] * 2
    assert transcriber.transcribe([]) == []


def test_a_short_sound_gets_few_tokens(transcriber: Any, says: Any, player: Any) -> None:
    says(LOW, WORDS)
    assert len(hear(transcriber, TranscriptionRequest(tone(LOW, 0.2)))[0].split()) == 19
    (setup,) = player.contract.made("GenerationSession.setup")
    assert setup.arguments["max_new_tokens"] == 20


def test_the_engines_length_is_never_passed(transcriber: Any, says: Any, player: Any) -> None:
    says(LOW, " word", loops=True)
    hear(transcriber, TranscriptionRequest(tone(LOW, 30.0)))
    (setup,) = player.contract.made("GenerationSession.setup")
    assert setup.arguments["max_new_tokens"] == 100
    assert player.steps <= 100


# -- several requests -----------------------------------------------------------------------------


def test_windows_of_several_clients_share_one_encoder_call(
    transcriber: Any, says: Any, player: Any
) -> None:
    says(LOW, " The first one.")
    says(MIDDLE, " And this is a much longer second one, as it happens.")
    says(HIGH, " Third.")
    requests = [TranscriptionRequest(tone(f)) for f in (HIGH, LOW, MIDDLE, LOW)]
    assert hear(transcriber, *requests) == [
        "Third.",
        "The first one.",
        "And this is a much longer second one, as it happens.",
        "The first one.",
    ]
    (encoding,) = player.contract.made("Session.run")
    assert encoding.arguments["inputs"]["x"].shape == (4, 80, 3000)
    assert len(player.contract.made("GenerationSession.decode")) == 1


def test_a_short_row_is_as_sure_beside_a_long_one(transcriber: Any, says: Any) -> None:
    says(LOW, " Short.", sure=0.9)
    says(HIGH, " And this is a much longer second one, as it happens.")
    short, long = TranscriptionRequest(tone(LOW)), TranscriptionRequest(tone(HIGH))
    (alone,) = transcriber.transcribe([short])
    beside, _ = transcriber.transcribe([short, long])
    assert beside.confidence == pytest.approx(alone.confidence)


def test_a_loud_window_does_not_change_a_quiet_one(
    transcriber: Any, says: Any, player: Any
) -> None:
    """Each window's mel is scaled by its own loudest sound."""
    says(LOW, " Quiet.")
    says(HIGH, " Loud.")
    quiet, loud = TranscriptionRequest(tone(LOW) * 0.001), TranscriptionRequest(tone(HIGH))
    hear(transcriber, quiet)
    hear(transcriber, quiet, loud)
    alone, together = (
        call.arguments["inputs"]["x"][0] for call in player.contract.made("Session.run")
    )
    assert (alone == together).all()


def test_each_row_has_its_own_limit(transcriber: Any, says: Any) -> None:
    says(LOW, WORDS)
    short, long = (TranscriptionRequest(tone(LOW, seconds)) for seconds in (0.2, 2.0))
    lengths = [len(text.split()) for text in hear(transcriber, short, long)]
    assert lengths == [19, 46]


def test_prompts_of_unequal_length_are_decoded_apart(
    transcriber: Any, says: Any, player: Any
) -> None:
    says(LOW, " The first.")
    says(HIGH, " The second.")
    requests = (
        TranscriptionRequest(tone(LOW), context="Köln"),
        TranscriptionRequest(tone(HIGH)),
        TranscriptionRequest(tone(LOW)),
    )
    assert hear(transcriber, *requests) == ["The first.", "The second.", "The first."]
    shapes = [c.arguments["input_ids"].shape for c in player.contract.made("decode")]
    tokens = len(player.tokenizer.encode(" Köln"))
    assert shapes == [(2, 1), (1, tokens + 2)]


# -- context --------------------------------------------------------------------------------------


def test_a_context_is_cut_to_the_room_that_the_engine_has(
    transcriber: Any, says: Any, player: Any
) -> None:
    says(LOW, " Yes, indeed.")
    context = " ".join(f"word{n}" for n in range(30))
    hear(transcriber, TranscriptionRequest(tone(LOW), context=context))
    (decoding,) = player.contract.made("GenerationSession.decode")
    (ids,) = decoding.arguments["input_ids"].tolist()
    assert len(ids) == 14
    assert (ids[0], ids[-1]) == (player.tokenizer.sot_prev, player.tokenizer.sot)
    assert player.tokenizer.decode(ids[1:-1]).endswith("word29")


def test_a_special_token_in_a_context_is_text(transcriber: Any, says: Any, player: Any) -> None:
    says(LOW, " Yes, indeed.")
    odd = TranscriptionRequest(tone(LOW), context="a<|endoftext|>")
    assert hear(transcriber, odd, TranscriptionRequest(tone(LOW))) == ["Yes, indeed."] * 2
    prompt = player.contract.made("GenerationSession.decode")[1].arguments["input_ids"]
    assert player.tokenizer.eot not in prompt
    assert player.tokenizer.decode(prompt[0, 1:-1].tolist()) == " a<|endoftext|>"


def test_a_loop_is_heard_again_without_the_context(
    transcriber: Any, says: Any, player: Any
) -> None:
    says(LOW, " I know", loops_after_context=True)
    says(HIGH, " Fine, thank you.")
    requests = (
        TranscriptionRequest(tone(HIGH), context="so"),
        TranscriptionRequest(tone(LOW, 6.0), context="so"),
    )
    assert hear(transcriber, *requests) == ["Fine, thank you.", "I know"]
    assert len(player.contract.made("Session.run")) == 1
    prompts = [len(c.arguments["input_ids"][0]) for c in player.contract.made("decode")]
    assert prompts == [3, 1]


# -- languages ------------------------------------------------------------------------------------


@pytest.mark.parametrize("english", [False])
def test_language_and_task_are_of_each_request(transcriber: Any, says: Any, player: Any) -> None:
    says(LOW, " Guten Tag.", language="de")
    says(HIGH, " Bonjour.", language="fr")
    asked = [
        TranscriptionRequest(tone(LOW), language="de"),
        TranscriptionRequest(tone(LOW), language="en", task="translate"),
        TranscriptionRequest(tone(HIGH), language=None),
        TranscriptionRequest(tone(LOW), language=None),
    ]
    found = transcriber.transcribe(asked)
    assert [transcript.language for transcript in found] == ["de", "en", "fr", "de"]
    assert [t.text for t in found] == ["Guten Tag.", "Guten Tag.", "Bonjour.", "Guten Tag."]
    assert len(player.contract.made("decode")) == 1


@pytest.mark.parametrize("english", [False])
def test_the_header_is_whispers_own(library: ModuleType, transcriber: Any, player: Any) -> None:
    """Language, task and no timestamps are written before a word is."""
    import torch

    request = TranscriptionRequest(tone(LOW), language="de", task="translate")
    row = transcriber._row(request, 1)
    logits_processor = library.WhisperLogitsProcessor(player.tokenizer, [row], "cpu")
    written = []
    for step in range(3):
        logits = torch.randn(1, player.tokenizer.encoding.n_vocab)
        written.append(int(logits_processor(step, torch.zeros(1, 1), logits).argmax()))
    text = player.tokenizer.encoding.decode(written)
    assert text == "<|de|><|translate|><|notimestamps|>"


def test_an_english_model_knows_english(transcriber: Any, says: Any) -> None:
    says(LOW, " Hello there.")
    assert transcriber.languages == {"en"}
    (hypotheses,) = transcriber.transcribe([TranscriptionRequest(tone(LOW), language="de")])
    assert (hypotheses.text, hypotheses.language) == ("Hello there.", "en")


# -- words that nobody said -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "speech"),
    [
        (" Thanks for watching!", {"no_speech": 0.5}),
        (" Something or other", {"no_speech": 0.9, "sure": 0.3}),
        (" so", {"loops": True}),
    ],
)
def test_what_nobody_said_is_nothing(
    transcriber: Any, says: Any, text: str, speech: dict[str, Any]
) -> None:
    says(LOW, text, **speech)
    assert transcriber.transcribe([TranscriptionRequest(tone(LOW, 6.0))]) == [NOTHING_HEARD]


def test_a_phrase_that_loops_was_said_once(
    transcriber: Any, says: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    spoken = DetectedSpeech(seconds=0.4, certain=0.4, level=0.1)
    monkeypatch.setattr(guards, "detect_speech", lambda audio: spoken)
    says(LOW, " I know", loops=True)
    assert hear(transcriber, TranscriptionRequest(tone(LOW, 6.0))) == ["I know"]


def test_silence_is_not_even_encoded(transcriber: Any, says: Any, player: Any) -> None:
    says(LOW, " Yes, indeed.")
    silence = TranscriptionRequest(np.zeros(SAMPLE_RATE, np.float32))
    nothing = TranscriptionRequest(np.zeros(0, np.float32))
    assert hear(transcriber, silence, TranscriptionRequest(tone(LOW)), nothing) == [
        *("", "Yes, indeed.", "")
    ]
    (encoding,) = player.contract.made("Session.run")
    assert len(encoding.arguments["inputs"]["x"]) == 1
    assert transcriber.transcribe([silence]) == [NOTHING_HEARD]


# -- threads, cancellation, failure ---------------------------------------------------------------


def test_one_thread_owns_the_sessions(transcriber: Any, says: Any, player: Any) -> None:
    says(LOW, " Hello there.")
    request = TranscriptionRequest(tone(LOW))
    with ThreadPoolExecutor(4) as callers:
        texts = list(callers.map(lambda _: hear(transcriber, request), range(8)))
    assert texts == [["Hello there."]] * 8
    owners = {call.thread for call in player.contract.calls}
    assert len(owners) == 1
    assert threading.get_ident() not in owners


def test_cancellation_stops_at_the_next_token(transcriber: Any, says: Any, player: Any) -> None:
    says(LOW, " word", loops=True)
    cancelled = threading.Event()
    player.on_step = lambda step: cancelled.set() if step == 5 else None
    request = TranscriptionRequest(tone(LOW, 30.0))
    assert transcriber.transcribe([request], cancelled.is_set) == [NOTHING_HEARD]
    assert player.steps == 6


def test_what_is_cancelled_before_its_turn_is_not_encoded(transcriber: Any, player: Any) -> None:
    assert transcriber.transcribe([TranscriptionRequest(tone(LOW))], lambda: True) == [
        NOTHING_HEARD
    ]
    assert not player.contract.made("Session.run")


def test_a_failing_engine_is_a_model_error(transcriber: Any, says: Any, player: Any) -> None:
    says(LOW, " Hello there.")
    five = [TranscriptionRequest(tone(LOW))] * 5
    with pytest.raises(ModelError, match="outside the engine's profile"):
        transcriber.transcribe(five)
    player.encoder_runs = False
    with pytest.raises(ModelError, match="refused to run"):
        transcriber.transcribe(five[:1])
    player.encoder_runs = True
    assert hear(transcriber, five[0]) == ["Hello there."]


def test_a_lost_gpu_is_no_model_error(transcriber: Any, player: Any) -> None:
    """Only a new process has another: the thread that asked ends with it, and so does this one."""
    player.lost = "CUDA error: an illegal memory access was encountered"
    with pytest.raises(RuntimeError, match="illegal memory access"):
        transcriber.transcribe([TranscriptionRequest(tone(LOW))])


def test_an_engine_that_hangs_is_a_model_error(
    library: ModuleType, transcriber: Any, says: Any, player: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(library, "CALL_TIMEOUT", 0.2)
    says(LOW, " word", loops=True)
    hang = threading.Event()
    player.on_step = lambda step: hang.wait(10)
    with pytest.raises(ModelError, match=r"within 0\.2 s"):
        transcriber.transcribe([TranscriptionRequest(tone(LOW))])
    hang.set()
    assert transcriber.transcribe([TranscriptionRequest(tone(LOW))], lambda: True)
    assert player.steps == 1, "what nobody waits for any more was decoded on"


def test_closing_twice_is_fine_and_then_nothing_is_heard(transcriber: Any) -> None:
    transcriber.close()
    transcriber.close()
    with pytest.raises(ModelError, match="closed"):
        transcriber.transcribe([TranscriptionRequest(tone(LOW))])

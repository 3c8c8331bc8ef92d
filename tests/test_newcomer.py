"""A newcomer's walk: the real program, as somebody meets it who has read one page about it."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
import soxr

from benchmarks.simulated_user import SimulatedUser, person
from fusion.settings import Settings
from tests.model_servers import ANSWER, EMBEDDER, Model, StandIn, ollama
from tests.recordings import load
from tests.running import RunningServer
from voices import kokoro
from whisper_live.client import SAMPLE_RATE, Failure, Notice, ReplyText, Samples, Server, Sound

pytestmark = pytest.mark.e2e


def at(running: RunningServer) -> Server:
    return Server("127.0.0.1", running.transcription_port, running.speech_port)


def spanish(text: str) -> Samples:
    """A sentence as Kokoro says it, float32 at 16 kHz."""
    voice = kokoro.load(Settings())
    sound = np.concatenate(list(voice.synthesize(text, language="es")))
    voice.close()
    return soxr.resample(sound, voice.sample_rate, SAMPLE_RATE).astype(np.float32)


async def answered(someone: SimulatedUser, after: int = 0) -> ReplyText:
    """The reply to the next turn, once all of it was said."""
    reply = await someone.until(ReplyText, lambda r: r.final and (r.turn or 0) > after)
    await someone.until(Notice, lambda n: n.name == "reply_end" and n.turn == reply.turn)
    return reply


@pytest.fixture
def their_ollama(monkeypatch: pytest.MonkeyPatch) -> Iterator[StandIn]:
    """An Ollama of their own, on a port that its own variable names."""
    with StandIn(ollama, (EMBEDDER, Model("qwen3:4b"))) as stand_in:
        monkeypatch.setenv("OLLAMA_HOST", f"127.0.0.1:{stand_in.port}")
        monkeypatch.setenv("WHISPERFUSION_DISCOVER", "true")
        yield stand_in


async def test_the_model_that_they_run_answers_goes_away_and_comes_back(
    their_ollama: StandIn,
) -> None:
    answer, address = "".join(ANSWER), f"{their_ollama.base}/v1"
    with RunningServer(("--llm", "auto")) as running:
        assert f"with qwen3:4b at {address}, as Ollama runs here" in running.log
        async with person(at(running)) as someone:
            await someone.say(load("brooklyn_bridge"))
            reply = await someone.until(ReplyText, lambda r: r.final)
            assert reply.text == answer
            await someone.until(Notice, lambda n: n.name == "reply_end" and n.turn == reply.turn)
            asked = their_ollama.asked[-1]
            assert asked["messages"][-1]["content"] == "How old is the Brooklyn Bridge?"
            assert asked["reasoning_effort"] == "none"

            their_ollama.stop()
            await someone.conversation.command("say", text="Are you there?")
            failure = await someone.until(Failure, timeout=10.0)
            assert failure.message.startswith(f"The language model server at {address} cannot be")
            assert failure.message.endswith("start it again, then ask once more.")

            their_ollama.start()
            await someone.conversation.command("say", text="And now?")
            again = await someone.until(ReplyText, lambda r: r.final and r.turn != reply.turn)
            assert again.text == answer


async def test_who_speaks_spanish_and_then_english_is_answered_in_both(
    server: RunningServer,
) -> None:
    question = spanish("Buenos días, ¿cuál es la capital de España?")
    async with person(at(server), language="auto") as someone:
        await someone.say(question)
        first = await answered(someone)
        await someone.listen(1.0)
        await someone.say(load("what_time_is_it"))
        second = await answered(someone, first.turn or 0)
        languages = [
            (transcript.language, "capital" in transcript.text)
            for transcript in someone.committed()
        ]
        assert languages == [("es", True), ("en", False)]
        for reply in (first, second):
            assert [s for s in someone.of(Sound) if s.turn == reply.turn]
        assert someone.notices("left_out") == []


async def test_who_speaks_german_reads_the_answer_and_why(server: RunningServer) -> None:
    async with person(at(server), language="de") as someone:
        await someone.conversation.command("say", text="Was ist die Hauptstadt von Österreich?")
        reply = await answered(someone)
        assert reply.text
        told = someone.notices("left_out")[0].fields
        assert told["message"].startswith("There is no voice for German here: what is written")
        assert someone.of(Sound) == []

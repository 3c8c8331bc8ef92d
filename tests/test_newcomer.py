"""A newcomer's walk: the real program, as somebody meets it who has read one page about it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from benchmarks.simulated_user import person
from tests.model_servers import ANSWER, EMBEDDER, Model, StandIn, ollama
from tests.recordings import load
from tests.running import RunningServer
from whisper_live.client import Failure, Notice, ReplyText, Server

pytestmark = pytest.mark.e2e


def at(running: RunningServer) -> Server:
    return Server("127.0.0.1", running.transcription_port, running.speech_port)


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

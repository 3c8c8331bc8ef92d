"""The real program with its real models over real sockets."""

from __future__ import annotations

import asyncio
import json
import time
import urllib.request
from pathlib import Path

import numpy as np
import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed

from benchmarks.simulated_user import SimulatedUser, person
from tests.recordings import load
from tests.running import RunningServer
from whisper_live.client import Failure, Notice, ReplyText, Server, Sound, Transcript

pytestmark = pytest.mark.e2e


def at(running: RunningServer) -> Server:
    return Server("127.0.0.1", running.transcription_port, running.speech_port)


async def answered(someone: SimulatedUser, turns: int = 1) -> ReplyText:
    """Wait until so many turns are answered and spoken."""
    while len(someone.replies()) < turns:
        count = len(someone.replies())
        await someone.until(ReplyText, lambda r, seen=count: r in someone.replies()[seen:])
    reply = someone.replies()[turns - 1]
    await someone.until(Notice, lambda n: n.name == "reply_end" and n.turn == reply.turn)
    return reply


async def test_a_question_is_answered_aloud(server: RunningServer) -> None:
    async with person(at(server)) as someone:
        await someone.say(load("brooklyn_bridge"))
        reply = await answered(someone)
    assert [t.text for t in someone.committed()] == ["How old is the Brooklyn Bridge?"]
    assert len(someone.of(Transcript)) > len(someone.committed())
    assert "Brooklyn" in reply.text
    growing = someone.of(ReplyText, lambda r: not r.final)
    assert [r.text for r in growing] == sorted((r.text for r in growing), key=len)
    sound = np.concatenate([s.samples for s in someone.of(Sound)])
    assert len(sound) > 24_000
    assert 0.02 < np.abs(sound).max() <= 1.0
    timeline = someone.notices("timeline")[0].fields
    assert timeline["used_ahead"] is True
    assert all(value is not None for value in timeline["milliseconds"].values())
    end = someone.notices("reply_end")[0].fields
    assert end["spoken"] == reply.text


async def test_two_people_hear_and_read_only_their_own(server: RunningServer) -> None:
    async with person(at(server)) as one, person(at(server)) as two:
        await asyncio.gather(one.say(load("brooklyn_bridge")), two.say(load("meaning_of_life")))
        replies = await asyncio.gather(answered(one), answered(two))
    assert [t.text for t in one.committed()] == ["How old is the Brooklyn Bridge?"]
    assert [t.text for t in two.committed()] == ["What is the meaning of life?"]
    assert "Brooklyn" in replies[0].text
    assert "Brooklyn" not in replies[1].text
    for someone, reply in zip((one, two), replies, strict=True):
        assert [r.text for r in someone.replies()] == [reply.text]
        assert [n.fields["spoken"] for n in someone.notices("reply_end")] == [reply.text]


async def test_four_people_at_once_are_all_answered(server: RunningServer) -> None:
    questions = ["brooklyn_bridge", "meaning_of_life", "what_time_is_it", "swim_in_the_seine"]

    async def ask(question: str) -> str:
        async with person(at(server)) as someone:
            await someone.say(load(question))
            await answered(someone)
            assert len(someone.committed()) == len(someone.replies()) == 1
            return someone.committed()[0].text

    transcripts = await asyncio.gather(*(ask(question) for question in questions))
    assert "Brooklyn" in transcripts[0]
    assert "meaning of life" in transcripts[1]
    assert "time" in transcripts[2]
    assert "safe to swim" in transcripts[3]


async def test_a_lost_connection_loses_neither_answer_nor_memory(server: RunningServer) -> None:
    async with person(at(server)) as someone:
        await someone.say(load("brooklyn_bridge"))
        await someone.until(Transcript, lambda t: t.final)
        someone.conversation._transcription.transport.abort()
        reply = await answered(someone)
        assert "Brooklyn" in reply.text
        assert someone.notices("SERVER_READY")[0].fields["resumed"] is True
        await someone.say(load("meaning_of_life"))
        assert (await answered(someone, 2)).turn == 2
    assert [t.text for t in someone.committed()] == [
        "How old is the Brooklyn Bridge?",
        "What is the meaning of life?",
    ]


@pytest.mark.parametrize("recording", ["silence_3s", "noise_office_10s"])
async def test_silence_and_noise_are_no_turn(server: RunningServer, recording: str) -> None:
    async with person(at(server)) as someone:
        await someone.say(load(recording))
        await someone.listen(3.0)
    assert someone.committed() == []
    assert someone.replies() == []


async def test_the_conversation_is_remembered(server: RunningServer) -> None:
    async with person(at(server)) as someone:
        await someone.conversation.command("say", text="What is the capital of France?")
        await answered(someone)
        await someone.conversation.command("say", text="And of Italy?")
        reply = await answered(someone, 2)
    assert "Rome" in reply.text


async def test_speech_over_the_reply_stops_it(server: RunningServer) -> None:
    async with person(at(server), system_prompt="Tell long stories.") as someone:
        await someone.conversation.command("say", text="Tell me a long story about a ship.")
        await someone.until(Sound)
        await someone.listen(1.0)
        await someone.say(load("what_time_is_it"))
        flush = await someone.until(Notice, lambda n: n.name == "flush")
        end = await someone.until(Notice, lambda n: n.name == "reply_end" and n.turn == flush.turn)
        await someone.until(Transcript, lambda t: t.final and "time" in t.text)
        await answered(someone, 2)
    late = someone.of(Sound, lambda s: s.turn == flush.turn and s.at > flush.at + 0.1)
    assert late == []
    whole = next(r for r in someone.replies() if r.turn == flush.turn)
    assert end.fields["interrupted"] is True
    assert end.fields["spoken"]
    assert len(str(end.fields["spoken"])) < len(whole.text) or whole.interrupted
    interrupted = someone.notices("interrupted")[0]
    assert interrupted.fields["spoken"] == end.fields["spoken"]
    assert someone.committed()[-1].text.startswith("What time")


async def test_its_own_voice_does_not_interrupt_it(server: RunningServer) -> None:
    async with person(at(server), echo=0.1, system_prompt="Tell long stories.") as someone:
        await someone.conversation.command("say", text="Tell me about the sea.")
        await answered(someone)
        await someone.listen(3.0)
    assert someone.notices("flush") == []
    assert len(someone.committed()) == 1
    assert len(someone.replies()) == 1


async def test_withdrawn_work_reaches_nobody(server: RunningServer) -> None:
    """What comes in the pause of one sentence is shown as provisional and never answered."""
    async with person(at(server)) as someone:
        await someone.say(load("pause_two_sentences"))
        await someone.listen(3.0)
        for transcript in someone.committed():
            await someone.until(ReplyText, lambda r, t=transcript: r.final and r.turn == t.turn)
    committed = {t.turn for t in someone.committed()}
    assert {r.turn for r in someone.of(ReplyText)} == committed
    assert {s.turn for s in someone.of(Sound)} <= committed
    for transcript in someone.committed():
        replies = [r for r in someone.replies() if r.turn == transcript.turn]
        assert len(replies) == 1


async def test_an_original_client_gets_one_message_a_reply(server: RunningServer) -> None:
    audio = await connect(f"ws://127.0.0.1:{server.speech_port}/", max_size=None)
    async with audio, connect(f"ws://127.0.0.1:{server.transcription_port}/") as socket:
        hello = {"uid": "old", "multilingual": False, "language": "en", "task": "transcribe"}
        await socket.send(json.dumps(hello))
        assert json.loads(await socket.recv())["message"] == "SERVER_READY"
        samples = np.concatenate([load("brooklyn_bridge"), np.zeros(16_000 * 3, np.float32)])
        for first in range(0, len(samples), 4096):
            await socket.send(samples[first : first + 4096].astype("<f4").tobytes())
            await asyncio.sleep(4096 / 16_000)
        sound = await asyncio.wait_for(audio.recv(), 30)
        assert isinstance(sound, bytes)
        assert len(sound) > 24_000 * 4
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(audio.recv(), 1.0)
        messages = []
        with pytest.raises(asyncio.TimeoutError):
            while True:
                messages.append(json.loads(await asyncio.wait_for(socket.recv(), 0.5)))
    replies = [m for m in messages if "llm_output" in m]
    assert len(replies) == 1
    assert replies[0]["eos"] is True
    assert all(set(m) <= {"uid", "segments", "eos", "latency", "llm_output"} for m in messages)


async def test_a_key_that_nobody_has_is_refused(server: RunningServer) -> None:
    async with connect(f"ws://127.0.0.1:{server.speech_port}/?key=guess") as socket:
        with pytest.raises(ConnectionClosed):
            await asyncio.wait_for(socket.recv(), 10)
    assert socket.close_code == 1008


@pytest.mark.parametrize(
    ("first", "sentence"),
    [
        ("hello", "Expected a JSON object"),
        ("{}", '"uid"'),
        ('{"uid": "x", "language": "xx"}', "language 'xx'"),
        ('{"uid": "x", "audio_format": "mp3"}', '"audio_format" must be one of'),
        ('{"uid": "x", "sample_rate": 12}', '"sample_rate"'),
        (b"\0\0\0\0", "must be text"),
        ("[" * 100_000, "Expected a JSON object"),
    ],
)
async def test_a_wrong_handshake_is_explained(
    server: RunningServer, first: str | bytes, sentence: str
) -> None:
    async with connect(f"ws://127.0.0.1:{server.transcription_port}/") as socket:
        await socket.send(first)
        answer = json.loads(await socket.recv())
        assert answer["status"] == "ERROR"
        assert sentence in answer["message"]
        with pytest.raises(ConnectionClosed):
            await socket.recv()
    assert socket.close_code == 1008


async def test_bad_audio_harms_only_its_sender(server: RunningServer) -> None:
    async with person(at(server)) as someone:
        async with connect(f"ws://127.0.0.1:{server.transcription_port}/") as socket:
            await socket.send('{"uid": "bad"}')
            await socket.recv()
            for _ in range(20):
                await socket.send(np.full(512, np.nan, "<f4").tobytes())
            assert "not finite" in json.loads(await socket.recv())["message"]
            await socket.send('{"command": "dance"}')
            assert "Expected" in json.loads(await socket.recv())["message"]
        await someone.say(load("what_time_is_it"))
        await answered(someone)


async def test_health_and_metrics_on_every_port(server: RunningServer) -> None:
    for port in server.ports:
        for path, text in (("healthz", "ok"), ("metrics", "# HELP")):
            address = f"http://127.0.0.1:{port}/{path}"
            answer = await asyncio.to_thread(urllib.request.urlopen, address, timeout=10)
            assert text in answer.read().decode()


async def test_a_full_server_says_how_long_to_wait(server: RunningServer) -> None:
    sockets = []
    for number in range(5):
        socket = await connect(f"ws://127.0.0.1:{server.transcription_port}/")
        sockets.append(socket)
        await socket.send(json.dumps({"uid": str(number), "reply": False}))
        answer = json.loads(await socket.recv())
        if number < 4:
            assert answer["message"] == "SERVER_READY"
        else:
            assert answer["status"] == "WAIT"
            assert 0 < answer["message"] <= 10
    for socket in sockets:
        await socket.close()


@pytest.mark.parametrize("service", ["language_model", "voice", "transcription"])
@pytest.mark.timeout(300)
def test_a_killed_process_comes_back(service: str) -> None:
    """`kill -9` during a turn: the turn ends in a reply or an error, and the next one works."""

    async def scene(running: RunningServer) -> None:
        async with person(at(running), system_prompt="Tell long stories.") as someone:
            await someone.conversation.command("say", text="Tell me a long story.")
            await someone.until(ReplyText)
            running.kill(service)
            # A new transcription server is asked again by the client that comes back.
            ended = await someone.until(
                (ReplyText, Failure),  # type: ignore[arg-type]
                lambda e: isinstance(e, Failure) or e.final,
            )
            assert ended.turn == 1
            running.wait_until_ready(60)
            await someone.say(load("what_time_is_it"))
            await someone.until(Transcript, lambda t: t.final and "time" in t.text)
            await someone.until(ReplyText, lambda r: r.final and r.turn != 1)
        running.wait_until_ready(60)
        async with person(at(running)) as somebody:
            await somebody.say(load("what_time_is_it"))
            await answered(somebody)

    with RunningServer() as running:
        asyncio.run(scene(running))


def test_it_ends_within_five_seconds_and_leaves_nothing() -> None:
    running = RunningServer().start()
    children = running.children()
    assert len(children) >= 3
    assert running.stop(timeout=6.0) == 0
    time.sleep(0.5)  # the last to go is Python's own, which waits for the main process
    assert [child for child in children if _runs(child)] == []


def _runs(pid: int) -> bool:
    """Whether a process is alive; one that ended may wait for init to take note of it."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"

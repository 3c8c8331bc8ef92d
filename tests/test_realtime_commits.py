"""What a client commits gets its own words, whatever else the pipeline tells meanwhile."""

from __future__ import annotations

import base64

import pytest

from tests.test_realtime_tools import World
from whisper_live.client.events import Failure, Notice, Segment, Transcript

SOUND = base64.b64encode(bytes(4800)).decode()
TRANSCRIBED = "conversation.item.input_audio_transcription.completed"


def words(text: str, turn: int) -> Transcript:
    return Transcript(0.0, turn, (Segment(0.0, 1.0, text, True),), True, 0.0)


async def pushed() -> World:
    """Somebody who pushes to talk, and whose transcripts are told."""
    world = World()
    listening = {"turn_detection": None, "transcription": {"model": "w"}}
    await world.send("session.update", session={"audio": {"input": listening}})
    return world


async def commit(world: World) -> str:
    await world.send("input_audio_buffer.append", audio=SOUND)
    await world.send("input_audio_buffer.commit")
    [committed] = [e for e in world.events() if e["type"] == "input_audio_buffer.committed"]
    return str(committed["item_id"])


def transcripts(world: World) -> list[tuple[str, str]]:
    told = [event for event in world.events() if event["type"] == TRANSCRIBED]
    return [(event["item_id"], event["transcript"]) for event in told]


async def test_a_click_before_the_commit_does_not_take_the_place_of_its_words() -> None:
    world = await pushed()
    item = await commit(world)
    await world.happens(Notice(0.0, "no_speech", 1), Notice(0.0, "turn_ended", 2), words("Hi.", 2))
    assert transcripts(world) == [(item, "Hi.")]


async def test_two_commits_get_each_their_own() -> None:
    world = await pushed()
    first, second = await commit(world), await commit(world)
    await world.happens(
        Notice(0.0, "turn_ended", 1), Notice(0.0, "no_speech", None), words("Hi.", 1)
    )
    assert transcripts(world) == [(second, ""), (first, "Hi.")]


@pytest.mark.parametrize(
    "end",
    [
        Notice(0.0, "held", 1, {"reason": "backchannel", "text": "Mm-hm."}),
        Notice(0.0, "no_speech", 1),
        Failure(0.0, 1, "The speech recogniser failed."),
        Notice(0.0, "SERVER_READY", None, {"resumed": False}),
    ],
)
async def test_a_response_waits_for_the_words_and_not_for_ever(end: Notice | Failure) -> None:
    world = await pushed()
    await commit(world)
    await world.happens(Notice(0.0, "turn_ended", 1))
    await world.send("response.create")
    assert "respond" not in [name for name, _ in world.pipeline.commands]
    await world.happens(end)
    assert world.pipeline.last("respond")

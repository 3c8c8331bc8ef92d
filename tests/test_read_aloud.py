"""Words of the client's own that the voice says: no language model, and not of the conversation."""

from __future__ import annotations

import pytest

from fusion.errors import ProtocolError
from fusion.messages import Commit, Interruption, Message, ReplyEnded, ReplyText, Spoken
from tests.session_world import World
from whisper_live.client_messages import ClientMessages
from whisper_live.handshake import OwnWords, parse_command


def read(world: World, text: str, name: str = "a", *, last: bool = True) -> None:
    world.take(world.session.read_aloud(OwnWords(name, text, last), world.now))


def said(messages: list[Message]) -> list[str]:
    """The text that the voice was given, by its commits."""
    texts: list[str] = []
    for message in messages:
        if isinstance(message, Commit):
            texts.append("")
        elif isinstance(message, ReplyText):
            texts[-1] += message.text
    return texts


def test_the_voice_is_given_the_words_and_no_model_is_asked() -> None:
    world = World()
    read(world, "The tea is ready.")
    world.run(3.0)
    assert said(world.to_voice) == ["The tea is ready."]
    assert world.to_model == []
    assert world.session.history() == ()
    [told] = [each for each in world.told if each.get("event") == "responding"]
    assert told["id"] == "a"
    [shown] = [each for each in world.told if each.get("eos")]
    assert (shown["turn"], shown["llm_output"]) == (told["turn"], ["The tea is ready."])
    assert world.session.idle(world.now + 60.0)


def test_words_may_come_piece_by_piece_and_the_next_are_another_reply() -> None:
    world = World()
    read(world, "The tea ", last=False)
    read(world, "is ready.")
    world.run(3.0)
    read(world, "Bye.")
    world.run(3.0)
    assert said(world.to_voice) == ["The tea is ready.", "Bye."]
    ends = [each.text for each in world.to_voice if isinstance(each, ReplyEnded)]
    assert ends == ["The tea is ready.", "Bye."]
    turns = {each.turn for each in world.to_voice if isinstance(each, Commit)}
    assert len(turns) == 2


def test_they_can_be_interrupted_and_the_conversation_knows_nothing() -> None:
    world = World()
    world.speak(1.0)
    world.silence(6.0)
    before = world.session.history()
    read(world, "A long story.")
    world.run(0.3)
    world.take(world.session.interrupt(world.now))
    world.run(2.0)
    assert isinstance(world.to_voice[-1], Interruption)
    assert world.session.history() == before


def test_a_restarted_model_is_not_asked_to_make_them_and_a_restarted_voice_says_them() -> None:
    world = World()
    read(world, "The tea ", last=False)
    world.take(world.session.language_model_restarted(world.now))
    assert not [each for each in world.to_model if not isinstance(each, Spoken)]
    world.to_voice.clear()
    world.take(world.session.voice_restarted(world.now))
    read(world, "is ready.")
    assert said(world.to_voice) == ["The tea is ready."]


def test_the_command_is_checked() -> None:
    words = parse_command('{"command": "read_aloud", "id": "a", "text": "Hi", "last": false}')
    assert words.own_words == OwnWords("a", "Hi", last=False)
    for wrong in ('"text": 5', '"text": "Hi", "last": 1', '"text": "Hi", "id": []'):
        with pytest.raises(ProtocolError):
            parse_command('{"command": "read_aloud", ' + wrong + "}")


def test_an_event_may_have_a_field_that_is_called_name() -> None:
    [told] = ClientMessages(stream=True).event("tool_call", 1, name="turn_on_lamp")
    assert told.fields == {"event": "tool_call", "turn": 1, "name": "turn_on_lamp"}

"""What a client may say, and what becomes of what it may not."""

from __future__ import annotations

import json

import pytest

from fusion.errors import ProtocolError
from whisper_live.handshake import parse_command, parse_hello

ENGLISH = frozenset({"en"})


def test_half_a_character_harms_no_model() -> None:
    """JSON may hold half of a surrogate pair, as of an emoji that was cut."""
    cut = "Hi \ud83d!"
    fields = {"uid": "me", "system_prompt": cut, "initial_prompt": cut, "voice": cut}
    history = [{"role": "user", "content": cut}, {"role": "assistant", "content": "Hi \U0001f600!"}]
    hello = parse_hello(json.dumps({**fields, "history": history}), ENGLISH)
    assert hello.system_prompt == hello.context == hello.voice == "Hi ?!"
    assert hello.history == (("user", "Hi ?!"), ("assistant", "Hi \U0001f600!"))
    assert parse_command(json.dumps({"command": "say", "text": cut})).text == "Hi ?!"


@pytest.mark.parametrize("text", ["", "  ", 7, "x" * 4001])
def test_what_is_said_is_checked(text: object) -> None:
    with pytest.raises(ProtocolError):
        parse_command(json.dumps({"command": "say", "text": text}))

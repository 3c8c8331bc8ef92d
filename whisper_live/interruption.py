"""Is what was said while the machine speaks meant to stop it? Pure text."""

from __future__ import annotations

from whisper_live.backchannel import is_backchannel, is_command
from whisper_live.echo import is_echo
from whisper_live.words import plain_words

_ONE_WORD = 0.8


def interrupts(
    transcript: str,
    speaking: str,
    speech: float,
    minimum: float,
    *,
    complete: bool = False,
    echoing: bool = False,
) -> bool:
    """Whether what a microphone heard, while the machine was active, is meant for the machine.

    `speaking` is what the machine said meanwhile, `speech` how many seconds of speech were heard
    and `minimum` how many an interruption needs; a `complete` utterance needs none, as "Stop." is
    short. A single word that commands nothing needs `_ONE_WORD` seconds: recognisers make one word
    of almost any short sound. `echoing` says that this microphone hears the machine.
    """
    if is_backchannel(transcript):
        return False
    if is_echo(transcript, speaking, growing=not complete, likely=echoing):
        return False
    if complete:
        return True
    said_enough = len(plain_words(transcript)) > 1 or speech >= _ONE_WORD
    return speech >= minimum and (said_enough or is_command(transcript))

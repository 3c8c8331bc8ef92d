"""Small words with which people show that they listen, and those that tell the machine to stop.

Pure text.
"""

from __future__ import annotations

import re

from whisper_live.words import plain_words, word_set

# Said to stop the machine: heard even where its own speech is close to them.
COMMANDS = word_set(
    "stop wait no nope pause quiet silence enough cancel sorry hey hold hang shush shut"
)
_LONGEST_COMMAND = 3
COMMAND_PHRASES = frozenset(
    ("hold on", "hang on", "shut up", "be quiet", "excuse me", "one moment", "never mind")
)
_DESCRIPTION = re.compile(r"\([^()]*\)|\[[^\[\]]*\]|\*[^*]*\*|<[^<>]*>|[♪♫][^♪♫]*[♪♫]?")
_LISTENING = (
    r"m+ ?h+m+|m+|h+m+|u+h+ ?h?u*h*|u+m+|e+r+m*|a+h+|o+h+|a+ha+|huh|"
    r"yeah|yea|yep|yup|yes|ya|ok|okay|okey|kay|right|sure|alright|all right|"
    r"i see|got it|i know|of course|exactly|indeed|true|wow|cool|nice|"
    r"(?:ha|he|hi)(?:ha|he|hi)*|lol"
)
# What Whisper writes where it is given noise without words.
_HALLUCINATIONS = (
    r"thank you(?: very much| so much)?|thanks(?: for watching| for listening)?|"
    r"thank you for (?:watching|listening)|please subscribe|you|bye|bye bye|so|the"
)
_BACKCHANNEL = re.compile(rf"(?:{_LISTENING})(?: (?:{_LISTENING}))*|{_HALLUCINATIONS}")


def is_command(transcript: str) -> bool:
    """Whether a transcript tells the machine to stop and says little else.

    In more words a "no" may be misheard, and a "wait" may be part of a story.
    """
    words = plain_words(transcript)
    short = len(words) <= _LONGEST_COMMAND
    return " ".join(words) in COMMAND_PHRASES or (short and not COMMANDS.isdisjoint(words))


def is_backchannel(transcript: str) -> bool:
    """Whether a transcript holds nothing that asks for the floor: "mm-hm", "(coughs)", or no word.

    Also what Whisper writes for noise, such as "Thank you.". "No", "wait" and "stop" do ask.
    """
    words = plain_words(_DESCRIPTION.sub(" ", transcript))
    return not words or _BACKCHANNEL.fullmatch(" ".join(words)) is not None

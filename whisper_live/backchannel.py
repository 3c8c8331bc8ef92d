"""Small words with which people show that they listen, and those that tell the machine to stop.

Pure text.
"""

from __future__ import annotations

import re

from whisper_live import hallucinations
from whisper_live.words import plain_words, word_set

# Said to stop the machine: no echo even where its own speech is close to them.
COMMANDS = word_set(
    "stop wait no nope pause quiet silence enough cancel sorry hey hold hang shush shut"
)
_LONGEST_COMMAND = 3
COMMAND_PHRASES = frozenset(
    ("hold on", "hang on", "shut up", "be quiet", "excuse me", "one moment", "never mind")
)
_DESCRIPTION = re.compile(r"\([^()]*\)|\[[^\[\]]*\]|\*[^*]*\*|<[^<>]*>|[♪♫][^♪♫]*[♪♫]?")
# Said with the mouth closed or half open: assent to a question, otherwise "I am listening".
_HUM = r"m+ ?h+m+|u+h+ ?h+u+h+|a+ha+"
_ASSENT = (
    r"yeah|yea|yep|yup|yes|ya|ok|okay|okey|kay|right|sure|alright|all right|"
    r"i see|got it|i know|of course|exactly|indeed|true|wow|cool|nice"
)
_LISTENING = (
    rf"m+|h+m+|m+h+m+|u+h+(?:u+h+)?|u+m+|e+r+m*|a+h+|o+h+|a+ha+|huh|{_ASSENT}|"
    r"(?:ha|he|hi)(?:ha|he|hi)*|lol"
)
_COURTESY = r"thank you(?: very much| so much)?|thanks|bye|bye bye"
# No two ways to read a text: a transcriber's loop of "mm hm" must not be tried in all of them.
_BACKCHANNEL = re.compile(rf"(?:{_LISTENING})(?: (?:{_LISTENING}))*")
_LONGEST_ANSWER = 8
_WITHIN = rf"(?:{_LISTENING}|{_COURTESY})"
_ANSWER = re.compile(rf"(?:{_WITHIN} )*(?:{_ASSENT}|{_COURTESY})(?: {_WITHIN})*")
_ANSWER_TO_QUESTION = re.compile(rf"(?:{_WITHIN} )*(?:{_HUM}|{_ASSENT}|{_COURTESY})(?: {_WITHIN})*")


def is_command(transcript: str) -> bool:
    """Whether a transcript tells the machine to stop and says little else.

    In more words a "no" may be a wrong guess, and a "wait" may be part of a story.
    """
    words = plain_words(transcript)
    short = len(words) <= _LONGEST_COMMAND
    return " ".join(words) in COMMAND_PHRASES or (short and not COMMANDS.isdisjoint(words))


def is_backchannel(transcript: str) -> bool:
    """Whether a transcript holds nothing that asks for the floor: "mm-hm", "(coughs)", or no word.

    Also what Whisper writes for noise, such as "Thank you.". "No", "wait" and "stop" do ask.
    """
    spoken = " ".join(plain_words(_DESCRIPTION.sub(" ", transcript)))
    return not spoken or spoken in hallucinations.PHRASES or bool(_BACKCHANNEL.fullmatch(spoken))


def is_answer(transcript: str, *, to_question: bool = False) -> bool:
    """Whether a transcript that may be a backchannel says something where nobody speaks.

    "Yes.", "Okay." and "Thank you." do; "mm-hm" does where it follows a question; "um", "(coughs)"
    and what Whisper writes for noise do not.
    """
    words = plain_words(_DESCRIPTION.sub(" ", transcript))
    pattern = _ANSWER_TO_QUESTION if to_question else _ANSWER
    return len(words) <= _LONGEST_ANSWER and pattern.fullmatch(" ".join(words)) is not None

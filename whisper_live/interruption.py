"""Is what was heard while the machine speaks meant to stop it?

Pure text. Two things are not: the machine's own words, coming back through the microphone, and the
small sounds with which people show that they listen.
"""

from __future__ import annotations

import re
import unicodedata

import numpy as np
from numpy.typing import NDArray

ECHO_ERRORS = 0.25
"""Share of a transcript's characters that may differ from the speech and still be its echo.

Small Whisper models get about every tenth character of a clean echo wrong; a question about what
was just said shares its nouns, but rarely three quarters of its characters in their order.
"""

SHORT_ECHO_ERRORS = 0.12
"""The same for one or two words, which are easily found somewhere in a long speech."""

GROWING_ECHO_ERRORS = 0.42
SHORT_GROWING_ECHO_ERRORS = 0.34
"""The same for words that are still being said, whose last ones are often guessed wrong."""

SKIP_COST = 3.0
"""Wrong characters that one gap counts as, where words of the speech were not heard."""


def _set(words: str) -> frozenset[str]:
    return frozenset(words.split())


_ONE_WORD = 0.8

# Said to stop the machine: heard even where its own speech is close to them.
_COMMANDS = _set(
    "stop wait no nope pause quiet silence enough cancel sorry hey hold hang shush shut"
)
_COMMAND_PHRASES = frozenset(
    ("hold on", "hang on", "shut up", "be quiet", "excuse me", "one moment", "never mind")
)
# A transcript that begins with one of these asks something, unless the machine says it too.
_QUESTIONS = _set("who what when where why how which whose")

_DESCRIPTION = re.compile(r"\([^()]*\)|\[[^\[\]]*\]|\*[^*]*\*|<[^<>]*>|[♪♫][^♪♫]*[♪♫]?")
_NUMBERS = {
    "0": "zero", "1": "one", "2": "two", "3": "three", "4": "four", "5": "five", "6": "six",
    "7": "seven", "8": "eight", "9": "nine", "10": "ten", "11": "eleven", "12": "twelve",
}  # fmt: skip

_LISTENING = (
    r"m+ ?h+m+|m+|h+m+|u+h+ ?h?u*h*|u+m+|e+r+m*|a+h+|o+h+|a+ha+|huh|"
    r"yeah|yea|yep|yup|yes|ya|ok|okay|okey|kay|right|sure|alright|all right|"
    r"i see|got it|i know|of course|exactly|indeed|true|wow|cool|nice|"
    r"(?:ha|he|hi)(?:ha|he|hi)*|lol"
)
# What Whisper writes where it is given noise without words.
_HALLUCINATED = (
    r"thank you(?: very much| so much)?|thanks(?: for watching| for listening)?|"
    r"thank you for (?:watching|listening)|please subscribe|you|bye|bye bye|so|the"
)
_BACKCHANNEL = re.compile(rf"(?:{_LISTENING})(?: (?:{_LISTENING}))*|{_HALLUCINATED}")


def interrupts(
    heard: str, speaking: str, speech: float, minimum: float, *, complete: bool = False
) -> bool:
    """Whether what a microphone heard, while the machine was active, is meant for the machine.

    `speaking` is what the machine said meanwhile, `speech` how many seconds of speech were heard
    and `minimum` how many an interruption needs; a `complete` utterance needs none, as "Stop." is
    short. A single word that commands nothing needs
    `_ONE_WORD` seconds: recognisers make one word of almost any short sound.
    """
    if is_backchannel(heard) or is_echo(heard, speaking, growing=not complete):
        return False
    if complete:
        return True
    said_enough = len(_plain_words(heard)) > 1 or speech >= _ONE_WORD
    return speech >= minimum and (said_enough or is_command(heard))


def is_command(heard: str) -> bool:
    """Whether a transcript tells the machine to stop, in whatever words."""
    words = _plain_words(heard)
    return " ".join(words) in _COMMAND_PHRASES or not _COMMANDS.isdisjoint(words)


def is_backchannel(heard: str) -> bool:
    """Whether a transcript holds nothing that asks for the floor: "mm-hm", "(coughs)", or no word.

    Also what Whisper writes for noise, such as "Thank you.". "No", "wait" and "stop" do ask.
    """
    words = _plain_words(_DESCRIPTION.sub(" ", heard))
    return not words or _BACKCHANNEL.fullmatch(" ".join(words)) is not None


def is_echo(heard: str, speaking: str, *, growing: bool = False) -> bool:
    """Whether a transcript only repeats, in order, words of `speaking`: what is being said aloud.

    Allows for what a recogniser gets wrong and for words it missed. Words that tell the machine to
    stop are never taken for an echo where they are all that was heard; neither they nor a leading
    question word are where the machine did not say them. A transcript without words is no echo.
    `growing` says that more words may follow.
    """
    heard_words, spoken_words = _words(heard), _words(speaking)
    if not heard_words or not spoken_words:
        return False
    if " ".join(heard_words) in _COMMAND_PHRASES or _COMMANDS.issuperset(heard_words):
        return False
    telling = _COMMANDS.intersection(heard_words) | _QUESTIONS.intersection(heard_words[:1])
    if telling.difference(spoken_words):
        return False
    text = " ".join(heard_words)
    short = len(heard_words) <= 2
    errors = _distance_within(text, " ".join(spoken_words), SKIP_COST if not short else np.inf)
    if growing:
        allowed = SHORT_GROWING_ECHO_ERRORS if short else GROWING_ECHO_ERRORS
    else:
        allowed = SHORT_ECHO_ERRORS if short else ECHO_ERRORS
    return errors <= allowed * len(text)


def _words(text: str) -> list[str]:
    """The words of a text as they are compared: symbols and small numbers as words."""
    spelled = text.replace("%", " percent ").replace("&", " and ")
    return [_NUMBERS.get(word, word) for word in _plain_words(spelled)]


def _plain_words(text: str) -> list[str]:
    """Lower-case words without accents, apostrophes and punctuation."""
    decomposed = unicodedata.normalize("NFKD", text.lower())
    plain = "".join(c for c in decomposed if not unicodedata.combining(c) and c not in "'’")
    return re.findall(r"[^\W_]+", plain)


def _distance_within(pattern: str, text: str, skip_cost: float) -> float:
    """Fewest edits that turn `pattern` into a part of `text`, where skipping words costs one gap.

    Sellers' approximate string matching (1980), a row per character of `pattern`: row[j] is the
    cost of matching what came so far so that it ends before text[j]. A gap leads from the start of
    one word of `text` to that of a later one, between two words of `pattern`.
    """
    pattern, text = f" {pattern} ", f" {text} "
    characters = np.frombuffer(text.encode("utf-32-le"), dtype=np.uint32)
    starts = np.flatnonzero(characters == ord(" ")) + 1
    offsets = np.arange(len(text) + 1, dtype=np.float64)
    row: NDArray[np.float64] = np.zeros(len(text) + 1)
    for character in pattern:
        previous = row
        row = previous + 1
        row[1:] = np.minimum(row[1:], previous[:-1] + (characters != ord(character)))
        row = np.minimum.accumulate(row - offsets) + offsets
        if character == " ":
            row[starts] = np.minimum(row[starts], np.minimum.accumulate(row[starts]) + skip_cost)
    return float(row.min())

"""Is what was heard while the machine speaks meant to stop it?

Pure text. Two things are not: the machine's own words, coming back through the microphone, and the
small sounds with which people show that they listen.
"""

from __future__ import annotations

import re
import unicodedata

import numpy as np
from numpy.typing import NDArray

ECHO_ERRORS = 0.22
"""Share of a transcript's characters that may differ from the speech and still be its echo.

Small Whisper models get about every tenth character of a clean echo wrong; a question about what
was just said shares its nouns, but rarely four fifths of its characters in their order.
"""

SHORT_ECHO_ERRORS = 0.12
"""The same for one or two words, which are easily found somewhere in a long speech."""

LIKELY_ECHO_ERRORS = 0.42
SHORT_LIKELY_ECHO_ERRORS = 0.34
"""The same for words that are still being said, and where an echo was heard before."""

FOREIGN_RUN = 6.0
EXPECTED_ERRORS = 0.3
"""Wrong characters in a row, less those to be expected, that somebody else must have said.

They show the words of a person within an echo, where the shares above see mostly the echo. Of 443
hearings of 8 replies at -20 dB two had such a run by mistake, never two in a row; of 20 recordings
of people spoken over replies none lacked it.
"""

JUMP_COST = 4.0
"""Wrong characters that it counts as when what was heard goes on elsewhere in the speech: words
were not heard, or the machine or the recogniser repeats itself."""


_LATEST_HEARD = 60
_LATEST_SPOKEN = 300
"""Words that are compared: the work grows with their product, and whoever interrupts has just
spoken."""


def _set(words: str) -> frozenset[str]:
    return frozenset(words.split())


_ONE_WORD = 0.8

# Said to stop the machine: heard even where its own speech is close to them.
_COMMANDS = _set(
    "stop wait no nope pause quiet silence enough cancel sorry hey hold hang shush shut"
)
_LONGEST_COMMAND = 3
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
_HALLUCINATIONS = (
    r"thank you(?: very much| so much)?|thanks(?: for watching| for listening)?|"
    r"thank you for (?:watching|listening)|please subscribe|you|bye|bye bye|so|the"
)
_BACKCHANNEL = re.compile(rf"(?:{_LISTENING})(?: (?:{_LISTENING}))*|{_HALLUCINATIONS}")


def interrupts(
    heard: str,
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
    if is_backchannel(heard) or is_echo(heard, speaking, growing=not complete, likely=echoing):
        return False
    if complete:
        return True
    said_enough = len(_plain_words(heard)) > 1 or speech >= _ONE_WORD
    return speech >= minimum and (said_enough or is_command(heard))


def is_command(heard: str) -> bool:
    """Whether a transcript tells the machine to stop and says little else.

    In more words a "no" may be misheard, and a "wait" may be part of a story.
    """
    words = _plain_words(heard)
    short = len(words) <= _LONGEST_COMMAND
    return " ".join(words) in _COMMAND_PHRASES or (short and not _COMMANDS.isdisjoint(words))


def is_backchannel(heard: str) -> bool:
    """Whether a transcript holds nothing that asks for the floor: "mm-hm", "(coughs)", or no word.

    Also what Whisper writes for noise, such as "Thank you.". "No", "wait" and "stop" do ask.
    """
    words = _plain_words(_DESCRIPTION.sub(" ", heard))
    return not words or _BACKCHANNEL.fullmatch(" ".join(words)) is not None


def is_echo(heard: str, speaking: str, *, growing: bool = False, likely: bool = False) -> bool:
    """Whether a transcript only repeats words of `speaking`: what is being said aloud.

    Allows for what a recogniser gets wrong and for words it missed. Words that tell the machine to
    stop are never taken for an echo where they are all that was heard; neither they nor a leading
    question word are where the machine did not say them. A transcript without words is no echo.
    `growing` says that more words may follow: then the last one may be a bad guess and does not
    count. `likely` says that there was an echo before.
    """
    heard_words, spoken_words = _words(heard), _words(speaking)
    if growing and len(heard_words) > 1:
        heard_words = heard_words[:-1]
    if not heard_words or not spoken_words:
        return False
    if " ".join(heard_words) in _COMMAND_PHRASES or _COMMANDS.issuperset(heard_words):
        return False
    telling = _COMMANDS.intersection(heard_words) | _QUESTIONS.intersection(heard_words[:1])
    if telling.difference(spoken_words):
        return False
    wrong = _wrong_characters(
        " ".join(heard_words[-_LATEST_HEARD:]), " ".join(spoken_words[-_LATEST_SPOKEN:])
    )
    if len(heard_words) <= 2:
        allowed = SHORT_LIKELY_ECHO_ERRORS if growing or likely else SHORT_ECHO_ERRORS
    else:
        allowed = LIKELY_ECHO_ERRORS if growing or likely else ECHO_ERRORS
    return bool(wrong.mean() <= allowed) and _longest_run(wrong) < FOREIGN_RUN


def _words(text: str) -> list[str]:
    """The words of a text as they are compared: symbols and small numbers as words."""
    spelled = text.replace("%", " percent ").replace("&", " and ")
    return [_NUMBERS.get(word, word) for word in _plain_words(spelled)]


def _plain_words(text: str) -> list[str]:
    """Lower-case words without accents, apostrophes and punctuation."""
    decomposed = unicodedata.normalize("NFKD", text.lower())
    plain = "".join(c for c in decomposed if not unicodedata.combining(c) and c not in "'’")
    return re.findall(r"[^\W_]+", plain)


def _longest_run(wrong: NDArray[np.float64]) -> float:
    """The most wrong characters in a row beyond those to be expected (Page's CUSUM, 1954)."""
    longest = run = 0.0
    for each in wrong:
        run = max(0.0, run + each - EXPECTED_ERRORS)
        longest = max(longest, run)
    return longest


def _wrong_characters(heard: str, spoken: str) -> NDArray[np.float64]:
    """For each character of `heard`, how much of it is wrong in its best alignment with `spoken`.

    Sellers' approximate string matching (1980), a row per character of `heard`: row[j] is the cost
    of matching what came so far so that it ends before spoken[j]. Between words the alignment may
    jump to another word of `spoken`.
    """
    heard, spoken = f" {heard} ", f" {spoken} "
    characters = np.frombuffer(spoken.encode("utf-32-le"), dtype=np.uint32)
    starts = np.flatnonzero(characters == ord(" ")) + 1
    offsets = np.arange(len(spoken) + 1, dtype=np.float64)
    differs = {character: characters != ord(character) for character in set(heard)}
    row: NDArray[np.float64] = np.zeros(len(spoken) + 1)
    before_jump, rows = [row], [row]
    for character in heard:
        row = rows[-1] + 1
        row[1:] = np.minimum(row[1:], rows[-1][:-1] + differs[character])
        row = np.minimum.accumulate(row - offsets) + offsets
        before_jump.append(row)
        if character == " ":
            row = row.copy()
            row[starts] = np.minimum(row[starts], np.min(row[starts]) + JUMP_COST)
        rows.append(row)
    wrong = np.zeros(len(heard))
    at = int(np.argmin(row))
    for i in range(len(heard), 0, -1):
        row = before_jump[i]
        if rows[i][at] < row[at]:
            wrong[i - 1] += JUMP_COST
            at = int(starts[np.argmin(row[starts])])
        while True:  # back over characters of `spoken` that were not heard
            matched = at > 0 and row[at] == rows[i - 1][at - 1] + differs[heard[i - 1]][at - 1]
            if matched or row[at] == rows[i - 1][at] + 1:
                break
            at -= 1
        if matched:
            wrong[i - 1] += differs[heard[i - 1]][at - 1]
            at -= 1
        else:
            wrong[i - 1] += 1
    return wrong

"""Does a transcript only repeat the machine's own words, coming back through the microphone?

Pure text.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from whisper_live.backchannel import COMMAND_PHRASES, COMMANDS
from whisper_live.words import plain_words, word_set

ECHO_ERRORS = 0.22
"""Share of a transcript's characters that may differ from the speech and still be its echo.

Small Whisper models get about every tenth character of a clean echo wrong; a question about what
was just said shares its nouns, but rarely four fifths of its characters in their order.
"""

SHORT_ECHO_ERRORS = 0.12
"""The same for one or two words, which are easily found somewhere in a long speech."""

LIKELY_ECHO_ERRORS = 0.42
SHORT_LIKELY_ECHO_ERRORS = 0.34
"""The same for words that are still being said, and where there was an echo before."""

FOREIGN_RUN = 6.0
EXPECTED_ERRORS = 0.3
"""Wrong characters in a row, less those to be expected, that somebody else must have said.

They show the words of a person within an echo, where the shares above see mostly the echo. Of 443
transcripts of 8 replies at -20 dB two had such a run by mistake, never two in a row; of 20
recordings of people spoken over replies none lacked it.
"""

JUMP_COST = 4.0
"""Wrong characters that it counts as when a transcript goes on elsewhere in the speech: words
were missed, or the machine or the recogniser repeats itself."""


_LATEST_TRANSCRIBED = 60
_LATEST_SPOKEN = 300
"""Words that are compared: the work grows with their product, and whoever interrupts has just
spoken."""


# A transcript that begins with one of these asks something, unless the machine says it too.
_QUESTIONS = word_set("who what when where why how which whose")

_NUMBERS = {
    "0": "zero", "1": "one", "2": "two", "3": "three", "4": "four", "5": "five", "6": "six",
    "7": "seven", "8": "eight", "9": "nine", "10": "ten", "11": "eleven", "12": "twelve",
}  # fmt: skip


def is_echo(transcript: str, speaking: str, *, growing: bool = False, likely: bool = False) -> bool:
    """Whether a transcript only repeats words of `speaking`: what is being said aloud.

    Allows for what a recogniser gets wrong and for words it missed. Words that tell the machine to
    stop are no echo where they are all of the transcript; neither they nor a leading question word
    are where the machine did not say them. A transcript without words is no echo.
    `growing` says that more words may follow: then the last one may be a bad guess and does not
    count. `likely` says that there was an echo before.
    """
    words, spoken_words = _words(transcript), _words(speaking)
    if growing and len(words) > 1:
        words = words[:-1]
    if not words or not spoken_words:
        return False
    if " ".join(words) in COMMAND_PHRASES or COMMANDS.issuperset(words):
        return False
    telling = COMMANDS.intersection(words) | _QUESTIONS.intersection(words[:1])
    if telling.difference(spoken_words):
        return False
    wrong = _wrong_characters(
        " ".join(words[-_LATEST_TRANSCRIBED:]), " ".join(spoken_words[-_LATEST_SPOKEN:])
    )
    if len(words) <= 2:
        allowed = SHORT_LIKELY_ECHO_ERRORS if growing or likely else SHORT_ECHO_ERRORS
    else:
        allowed = LIKELY_ECHO_ERRORS if growing or likely else ECHO_ERRORS
    return bool(wrong.mean() <= allowed) and _longest_run(wrong) < FOREIGN_RUN


def _words(text: str) -> list[str]:
    """The words of a text as they are compared: symbols and small numbers as words."""
    spelled = text.replace("%", " percent ").replace("&", " and ")
    return [_NUMBERS.get(word, word) for word in plain_words(spelled)]


def _longest_run(wrong: NDArray[np.float64]) -> float:
    """The most wrong characters in a row beyond those to be expected (Page's CUSUM, 1954)."""
    longest = run = 0.0
    for each in wrong:
        run = max(0.0, run + each - EXPECTED_ERRORS)
        longest = max(longest, run)
    return longest


def _wrong_characters(transcript: str, spoken: str) -> NDArray[np.float64]:
    """Say of each character of `transcript` how much is wrong, best aligned with `spoken`.

    Sellers' approximate string matching (1980), a row per character of `transcript`: row[j] is the
    cost of matching what came so far so that it ends before spoken[j]. Between words the alignment
    may jump to another word of `spoken`.
    """
    transcript, spoken = f" {transcript} ", f" {spoken} "
    characters = np.frombuffer(spoken.encode("utf-32-le"), dtype=np.uint32)
    starts = np.flatnonzero(characters == ord(" ")) + 1
    offsets = np.arange(len(spoken) + 1, dtype=np.float64)
    differs = {character: characters != ord(character) for character in set(transcript)}
    row: NDArray[np.float64] = np.zeros(len(spoken) + 1)
    before_jump, rows = [row], [row]
    for character in transcript:
        row = rows[-1] + 1
        row[1:] = np.minimum(row[1:], rows[-1][:-1] + differs[character])
        row = np.minimum.accumulate(row - offsets) + offsets
        before_jump.append(row)
        if character == " ":
            row = row.copy()
            row[starts] = np.minimum(row[starts], np.min(row[starts]) + JUMP_COST)
        rows.append(row)
    wrong = np.zeros(len(transcript))
    at = int(np.argmin(row))
    for i in range(len(transcript), 0, -1):
        row = before_jump[i]
        if rows[i][at] < row[at]:
            wrong[i - 1] += JUMP_COST
            at = int(starts[np.argmin(row[starts])])
        while True:  # back over characters of `spoken` that the transcript lacks
            matched = at > 0 and row[at] == rows[i - 1][at - 1] + differs[transcript[i - 1]][at - 1]
            if matched or row[at] == rows[i - 1][at] + 1:
                break
            at -= 1
        if matched:
            wrong[i - 1] += differs[transcript[i - 1]][at - 1]
            at -= 1
        else:
            wrong[i - 1] += 1
    return wrong

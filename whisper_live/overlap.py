"""Speech while the machine thinks or speaks: is it meant for the machine? Pure: no clock, no I/O.

What a microphone picks up meanwhile may be an interruption, an answer, a backchannel ("mm-hm") or
the machine's own voice. Only words tell, and their time: a short "Yes." is an answer once the
machine has asked, or has fallen silent.
"""

from __future__ import annotations

import enum
import math
from dataclasses import dataclass

from whisper_live.activity import FRAME_SECONDS, FRAMES_TO_BEGIN
from whisper_live.backchannel import is_answer, is_backchannel, is_command
from whisper_live.echo import is_echo
from whisper_live.words import plain_words

# A microphone that is quiet for so many seconds while the machine speaks does not hear it.
_QUIET_AFTER = 1.5

# From a microphone that did not hear the machine so far, fewer words are no echo: almost any "is
# it" or "and so" is somewhere in a reply.
_ECHO_WORDS = 4

# A single word that commands nothing needs so much speech to interrupt: recognisers make one word
# of almost any short sound.
_ONE_WORD = 0.8

# People answer about 0.2 s after a question, and now and then before its last syllable is over
# (Stivers et al. 2009, "Universals and cultural variation in turn-taking in conversation").
_EARLY_ANSWER = 0.3

# A "yes" so long after a question, while the machine speaks on, only shows that somebody listens.
_LATE_ANSWER = 5.0

# Speech that begins after the machine's last sound can echo no more than its last words; and where
# the microphone does not hear the machine, only within the delay of a loudspeaker and a network.
_LAST_WORDS = 6
_ECHO_DELAY = 0.3

# The detector notices speech so many seconds after its beginning.
_NOTICED_AFTER = FRAMES_TO_BEGIN * FRAME_SECONDS

_QUESTION_MARKS = ("?", "？", "؟", ";")
_CLOSING_MARKS = "\"'”’»)]* "


class Verdict(enum.Enum):
    """What overlapping speech is, as far as its words tell."""

    UNDECIDED = "undecided"
    ADDRESSED = "addressed"  # meant for the machine
    BACKCHANNEL = "backchannel"
    ECHO = "echo"


class Microphone(enum.IntEnum):
    """Whether it hears the machine.

    The value is how many live transcripts in a row must differ from the machine's words to
    interrupt it, as the first words of an echo are often transcribed wrong.
    """

    QUIET = 1
    UNKNOWN = 2
    ECHOING = 3


@dataclass(frozen=True)
class MachineSpeech:
    """What the machine does at a moment. Times are monotonic seconds.

    `active` is whether it thinks or speaks, `words` what a microphone near the loudspeaker may hear
    now, `silent_from` when the last of its sound is played (infinity while more may come), and
    `asked_until` when the sound of its latest question ends (minus infinity where it asked none).
    """

    active: bool
    words: str = ""
    silent_from: float = -math.inf
    asked_until: float = -math.inf


@dataclass
class _Overlap:
    """An utterance that began or went on while the machine was active, or its echo was."""

    began_at: float
    machine: MachineSpeech
    differed: int = 0
    """Transcripts in a row that were neither echo nor backchannel."""

    @property
    def in_silence(self) -> bool:
        """Whether it began after the machine's last sound."""
        return not self.machine.active and self.began_at >= self.machine.silent_from

    @property
    def after_question(self) -> bool:
        asked_until = self.machine.asked_until
        return -_EARLY_ANSWER <= self.began_at - asked_until <= _LATE_ANSWER


class OverlapDetector:
    """The overlapping utterances of one client, by turn.

    `minimum` is how many seconds of speech an interruption needs.
    """

    def __init__(self, minimum: float) -> None:
        self._minimum = minimum
        self._overlaps: dict[int, _Overlap] = {}
        self._undisturbed = 0.0
        self.microphone = Microphone.UNKNOWN

    def overlaps(self, turn: int | None) -> bool:
        """Whether this turn has yet to prove that it is meant for the machine."""
        return turn in self._overlaps

    def listen(self, *, sounding: bool, speech: bool) -> None:
        """Learn from a frame whether the microphone hears the machine.

        `sounding` is whether the machine is being played, `speech` whether the microphone picks up
        any.
        """
        if self.microphone != Microphone.UNKNOWN or not sounding:
            return
        self._undisturbed = 0.0 if speech else self._undisturbed + FRAME_SECONDS
        if self._undisturbed >= _QUIET_AFTER:
            self.microphone = Microphone.QUIET

    def notice(self, turn: int, machine: MachineSpeech, now: float) -> None:
        """Take note that somebody speaks, which overlaps if the machine or its echo is there."""
        if not machine.active and not machine.words:
            return
        overlap = self._overlaps.get(turn)
        if overlap is None:
            self._overlaps[turn] = _Overlap(now - _NOTICED_AFTER, machine)
        else:
            _update(overlap, machine)

    def follow(self, machine: MachineSpeech) -> None:
        """Take what the machine says now: a transcript may come long after its last word."""
        for overlap in self._overlaps.values():
            _update(overlap, machine)

    def end(self, turn: int) -> None:
        """Forget a turn: it is decided, or over."""
        self._overlaps.pop(turn, None)

    def decide(
        self,
        turn: int,
        transcript: str,
        speech: float,
        machine: MachineSpeech,
        *,
        complete: bool = False,
    ) -> Verdict:
        """Say what an overlapping turn is by its transcript and its seconds of speech so far.

        A `complete` utterance needs no minimum of speech, as "Stop." is short. The turn overlaps no
        longer once it is ADDRESSED.
        """
        overlap = self._overlaps[turn]
        _update(overlap, machine)
        verdict = self._classify(overlap, transcript, speech, complete=complete)
        if verdict is Verdict.ADDRESSED:
            self.end(turn)
        return verdict

    def answers_at_once(self, turn: int, transcript: str) -> bool:
        """Whether a pause follows a short answer to a machine that had fallen silent.

        There is nothing to interrupt, so that it need not be complete. The turn overlaps no longer
        then.
        """
        overlap = self._overlaps[turn]
        answers = overlap.in_silence and is_backchannel(transcript)
        if not answers or not self._is_answer(overlap, transcript):
            return False
        self.end(turn)
        return True

    def _classify(
        self, overlap: _Overlap, transcript: str, speech: float, *, complete: bool
    ) -> Verdict:
        few = self.microphone == Microphone.QUIET and len(transcript.split()) < _ECHO_WORDS
        words = "" if few else overlap.machine.words
        if is_echo(transcript, words, growing=not complete):
            self.microphone = Microphone.ECHOING
        if is_backchannel(transcript):
            overlap.differed = 0
            if complete and self._is_answer(overlap, transcript):
                return Verdict.ADDRESSED
            repeats = is_echo(transcript, overlap.machine.words)
            return Verdict.ECHO if repeats else Verdict.BACKCHANNEL
        echoing = self.microphone == Microphone.ECHOING
        if is_echo(transcript, words, growing=not complete, likely=echoing):
            overlap.differed = 0
            return Verdict.ECHO
        if not complete and not self._said_enough(transcript, speech):
            overlap.differed = 0
            return Verdict.UNDECIDED
        overlap.differed += 1
        certain = complete or is_command(transcript) or not words
        enough = certain or overlap.differed >= self.microphone
        return Verdict.ADDRESSED if enough else Verdict.UNDECIDED

    def _said_enough(self, transcript: str, speech: float) -> bool:
        several = len(plain_words(transcript)) > 1 or speech >= _ONE_WORD
        return speech >= self._minimum and (several or is_command(transcript))

    def _is_answer(self, overlap: _Overlap, transcript: str) -> bool:
        """Whether what could be a backchannel answers the machine, and is not its echo."""
        if not (overlap.in_silence or overlap.after_question):
            return False
        if not is_answer(transcript, to_question=overlap.after_question):
            return False
        machine = overlap.machine
        quiet = self.microphone == Microphone.QUIET
        if quiet and overlap.began_at > machine.silent_from + _ECHO_DELAY:
            return True
        if overlap.in_silence:
            return not is_echo(transcript, " ".join(machine.words.split()[-_LAST_WORDS:]))
        echoing = self.microphone == Microphone.ECHOING
        return not is_echo(transcript, machine.words, likely=echoing)


def is_question(clause: str) -> bool:
    """Whether a clause of a reply asks something."""
    return clause.rstrip(_CLOSING_MARKS).endswith(_QUESTION_MARKS)


def _update(overlap: _Overlap, machine: MachineSpeech) -> None:
    """Keep the latest that is known of the machine while its words may come back."""
    if machine.words or machine.active:
        overlap.machine = machine

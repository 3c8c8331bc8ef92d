"""The sound of replies: what is made next, what may go out, what was said. Pure: no threads, no
sockets; times are given.

A `Speech` is the sound of one reply (or of one revision of it, while it is provisional). The
speeches of a session go out one after another, in the order of their turns.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from fusion.audio import SPEECH_RATE
from voices.sentences import ClauseSplitter, said_part
from voices.speech_trace import SpeechTrace
from voices.spoken_text import SpokenText

# Seconds of sound kept after they were sent, for a listener whose connection is lost.
_KEPT = 30.0

# Sound made but not sent, per session: enough to hide a busy machine, little to throw away.
_MADE_AHEAD = 8.0


@dataclass(eq=False)
class SpokenClause:
    """One clause and its sound: float32 at 24 kHz, in the order in which it is made.

    `words` is what is said of `text`; `left_out` names the scripts of what the voice cannot say.
    `broken` is whether the voice failed, so that its sound is missing or not all there; `fatal`
    whether it is left out because the voice's process dies of it.
    """

    text: str
    words: str
    left_out: tuple[str, ...] = ()
    chunks: list[NDArray[np.float32]] = field(default_factory=list)
    started: bool = False
    finished: bool = False
    broken: bool = False
    fatal: bool = False
    announced: bool = False
    reported: bool = False
    made_at: float | None = None
    samples: int = 0
    sent: int = 0

    def add(self, chunk: NDArray[np.float32], now: float) -> None:
        self.made_at = self.made_at or now
        self.chunks.append(chunk)
        self.samples += len(chunk)

    def take(self, most: int) -> NDArray[np.float32]:
        """The next samples to send, at most `most`; empty when none are ready."""
        if not self.chunks:
            return np.zeros(0, np.float32)
        chunk = self.chunks.pop(0)
        if len(chunk) > most:
            self.chunks.insert(0, chunk[most:])
            chunk = chunk[:most]
        self.sent += len(chunk)
        return chunk

    def give_back(self, chunk: NDArray[np.float32]) -> None:
        """Take back its latest samples, to send them again."""
        self.chunks.insert(0, chunk)
        self.sent -= len(chunk)
        self.announced = False

    @property
    def all_sent(self) -> bool:
        return self.finished and not self.chunks

    @property
    def said(self) -> str:
        """The words of it whose sound was sent."""
        if self.all_sent and not self.broken:
            return self.text
        # The length of a clause in the making is a guess: about 15 letters a second.
        whole = self.finished and not self.broken
        length = self.samples if whole else max(self.samples, len(self.text) * 1600)
        return said_part(self.text, self.sent / length) if self.sent else ""


class Speech:
    """The sound of one reply, from its growing text."""

    def __init__(self, turn: int, revision: int, spoken_text: SpokenText | None = None) -> None:
        self.turn = turn
        self.revision = revision
        self.trace = SpeechTrace()
        self.committed = False
        self.cancelled = False
        self.failed = False
        self.text_complete = False
        self.begun = False
        """Whether the connection that hears it was told that it begins."""
        self.end_told = False
        """Whether the connection that hears it was told that it is over."""
        self.sounding = False
        """Whether its first sound was reported, since it begins or goes on."""
        self.seconds_taken = 0.0
        """What the client has read of its sound, see `voices/acknowledged.py`."""
        self._played: tuple[float, float] | None = None
        self._sent: deque[tuple[SpokenClause, NDArray[np.float32]]] = deque()
        self._samples_kept = 0
        self.clauses: list[SpokenClause] = []
        self.left_out: set[str] = set()
        """Scripts that the client was told of."""
        self._spoken_text = spoken_text or SpokenText()
        self.language = self._spoken_text.language
        self.is_spoken = self._spoken_text.is_spoken
        """Whether the voice has this language."""
        self._splitter = ClauseSplitter(self.language)

    def feed(self, text: str) -> None:
        self._add(self._splitter.feed(text))

    def pause(self) -> None:
        """No more text comes for a while: what there is can be said."""
        self._add(piece for piece in self._splitter.finish() if piece.strip())

    def complete(self, text: str | None = None) -> None:
        """The reply has no more text; `text` is all of it, where its end may be taken back."""
        if self.text_complete:
            return
        self.text_complete = True
        before = "".join(clause.text for clause in self.clauses)
        for piece in self._splitter.finish():
            if text is not None and (text.startswith(before.rstrip()) or before.startswith(text)):
                piece = piece[: max(0, len(text) - len(before))]
            before += piece
            self._add([piece] if piece.strip() else [])

    def fail(self) -> None:
        """The voice failed: what it has not made by now stays unsaid, and so does what follows."""
        self.failed = True
        for clause in self.clauses:
            clause.broken = clause.broken or not clause.finished
            clause.started = clause.finished = True

    def take(self, clause: SpokenClause, most: int) -> NDArray[np.float32]:
        """The next samples of a clause to send, at most `most`."""
        chunk = clause.take(most)
        self._sent.append((clause, chunk))
        self._samples_kept += len(chunk)
        while self._samples_kept > _KEPT * SPEECH_RATE and len(self._sent) > 1:
            self._samples_kept -= len(self._sent.popleft()[1])
        return chunk

    def rewind(self, seconds: float) -> None:
        """Let go out again what follows so many seconds of its sound, as far back as it is kept."""
        again = round((self.seconds_sent - seconds) * SPEECH_RATE)
        while again > 0 and self._sent:
            clause, chunk = self._sent.pop()
            count = min(again, len(chunk))
            if count < len(chunk):
                self._sent.append((clause, chunk[:-count]))
            clause.give_back(chunk[-count:])
            self._samples_kept -= count
            again -= count
        self.seconds_taken = self.seconds_sent
        self._played = None

    def report_played(self, seconds: float, now: float) -> None:
        """A client says how many seconds of it were played."""
        self._played = seconds, now

    def reached(self, now: float) -> float:
        """Seconds of it that the client took and, where it tells that, has played."""
        if self._played is None:
            return self.seconds_taken
        seconds, at = self._played
        return min(self.seconds_taken, seconds + now - at)

    @property
    def all_taken(self) -> bool:
        """Whether the client has read all that was sent."""
        return self.seconds_taken >= self.seconds_sent

    def announce_again(self) -> None:
        """A new connection hears it: tell it what is said."""
        self.begun = self.sounding = self.end_told = False
        if self.next_to_send is not None:
            self.next_to_send.announced = False

    def _add(self, clauses: Iterable[str]) -> None:
        for text in clauses:
            spoken = self._spoken_text.read(text)
            clause = SpokenClause(text, spoken.words, spoken.left_out, broken=self.failed)
            # Text with nothing to say (a rule, an emoji) is said in no time.
            clause.started = clause.finished = self.failed or not clause.words
            self.clauses.append(clause)

    @property
    def next_to_make(self) -> SpokenClause | None:
        """The first clause still to be spoken; of a provisional reply, only its very first."""
        if not self.committed and any(clause.started and clause.words for clause in self.clauses):
            return None
        return next((clause for clause in self.clauses if not clause.started), None)

    @property
    def next_to_send(self) -> SpokenClause | None:
        """The clause whose sound goes out now; None when all there is was sent."""
        return next((clause for clause in self.clauses if not clause.all_sent), None)

    @property
    def next_to_show(self) -> SpokenClause | None:
        """The first clause without sound whose place in the reply has come; None: there is none."""
        for clause in self.clauses:
            if not clause.all_sent:
                return None
            if not (clause.announced or clause.broken or clause.samples) and clause.text.strip():
                return clause
        return None

    @property
    def over(self) -> bool:
        """Everything of it was sent."""
        return self.text_complete and self.next_to_send is None and self.next_to_show is None

    @property
    def seconds_sent(self) -> float:
        return sum(clause.sent for clause in self.clauses) / SPEECH_RATE

    @property
    def made_ahead(self) -> float:
        """Seconds of sound that are made and not sent."""
        return sum(clause.samples - clause.sent for clause in self.clauses) / SPEECH_RATE

    @property
    def said(self) -> str:
        return "".join(clause.said for clause in self.clauses).strip()


class Speeches:
    """The speeches of one session, and when its client will have played what it was sent."""

    def __init__(self, spoken_text: SpokenText | None = None) -> None:
        self._spoken_text = spoken_text or SpokenText()
        self._by_turn: dict[int, Speech] = {}
        self._withdrawn: dict[int, int] = {}
        self._ended = 0
        self.playout_deadline = 0.0
        self.last: Speech | None = None
        """The latest that went out to its end."""

    def get(self, turn: int, revision: int, language: str = "") -> Speech | None:
        """The speech that text of this revision belongs to; None if it was given up or is over.

        A new one is in `language`, as long as nobody says another one.
        """
        if turn <= self._ended or revision <= self._withdrawn.get(turn, 0):
            return None
        speech = self._by_turn.get(turn)
        if speech is None or speech.revision < revision:
            self._cancel(speech)
            self._spoken_text = self._spoken_text.in_language(language)
            speech = self._by_turn[turn] = Speech(turn, revision, self._spoken_text)
        return speech if speech.revision == revision else None

    def commit(self, turn: int, revision: int, language: str = "") -> None:
        speech = self.get(turn, revision, language)
        if speech is None:
            return
        speech.committed = True
        for older in [t for t, s in self._by_turn.items() if t < turn and not s.committed]:
            self._cancel(self._by_turn.pop(older))

    def withdraw(self, turn: int, revision: int) -> None:
        """Give up every provisional revision up to this one."""
        if turn <= self._ended:
            return
        self._withdrawn[turn] = max(revision, self._withdrawn.get(turn, 0))
        speech = self._by_turn.get(turn)
        if speech is not None and not speech.committed and speech.revision <= revision:
            self._cancel(self._by_turn.pop(turn))

    def end(self, turn: int) -> Speech | None:
        """Nothing more of this turn will be said: forget it and what came before it."""
        self._ended = max(self._ended, turn)
        speech = self._by_turn.pop(turn, None)
        self._cancel(speech)
        for older in [known for known in self._by_turn if known <= self._ended]:
            self._cancel(self._by_turn.pop(older))
        self._withdrawn = {t: r for t, r in self._withdrawn.items() if t > self._ended}
        return speech

    def finish(self, speech: Speech) -> None:
        """It went out to its end."""
        self.end(speech.turn)
        self.last = speech

    @property
    def playing(self) -> Speech | None:
        """The speech that a client plays, or has played last: begun, and possibly all sent."""
        current = self.current
        return current if current is not None and current.seconds_sent else self.last

    def report_played(self, turn: int, seconds: float, now: float) -> None:
        """A client says how far it has played a reply."""
        if self.playing is not None and self.playing.turn == turn:
            self.playing.report_played(seconds, now)

    def play_again(self, speech: Speech, seconds: float) -> bool:
        """Let what follows so many seconds of a speech go out again; False if nothing does."""
        speech.rewind(seconds)
        speech.announce_again()
        if speech.over:
            return False
        self._by_turn[speech.turn] = speech
        return True

    def clear(self) -> None:
        for speech in self._by_turn.values():
            self._cancel(speech)
        self._by_turn.clear()

    @property
    def current(self) -> Speech | None:
        """The speech whose turn it is to go out: the oldest, once it is committed."""
        if not self._by_turn:
            return None
        speech = self._by_turn[min(self._by_turn)]
        return speech if speech.committed else None

    def next_to_make(
        self, now: float, *, bounded: bool
    ) -> tuple[tuple[int, float], Speech, SpokenClause] | None:
        """What this session needs next, with its priority (smaller is sooner).

        Sound for a committed reply is due when the client runs dry; sound made ahead of a commit
        comes after everybody's. `bounded` is for a client that hears a reply while it is made; one
        that gets it whole needs all of it.
        """
        for turn in sorted(self._by_turn):
            speech = self._by_turn[turn]
            clause = speech.next_to_make
            if clause is None or (bounded and speech.made_ahead > _MADE_AHEAD):
                continue
            due = max(self.playout_deadline, now) if speech.committed else now
            return (0 if speech.committed else 1, due), speech, clause
        return None

    @staticmethod
    def _cancel(speech: Speech | None) -> None:
        if speech is not None:
            speech.cancelled = True

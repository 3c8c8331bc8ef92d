"""Frames of audio in, turns out: what the person says, and when they are done. Pure.

While a person speaks there is one `Utterance`. In each pause it gets a `Revision`: the whole of it
is transcribed and given to the turn detector, ahead of the decision that the person is done. Speech
that resumes withdraws the revision; silence that lasts completes the turn with it. A turn that is
complete may still wait for its transcript while the next utterance already begins.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from fusion.audio import SAMPLE_RATE
from fusion.settings import Settings
from whisper_live.activity import FRAME_SECONDS, SpeechActivity
from whisper_live.endpoint import EndpointPolicy, sounds_done
from whisper_live.events import PredictTurn, Priority, Revision, Transcribe
from whisper_live.listener_events import (
    Began,
    Completed,
    Dropped,
    EagerEndOfTurn,
    ListenerEvent,
    StablePrefix,
    TranscriptChanged,
    Withdrawn,
)
from whisper_live.live_transcript import LiveTranscript
from whisper_live.utterance import Segment, Utterance, join

# Audio kept from before the detector noticed speech, so that no first sound is lost.
_PREROLL_FRAMES = round(0.32 / FRAME_SECONDS)

# Speech without a pause is cut where its last seconds sound least spoken.
_CUT_WITHIN = 6.0

# A client that sends nothing for this long has stopped its microphone: silence, not jitter.
_STALL = 0.5

# A sound shorter than `min_utterance` is forgotten after this much silence.
_FORGET_NOISE = 0.3

_SILENT_FRAME = np.zeros(round(FRAME_SECONDS * SAMPLE_RATE), np.float32)

# Silence after which the turn detector is asked, and again where it found no end: at once it knows
# 38 of 43 true ends of the shared recordings, after 0.2 s 42 of them.
_PREDICT_AFTER = (0.0, 0.22, 0.4)

# Turns that wait for their transcript; beyond it the client is not read from (see `backlogged`).
_MOST_CLOSING = 4


@dataclass(frozen=True)
class ListeningPolicy:
    """The settings that listening depends on. Seconds."""

    endpoint: EndpointPolicy
    threshold: float
    min_utterance: float
    finalize_after: float
    longest_segment: float
    partial_interval: float
    speculative_generation: bool
    provisional_silence: float
    attentive_speech: float

    @classmethod
    def from_settings(cls, settings: Settings) -> ListeningPolicy:
        return cls(
            endpoint=EndpointPolicy.from_settings(settings),
            threshold=settings.vad_threshold,
            min_utterance=settings.min_utterance,
            finalize_after=settings.finalize_after,
            longest_segment=settings.longest_segment,
            partial_interval=settings.partial_interval,
            speculative_generation=settings.speculative_generation,
            provisional_silence=settings.provisional_silence,
            # Begun early, an interruption's words are known when its shortest speech is over.
            attentive_speech=settings.barge_in_speech / 2,
        )


class Listener:
    """One client's ears. Feed it with `hear`, and with the answers to what it asks for.

    `attentive` is set while the machine speaks: live transcripts come sooner and go first, since
    they decide whether the person interrupts.
    """

    def __init__(self, policy: ListeningPolicy) -> None:
        self._policy = policy
        self._activity = SpeechActivity(policy.threshold, policy.min_utterance)
        self._preroll: deque[tuple[NDArray[np.float32], float]] = deque(maxlen=_PREROLL_FRAMES)
        self._silence_before()
        self._position = 0
        self._turn = 0
        self._utterance: Utterance | None = None
        self._live = LiveTranscript(0, policy.partial_interval, policy.attentive_speech, 0.0)
        self._revision: Revision | None = None
        self._revisions = 0
        self._closing: deque[tuple[Revision, Utterance]] = deque()
        self._last_frame_at = 0.0
        self.attentive = False
        self.language = ""
        """The code of what was spoken in the latest complete turn."""

    @property
    def backlogged(self) -> bool:
        """Whether more audio should wait until the transcriber has caught up."""
        return len(self._closing) >= _MOST_CLOSING

    @property
    def position(self) -> int:
        """Frames taken since the beginning."""
        return self._position

    @property
    def turn(self) -> int | None:
        """The turn that is being spoken now."""
        return self._turn if self._utterance else None

    @property
    def busy(self) -> bool:
        """Whether somebody speaks or a turn still waits for its transcript."""
        return self._utterance is not None or bool(self._closing)

    @property
    def began_at(self) -> int:
        """The first frame of the current utterance, or the next frame where there is none."""
        return self._utterance.position if self._utterance else self._position

    @property
    def speech(self) -> float:
        """Seconds of speech in the current utterance."""
        return self._activity.speech if self._utterance else 0.0

    def hear(
        self, frame: NDArray[np.float32], probability: float, now: float
    ) -> list[ListenerEvent]:
        """Take one frame (512 samples at 16 kHz) with its speech probability."""
        self._position += 1
        self._last_frame_at = now
        speaking = self._activity.feed(probability)
        if self._utterance is None:
            self._preroll.append((frame, probability))
            return self._begin(now) if speaking else []
        self._utterance.append(frame, probability)
        if speaking:
            return self._speaking(now)
        return self._not_speaking(now)

    def tick(self, now: float) -> list[ListenerEvent]:
        """Time passes; a client that sends no audio is silent."""
        stalled = now - self._last_frame_at - _STALL
        if self._utterance is None or stalled <= 0:
            return []
        return self._silent(self._activity.silence + stalled, now)

    def end_turn(self, now: float) -> list[ListenerEvent]:
        """Complete the turn at once, whatever the silence."""
        if self._utterance is None:
            return []
        if self._activity.speech < self._policy.min_utterance:
            return self._drop()
        return self._complete(now)

    def configure(self, policy: ListeningPolicy) -> None:
        """Listen by other settings from now on."""
        self._policy = policy
        self._activity.threshold = policy.threshold

    def clear(self) -> list[ListenerEvent]:
        """Forget what is being said."""
        return self._drop() if self._utterance is not None else []

    def take_turn(self, now: float) -> tuple[int, list[ListenerEvent]]:
        """A number for a reply that no utterance asks for; one in the making gets a later one."""
        self._turn += 1
        turn, revision = self._turn, self._revision
        if self._utterance is None:
            return turn, []
        self._turn += 1
        self._revision, self._revisions = None, 0
        self._live = self._new_live(now)
        return turn, [*([Withdrawn(revision)] if revision is not None else []), Began(self._turn)]

    def typed(self, text: str, now: float) -> list[ListenerEvent]:
        """A turn that comes from a keyboard. What was being said is complete, and goes first."""
        events = self.end_turn(now)
        self._turn += 1
        revision = Revision(self._turn, 1, end_of_speech=now, end=self._position)
        revision.text = revision.tail = text
        revision.text_at, revision.language = now, self.language
        self._closing.append((revision, Utterance(self._position)))
        return events + self._close()

    def transcribed(
        self, job: Transcribe, text: str | None, now: float, *, provisional: bool = False
    ) -> list[ListenerEvent]:
        """Take the text that was asked for; None if it failed. A provisional one comes again."""
        if job.revision is not None and job.revision.provisional:
            return self._look_again(job.revision, text, now)
        if text is None and job.revision is not None:
            job.revision.failed = True
        text = text or ""
        if job.segment is not None:
            job.segment.text = text
            return self._texts_known(now)
        if job.revision is not None:
            if job.revision.tail is not None:
                return []  # a longer look that took too long
            job.revision.tail = text
            job.revision.provisional = provisional
            return self._texts_known(now)
        return self._live_text(job, text)

    def turn_predicted(
        self, revision: Revision, probability: float, now: float
    ) -> list[ListenerEvent]:
        """Take the turn detector's probability that the person is done."""
        revision.probability = probability
        if revision is not self._revision:
            return []
        return self._not_speaking(now)

    def _begin(self, now: float) -> list[ListenerEvent]:
        self._turn += 1
        self._revisions = 0
        self._live = self._new_live(now)
        self._utterance = Utterance(self._position - len(self._preroll))
        for frame, probability in self._preroll:
            self._utterance.append(frame, probability)
        self._silence_before()
        return [Began(self._turn)]

    def _new_live(self, now: float) -> LiveTranscript:
        policy = self._policy
        return LiveTranscript(self._turn, policy.partial_interval, policy.attentive_speech, now)

    def _silence_before(self) -> None:
        """Let silence precede the first frame: without, Whisper gets the first words wrong."""
        self._preroll.extend([(_SILENT_FRAME, 0.0)] * _PREROLL_FRAMES)

    def _speaking(self, now: float) -> list[ListenerEvent]:
        events: list[ListenerEvent] = []
        if self._revision is not None:
            events += self._resume(self._revision)
        assert self._utterance is not None
        if self._utterance.unfinalized_seconds >= self._policy.longest_segment:
            segment, audio = self._utterance.cut(self._utterance.quietest_cut(_CUT_WITHIN))
            events.append(Transcribe(self._turn, audio, Priority.AWAITED, segment=segment))
        return events + self._ask_live(now)

    def _not_speaking(self, now: float) -> list[ListenerEvent]:
        """What the silence so far makes due; nothing while a sound may turn out to be speech."""
        return [] if self._activity.in_doubt else self._silent(self._activity.silence, now)

    def _silent(self, silence: float, now: float) -> list[ListenerEvent]:
        if self._activity.speech < self._policy.min_utterance:
            return self._drop() if silence >= _FORGET_NOISE else []
        events: list[ListenerEvent] = []
        if self._revision is None and silence >= self._policy.provisional_silence:
            events += self._revise(silence, now)
        revision = self._revision
        if revision is not None:
            events += self._ask_turn_detector(revision, silence)
            # Words that are still being transcribed are no words that say it is over.
            unknown = revision.text is None and self._policy.speculative_generation
            text = "" if unknown else revision.text
            required = self._policy.endpoint.required_silence(revision.probability, text)
            if silence >= required:
                # A longer look that is not done by now is not waited for: that made the turns it
                # was for a tenth of a second slower, and their words no better.
                revision.provisional = False
                events += self._complete(now)
        return events

    def _revise(self, silence: float, now: float) -> list[ListenerEvent]:
        """A pause: hear the whole utterance as if it were complete."""
        assert self._utterance is not None
        self._revisions += 1
        self._revision = Revision(
            self._turn, self._revisions, end_of_speech=now - silence, end=self._utterance.end
        )
        events: list[ListenerEvent] = []
        if self._policy.speculative_generation:
            events.append(self._transcribe_revision(self._revision))
        return events

    def _ask_turn_detector(self, revision: Revision, silence: float) -> list[ListenerEvent]:
        assert self._utterance is not None
        asked = revision.times_predicted
        predicting = asked > 0 and revision.probability is None
        if not self._policy.endpoint.smart_turn or predicting:
            return []
        if asked == len(_PREDICT_AFTER) or silence < _PREDICT_AFTER[asked]:
            return []
        if sounds_done(revision.probability):
            return []
        revision.times_predicted += 1
        return [PredictTurn(revision, self._utterance.recent_audio())]

    def _transcribe_revision(self, revision: Revision) -> Transcribe:
        assert self._utterance is not None
        audio = self._utterance.audio()
        return Transcribe(revision.turn, audio, Priority.AWAITED, revision=revision)

    def _resume(self, revision: Revision) -> list[ListenerEvent]:
        """Speech goes on: the revision is void; its transcript may finalize a long utterance."""
        assert self._utterance is not None
        finalizes = self._utterance.unfinalized_seconds >= self._policy.finalize_after
        if revision.tail is not None and finalizes:
            segment, _ = self._utterance.cut(revision.end)
            segment.text = revision.tail
        self._revision = None
        return [Withdrawn(revision)]

    def _complete(self, now: float) -> list[ListenerEvent]:
        assert self._utterance is not None
        events: list[ListenerEvent] = []
        if self._revision is None:
            events += self._revise(self._activity.silence, now)
            assert self._revision is not None
        if not self._policy.speculative_generation:
            events.append(self._transcribe_revision(self._revision))
        self._closing.append((self._revision, self._utterance))
        self._forget()
        return events + self._close()

    def _drop(self) -> list[ListenerEvent]:
        turn = self._turn
        self._forget()
        return [Dropped(turn)]

    def _forget(self) -> None:
        self._utterance = None
        self._revision = None
        self._activity.reset()

    def _texts_known(self, now: float, *, corrected: bool = False) -> list[ListenerEvent]:
        """A transcript came in: complete what waited for it, speculate what it makes whole."""
        for closing in self._closing:
            _complete_text(*closing, now)
        events = self._close()
        revision, utterance = self._revision, self._utterance
        if revision is None or utterance is None or revision.text is not None:
            return events
        if _complete_text(revision, utterance, now):
            parts = _parts(revision, utterance)
            events.append(TranscriptChanged(revision.turn, *parts, revision.end_of_speech))
            if revision.text:
                events.append(EagerEndOfTurn(revision, corrected))
            events += self._not_speaking(now)
        return events

    def _look_again(self, revision: Revision, tail: str | None, now: float) -> list[ListenerEvent]:
        """Take what a longer look made of a revision; work on other words is withdrawn."""
        revision.provisional = False
        if tail is None or tail == revision.tail:
            return self._close() if revision is not self._revision else self._not_speaking(now)
        before = replace(revision)
        revision.tail, revision.text = tail, None
        revision.number += 1
        if revision is self._revision:
            self._revisions = revision.number
        elif all(revision is not closing for closing, _ in self._closing):
            return []
        return [Withdrawn(before), *self._texts_known(now, corrected=True)]

    def _close(self) -> list[ListenerEvent]:
        """Let completed turns go, in their order, as far as their texts are known for good."""
        events: list[ListenerEvent] = []
        while self._closing and self._closing[0][0].is_settled:
            revision, utterance = self._closing.popleft()
            if revision.text:
                self.language = revision.language or self.language
                segments, tail = _parts(revision, utterance)
                events.append(Completed(revision, (*segments, tail) if tail.text else segments))
            else:
                events.append(Dropped(revision.turn, revision.failed))
        return events

    def live_dropped(self, job: Transcribe) -> None:
        """A live transcription was given up for more urgent work; a later one takes its place."""
        self._live.dropped(job)

    def _ask_live(self, now: float) -> list[ListenerEvent]:
        assert self._utterance is not None
        job = self._live.ask(self._utterance, now, attentive=self.attentive, speech=self.speech)
        return [job] if job is not None else []

    def _live_text(self, job: Transcribe, text: str) -> list[ListenerEvent]:
        live, utterance = self._live, self._utterance
        if not live.answered(job) or utterance is None or self._revision is not None:
            return []
        finalized = utterance.finalized_text()
        if finalized is None:
            return []
        stable = live.grow(join(finalized, text))
        tail = Segment(utterance.unfinalized_from, utterance.end, text)
        changed = TranscriptChanged(self._turn, tuple(utterance.segments), tail, live.requested_at)
        return [changed, StablePrefix(self._turn, stable)] if stable else [changed]


def _complete_text(revision: Revision, utterance: Utterance, now: float) -> bool:
    """Give the revision its text once every part of it is known; True if it has one then."""
    if revision.text is None:
        finalized = utterance.finalized_text()
        if finalized is None or revision.tail is None:
            return False
        revision.text = join(finalized, revision.tail)
        revision.text_at = now
    return True


def _parts(revision: Revision, utterance: Utterance) -> tuple[tuple[Segment, ...], Segment]:
    tail = Segment(utterance.unfinalized_from, revision.end, revision.tail)
    return tuple(utterance.segments), tail

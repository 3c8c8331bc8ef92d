"""Samples of voices, for who chooses one: a sentence of its language, beside all replies."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial

from babel import Locale, UnknownLocaleError
from websockets.asyncio.server import ServerConnection

from fusion import tasks
from fusion.audio import SPEECH_RATE
from voices.base import Voice
from voices.speech import Speech, SpokenClause
from voices.spoken_text import SpokenText

SAMPLES = {
    "ar": "مرحبًا، هكذا يبدو صوتي.",
    "de": "Hallo, so klingt meine Stimme.",
    "en": "Hello, this is what I sound like.",
    "es": "Hola, así suena mi voz.",
    "fr": "Bonjour, voici ma voix.",
    "hi": "नमस्ते, मेरी आवाज़ ऐसी है।",
    "it": "Ciao, la mia voce suona così.",
    "ja": "こんにちは。私の声はこんな感じです。",
    "nl": "Hallo, zo klinkt mijn stem.",
    "pl": "Cześć, tak brzmi mój głos.",
    "pt": "Olá, a minha voz soa assim.",
    "ru": "Привет, так звучит мой голос.",
    "tr": "Merhaba, sesim böyle.",
    "uk": "Привіт, так звучить мій голос.",
    "zh": "你好，这就是我的声音。",
}

FAILED = "the voice could not be played"

_CHUNK = SPEECH_RATE // 10


def sample_text(language: str) -> str:
    """A short sentence in this language; where there is none, the language's own name in it."""
    if language in SAMPLES:
        return SAMPLES[language]
    try:
        return str(Locale.parse(language).get_display_name() or language)
    except (UnknownLocaleError, ValueError):
        return language


@dataclass(eq=False)
class _Preview:
    speech: Speech
    speaker: str
    changed: asyncio.Event = field(default_factory=asyncio.Event)


class Previews:
    """The samples that are being made, one for a session. In the event loop alone.

    `wake` is called when there is something to speak.
    """

    def __init__(self, voice: Voice, wake: Callable[[], None]) -> None:
        self._voice = voice
        self._wake = wake
        self._by_session: dict[str, _Preview] = {}

    async def serve(
        self, connection: ServerConnection, session: str, speaker: str, language: str
    ) -> None:
        """Send a sample of the speaker, "" for the voice's own, and close the connection.

        `language` is what it speaks where the speaker has none of its own. A newer sample of the
        session takes this one's place. Raises ConnectionClosed.
        """
        speakers, languages = self._voice.speakers, self._voice.languages
        language = speakers.get(speaker) or language or next(iter(languages), "en")
        speech = Speech(0, 1, SpokenText(language, languages))
        preview = _Preview(speech, speaker)
        self._end(session)
        self._by_session[session] = preview
        try:
            await tasks.in_thread("prepare-voice", partial(self._voice.prepare, speech.language))
            speech.feed(sample_text(speech.language))
            speech.complete()
            speech.committed = True
            self._wake()
            made = await self._send(connection, preview)
        finally:
            speech.cancelled = True
            if self._by_session.get(session) is preview:
                del self._by_session[session]
        await connection.close(*((1000, "that was the sample") if made else (1011, FAILED)))

    async def _send(self, connection: ServerConnection, preview: _Preview) -> bool:
        """Send its sound as it is made; return whether there was any and all of it."""
        speech = preview.speech
        while (clause := speech.next_to_send) and not (speech.failed or speech.cancelled):
            preview.changed.clear()
            while len(chunk := clause.take(_CHUNK)):
                await connection.send(chunk.tobytes())
            if not clause.all_sent:
                await preview.changed.wait()
        return speech.seconds_sent > 0 and not (speech.failed or speech.cancelled)

    def next_clause(self) -> tuple[Speech, SpokenClause, str, str] | None:
        """What is to be spoken next, once no reply needs the voice: see `Synthesis`."""
        for preview in self._by_session.values():
            clause = preview.speech.next_to_make
            if clause is not None:
                return preview.speech, clause, preview.speaker, preview.speech.language
        return None

    def notice(self, speech: Speech) -> None:
        """Sound of this speech was made, or never will be."""
        for preview in self._by_session.values():
            if preview.speech is speech:
                preview.changed.set()

    def _end(self, session: str) -> None:
        preview = self._by_session.get(session)
        if preview is not None:
            preview.speech.cancelled = True
            preview.changed.set()

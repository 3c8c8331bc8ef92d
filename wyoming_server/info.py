"""What this server offers, in the words of Wyoming's `info`."""

from __future__ import annotations

from dataclasses import dataclass

from wyoming.info import AsrModel, AsrProgram, Attribution, Info, TtsProgram, TtsVoice

from fusion import __version__

NAME = "whisperfusion"
_ATTRIBUTION = Attribution("WhisperFusion", "https://github.com/collabora/WhisperFusion")


@dataclass(frozen=True)
class Offer:
    """What can be understood and said. `speakers` are names of voices with their languages."""

    transcriber: str
    languages: tuple[str, ...]
    voice: str
    speakers: tuple[tuple[str, str], ...]
    spoken_languages: tuple[str, ...]

    def speaker_of(self, language: str) -> str:
        """A speaker of this language; "" where there is none, or one voice alone."""
        code = language.lower().partition("-")[0].partition("_")[0]
        return next((name for name, spoken in self.speakers if spoken == code), "")

    def info(self) -> Info:
        """The answer to `describe`."""
        model = AsrModel(
            self.transcriber,
            _ATTRIBUTION,
            installed=True,
            description=f"Whisper ({self.transcriber})",
            version=__version__,
            languages=list(self.languages),
        )
        asr = AsrProgram(
            NAME,
            _ATTRIBUTION,
            installed=True,
            description="Speech to text",
            version=__version__,
            models=[model],
        )
        tts = TtsProgram(
            NAME,
            _ATTRIBUTION,
            installed=True,
            description="Text to speech",
            version=__version__,
            voices=self._voices(),
            supports_synthesize_streaming=True,
        )
        return Info(asr=[asr], tts=[tts])

    def _voices(self) -> list[TtsVoice]:
        """Each speaker, and before them the voice that speaks the languages that none of them does.

        Its name is no speaker's, which means the server's own voice.
        """
        named = {language for _, language in self.speakers}
        own = [language for language in self.spoken_languages if language not in named]
        voices = [(name, [language]) for name, language in self.speakers]
        if own or not voices:
            voices.insert(0, (self.voice, own))
        return [
            TtsVoice(
                name,
                _ATTRIBUTION,
                installed=True,
                description=name,
                version=__version__,
                languages=languages,
            )
            for name, languages in voices
        ]

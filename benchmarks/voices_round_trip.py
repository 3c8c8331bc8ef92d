"""What Whisper understands of each voice: sentences said by the voice of a language, and written.

    python -m benchmarks.voices_round_trip [--languages es it] [--json FILE]

Every language with a voice here says ten everyday sentences; Whisper `base` writes them down, once
told the language and once left to detect it. Counted are wrong words and wrong letters, without
case and punctuation. An error may be the voice's or the recogniser's: it is a bound for both.
"""

from __future__ import annotations

import argparse
import time
import unicodedata
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import soxr
from numpy.typing import NDArray

from benchmarks.figures import report
from benchmarks.transcription import word_errors
from fusion.audio import SAMPLE_RATE
from fusion.selection import Pick, choose, survey
from fusion.settings import Settings
from tts_service import load
from voices.base import Voice
from voices.spoken_text import SpokenText
from whisper_live import loading
from whisper_live.transcribers.base import Transcriber, TranscriptionRequest

SENTENCES = {
    "en": (
        "Good morning, what would you like to know?",
        "The weather is nice today, but tomorrow it will rain.",
        "I am sorry, I did not understand that.",
        "The train to the city leaves from the other platform.",
        "You can cook the potatoes with a little salt.",
        "My sister lives in a small house near the river.",
        "A healthy breakfast gives you strength for the day.",
        "The moon moves around the earth, and the earth around the sun.",
        "Please close the window, it is getting cold.",
        "That is a good question, let me think about it.",
    ),
    "es": (
        "Buenos días, ¿qué le gustaría saber?",
        "Hoy hace buen tiempo, pero mañana va a llover.",
        "Lo siento, no he entendido eso.",
        "El tren a la ciudad sale del otro andén.",
        "Puedes cocer las patatas con un poco de sal.",
        "Mi hermana vive en una casa pequeña cerca del río.",
        "Un desayuno sano te da fuerza para todo el día.",
        "La luna gira alrededor de la tierra, y la tierra alrededor del sol.",
        "Por favor, cierra la ventana, empieza a hacer frío.",
        "Es una buena pregunta, déjame pensarlo.",
    ),
    "fr": (
        "Bonjour, que voulez-vous savoir ?",
        "Il fait beau aujourd'hui, mais demain il va pleuvoir.",
        "Je suis désolé, je n'ai pas compris cela.",
        "Le train pour la ville part de l'autre quai.",
        "Vous pouvez cuire les pommes de terre avec un peu de sel.",
        "Ma sœur habite une petite maison près de la rivière.",
        "Un bon petit déjeuner donne des forces pour la journée.",
        "La lune tourne autour de la terre, et la terre autour du soleil.",
        "Fermez la fenêtre, s'il vous plaît, il commence à faire froid.",
        "C'est une bonne question, laissez-moi réfléchir.",
    ),
    "hi": (
        "नमस्ते, आप क्या जानना चाहते हैं?",
        "आज मौसम अच्छा है, लेकिन कल बारिश होगी।",
        "माफ़ कीजिए, मैं यह नहीं समझा।",
        "शहर की गाड़ी दूसरे प्लेटफ़ॉर्म से जाती है।",
        "आप आलू को थोड़े नमक के साथ पका सकते हैं।",
        "मेरी बहन नदी के पास एक छोटे घर में रहती है।",
        "अच्छा नाश्ता दिन भर के लिए ताकत देता है।",
        "चाँद धरती के चारों ओर घूमता है।",
        "कृपया खिड़की बंद कर दीजिए, ठंड हो रही है।",
        "यह अच्छा सवाल है, मुझे सोचने दीजिए।",
    ),
    "it": (
        "Buongiorno, che cosa vorresti sapere?",
        "Oggi il tempo è bello, ma domani pioverà.",
        "Mi dispiace, non ho capito.",
        "Il treno per la città parte dall'altro binario.",
        "Puoi cuocere le patate con un po' di sale.",
        "Mia sorella vive in una piccola casa vicino al fiume.",
        "Una colazione sana dà forza per tutta la giornata.",
        "La luna gira intorno alla terra, e la terra intorno al sole.",
        "Per favore, chiudi la finestra, comincia a fare freddo.",
        "È una bella domanda, fammi pensare.",
    ),
    "pt": (
        "Bom dia, o que você gostaria de saber?",
        "Hoje o tempo está bom, mas amanhã vai chover.",
        "Desculpe, eu não entendi isso.",
        "O trem para a cidade sai da outra plataforma.",
        "Você pode cozinhar as batatas com um pouco de sal.",
        "Minha irmã mora em uma casa pequena perto do rio.",
        "Um bom café da manhã dá força para o dia inteiro.",
        "A lua gira ao redor da terra, e a terra ao redor do sol.",
        "Por favor, feche a janela, está ficando frio.",
        "É uma boa pergunta, deixe-me pensar.",
    ),
}
"""The same ten in each language, without numbers, which a recogniser writes in its own way."""


@dataclass(frozen=True)
class Trip:
    """One sentence, there and back. `factor` is seconds to make a second of sound."""

    language: str
    said: str
    written: str
    detected: str
    words: int
    wrong_words: int
    letters: int
    wrong_letters: int
    factor: float


def plain_words(text: str) -> list[str]:
    """The words without case and punctuation; an apostrophe parts two."""
    kept = (" " if unicodedata.category(each)[0] in "PSZ" else each for each in text.casefold())
    return "".join(kept).split()


def trip(voice: Voice, recogniser: Transcriber, language: str, sentence: str) -> Trip:
    """Let the voice say a sentence and Whisper write it."""
    began = time.monotonic()
    sounds = voice.synthesize(SpokenText(language).read(sentence).words, language=language)
    sound = np.concatenate(list(sounds))
    took = time.monotonic() - began
    audio: NDArray[np.float32] = soxr.resample(sound, voice.sample_rate, SAMPLE_RATE)
    told, detected = (
        recogniser.transcribe([TranscriptionRequest(audio.astype(np.float32), named)])[0]
        for named in (language, None)
    )
    said, written = plain_words(sentence), plain_words(told.text)
    return Trip(
        language=language,
        said=sentence,
        written=told.text,
        detected=detected.language,
        words=len(said),
        wrong_words=word_errors(said, written),
        letters=len("".join(said)),
        wrong_letters=word_errors(list("".join(said)), list("".join(written))),
        factor=took / (len(sound) / voice.sample_rate),
    )


def summary_of(name: str, trips: Sequence[Trip]) -> dict[str, object]:
    """A row of the table."""
    return {
        "voice": name,
        "language": trips[0].language,
        "wrong words %": round(
            100 * sum(t.wrong_words for t in trips) / sum(t.words for t in trips), 1
        ),
        "wrong letters %": round(
            100 * sum(t.wrong_letters for t in trips) / sum(t.letters for t in trips), 1
        ),
        "detected": sum(t.detected == t.language for t in trips),
        "sentences": len(trips),
        "real-time factor": round(float(np.median([t.factor for t in trips])), 2),
    }


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--languages", nargs="+", choices=SENTENCES, default=list(SENTENCES))
    parser.add_argument("--json", type=Path, help="also write each sentence to this file")
    options = parser.parse_args(arguments)
    settings = Settings(whisper_model=loading.MULTILINGUAL_MODEL)
    voices = [load(settings, choose(settings, survey(settings)).voice)]
    voices.append(load(settings, Pick("kokoro", "as the voice of every language it has")))
    recogniser = loading.load(settings, Pick("faster_whisper", "as it is what is asked"))
    rows: list[dict[str, object]] = []
    each: list[object] = []
    for voice in voices:
        own = [language for language in options.languages if language in voice.languages]
        # The first voice has the second beside it for all languages but its own.
        for language in own[:1] if voice is voices[0] else own:
            trips = [trip(voice, recogniser, language, text) for text in SENTENCES[language]]
            rows.append(summary_of(voice.name, trips))
            each += [asdict(one) for one in trips]
            print(rows[-1], flush=True)
    report({"voices": rows}, each, options.json)


if __name__ == "__main__":
    main()

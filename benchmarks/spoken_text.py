"""How much of what is written comes back: sentences through the voice and into Whisper.

    python -m benchmarks.spoken_text [--before FILE] [--model base] [--json FILE]

Each of the 200 sentences in `spoken_sentences.tsv` holds numbers, units, formulas and the like. It
is made into clauses and read aloud as a reply is, spoken by the default Piper voice and transcribed
whole. It is right when every fact that the file names for it is in the transcript, number words
and signs apart ("$20" is "twenty dollars"). A recogniser mishears some of what is said rightly, so
even perfect text does not reach 100 %.

`--before` takes another way to make the text, for comparison in the same run: a Python file with a
function `speakable(text)`, such as that of an earlier version:

    git show 99752a4:voices/markup.py >before.py
"""

from __future__ import annotations

import argparse
import importlib.util
import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import soxr
from numpy.typing import NDArray

from benchmarks.figures import report
from benchmarks.transcription import TENS, UNITS
from fusion.audio import SAMPLE_RATE
from fusion.settings import Settings
from voices import piper
from voices.sentences import ClauseSplitter
from voices.spoken_text import SpokenText
from whisper_live.transcribers import faster_whisper
from whisper_live.transcribers.base import Transcriber, TranscriptionRequest

SENTENCES = Path(__file__).parent / "spoken_sentences.tsv"
_PAUSE = 0.3  # seconds of silence around the sound, as there is around speech

_SMALL = {word: number for number, word in enumerate(UNITS)}
_SMALL |= {word: 10 * number for number, word in enumerate(TENS) if word}
_SCALES = {"thousand": 10**3, "million": 10**6, "billion": 10**9, "trillion": 10**12}
# fmt: off
_ORDINALS = {
    "first": "1st", "second": "2nd", "third": "3rd", "fourth": "4th", "fifth": "5th",
    "sixth": "6th", "seventh": "7th", "eighth": "8th", "ninth": "9th", "tenth": "10th",
    "fourteenth": "14th",
}
# fmt: on
_MONEY = {"$": "dollar", "€": "euro", "£": "pound", "₹": "rupee"}
_NUMBER = r"\d+(?:,\d{3})*(?:\.\d+)?|\.\d+"
# What a recogniser may write for what it got, on both sides of the comparison.
_SPELLINGS: tuple[tuple[str, str], ...] = (
    (r"(\d),(?=\d{3}(?!\d))", r"\1"),
    (r"(?<![\d.])\.(\d)", r"0.\1"),
    (r"\b([ap])\.?m\b\.?", r"\1m"),
    (r"½", " 1/2"),
    (r"¼", " 1/4"),
    (r"¾", " 3/4"),
    (r"⅔", " 2/3"),
    (r"⅝", " 5/8"),
    (rf"({_NUMBER})\s?(k|thousand|million|m|billion|bn|b|trillion|t)\b", r"\1 \2"),
    (r"°\s?c\b|degrees? c\b", " degrees celsius"),
    (r"°\s?f\b|degrees? f\b", " degrees fahrenheit"),
    (r"°", " degrees"),
    (r"%", " percent"),
    (r"²", " squared"),
    (r"³", " cubed"),
    (r"\bkm/h\b|\bkmh\b|\bkph\b", "kilometers per hour"),
    (r"\bmph\b", "miles per hour"),
    (r"\bm/s\b", "meters per second"),
    (r"\bmbps\b", "megabits per second"),
    (r"(?<=\d)\s?x\s?(?=\d)|×|\*", " times "),
    (r"÷", " divided by "),
    (r"\^", " to the power of "),
    (r"=", " equals "),
    (r"\+", " plus "),
    (r"&", " and "),
    (r"<", " less than "),
    (r">", " greater than "),
    (r"#", "number "),
    (r"\bno\. (?=\d)", "number "),
    (r"(?<=\d)\s?[-–—]\s?(?=\d)", " to "),
    (r"(?<![\w.])[-−](?=\d)|(?<=\s)[-−](?=\s\d)", "minus "),
    (r"\bnegative (?=\d)", "minus "),
    (r"[-–—]", " "),
    (r"(?<=[a-z])/(?=[a-z])", " per "),
)
# fmt: off
_ABBREVIATED = {
    "km": "kilometer", "kg": "kilogram", "cm": "centimeter", "ml": "milliliter", "mg": "milligram",
    "gb": "gigabyte", "ghz": "gigahertz", "db": "decibel", "lbs": "pound", "oz": "ounce",
    "feet": "feet", "ft": "feet", "litre": "liter", "metre": "meter", "k": "thousand",
    "bn": "billion", "b": "billion", "doctor": "dr", "mister": "mr", "misses": "mrs",
    "missis": "mrs", "missus": "mrs", "saint": "st", "mt": "mount", "vol": "volume",
    "hertz": "hertz", "celsius": "celsius", "approx": "approximately", "versus": "vs",
    "halves": "half", "milliampere": "milliamp", "mah": "milliamp hour", "kwh": "kilowatt hour",
}
# fmt: on


@dataclass(frozen=True)
class Sentence:
    """One line of the file. `facts` are alternatives of what must come back, each."""

    kind: str
    written: str
    facts: tuple[tuple[str, ...], ...]


@dataclass(frozen=True)
class Result:
    """What became of one sentence; `missing` are the facts that did not come back."""

    kind: str
    written: str
    spoken: str
    transcript: str
    missing: tuple[str, ...]

    @property
    def right(self) -> bool:
        return not self.missing


def sentences(file: Path = SENTENCES) -> Iterator[Sentence]:
    """The sentences of the file."""
    for line in file.read_text(encoding="utf-8").splitlines():
        if line and not line.startswith("#"):
            kind, written, facts = line.split("\t")
            yield Sentence(
                kind, written, tuple(tuple(fact.split("|")) for fact in facts.split(";"))
            )


def missing_facts(sentence: Sentence, transcript: str) -> tuple[str, ...]:
    """The facts that are not in the transcript, by their first form."""
    found = f" {canonical(transcript)} "
    digits = re.sub(r"\D", "", " ".join(canonical(transcript).split(" ")))
    return tuple(
        forms[0]
        for forms in sentence.facts
        if not any(
            form[1:] in digits if form.startswith("#") else f" {canonical(form)} " in found
            for form in forms
        )
    )


def canonical(text: str) -> str:
    """One spelling for what is the same aloud: lower case, numbers in digits, signs in words."""
    text = text.lower().replace("’", "'")
    for sign, name in _MONEY.items():
        text = re.sub(
            rf"{re.escape(sign)}\s?({_NUMBER})(\s?(?:k|m|b|bn|t|thousand|million|billion|trillion)\b)?",
            rf"\1\2 {name}",
            text,
        )
    for pattern, spelling in _SPELLINGS:
        text = re.sub(pattern, spelling, text)
    words = re.findall(r"\d+/\d+|\d+(?:[.:]\d+)*(?:st|nd|rd|th)?|[a-zäöü]+(?:'[a-z]+)?\d*", text)
    words = [word.replace(":", ".") for word in words]
    words = [_ABBREVIATED.get(word, word) for word in " ".join(words).split()]
    words = _joined(_numbers([_singular(word) for word in words]))
    return re.sub(
        r"(\d+) (dollar|euro|pound) (?:and )?(\d\d) (?:cent|pence)", r"\1.\3 \2", " ".join(words)
    )


def _singular(word: str) -> str:
    word = _ABBREVIATED.get(word, word)
    if word.endswith(("ches", "shes")):
        return word[:-2]
    is_plural = len(word) > 3 and word.endswith("s") and not word.endswith(("ss", "us", "is"))
    return word[:-1] if is_plural and word not in ("times", "equals", "celsius", "status") else word


def _numbers(words: Sequence[str]) -> list[str]:
    """Number words in digits: "one point five million" is 1500000."""
    written: list[str] = []
    at = 0
    while at < len(words):
        value, used = _number(words, at)
        written.append(words[at] if not used else value)
        at += max(used, 1)
    return [_ORDINALS.get(word, word) for word in written]


def _number(words: Sequence[str], at: int) -> tuple[str, int]:
    start = at
    total: float | None = None
    if re.fullmatch(r"\d+(?:\.\d+)?", words[at]):
        total, at = float(words[at]), at + 1
        text = words[start]
    elif words[at] in _SMALL:
        total, at = float(_SMALL[words[at]]), at + 1
        is_ten = total >= 20
        if is_ten and at < len(words) and 0 < _SMALL.get(words[at], 0) < 10:
            total, at = total + _SMALL[words[at]], at + 1
        text = f"{total:g}"
        if at < len(words) and words[at] == "hundred":
            total, at = total * 100, at + 1
            text = f"{total:g}"
    else:
        return "", 0
    if at + 1 < len(words) and words[at] == "point":
        fraction = ""
        at += 1
        while at < len(words) and (words[at].isdigit() or _SMALL.get(words[at], 99) < 10):
            fraction += words[at] if words[at].isdigit() else str(_SMALL[words[at]])
            at += 1
        text = f"{text}.{fraction}"
        total = float(text) if text.count(".") == 1 else total
    while at < len(words) and words[at] in _SCALES:
        total, at = total * _SCALES[words[at]], at + 1
        text = f"{total:.0f}"
    return text, at - start


def _joined(words: Sequence[str]) -> list[str]:
    """Fractions as such: "one half" and "3 quarter" are 1/2 and 3/4."""
    text = " ".join(words)
    text = re.sub(r"\b(?:1|a) half\b", "1/2", text)
    for name, below in (("quarter", 4), ("third", 3), ("3rd", 3), ("5th", 5), ("8th", 8)):
        text = re.sub(rf"\b([1-9]) {name}s?\b", rf"\1/{below}", text)
    return text.split(" ")


def clauses(written: str) -> list[str]:
    """The sentence as the speech server cuts it."""
    splitter = ClauseSplitter("en")
    return [*splitter.feed(written), *splitter.finish()]


def speak(voice: piper.PiperVoice, words: Sequence[str]) -> NDArray[np.float32]:
    """The sound of some clauses, as the recogniser takes it."""
    silence = np.zeros(int(_PAUSE * voice.sample_rate), np.float32)
    sound = [silence, *(chunk for one in words if one for chunk in voice.synthesize(one)), silence]
    return np.asarray(
        soxr.resample(np.concatenate(sound), voice.sample_rate, SAMPLE_RATE), np.float32
    )


def round_trip(
    sentence: Sentence,
    read: Callable[[str], str],
    voice: piper.PiperVoice,
    recogniser: Transcriber,
) -> Result:
    """Say the sentence and have it transcribed."""
    spoken = [read(clause) for clause in clauses(sentence.written)]
    request = TranscriptionRequest(speak(voice, spoken), "en")
    transcript = recogniser.transcribe([request])[0].text.strip()
    missing = missing_facts(sentence, transcript)
    return Result(sentence.kind, sentence.written, " ".join(spoken), transcript, missing)


def load_reader(file: Path) -> Callable[[str], str]:
    """The function `speakable` of a Python file."""
    spec = importlib.util.spec_from_file_location("before", file)
    if spec is None or spec.loader is None:
        raise SystemExit(f"{file} is no Python file.")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    reader: Callable[[str], str] = module.speakable
    return reader


def summary(results: Sequence[Result]) -> dict[str, object]:
    """How many came back right, in all and by kind ("9 of 12")."""
    total, right = Counter[str](), Counter[str]()
    for result in results:
        total[result.kind] += 1
        right[result.kind] += result.right
    kinds = {kind: f"{right[kind]} of {total[kind]}" for kind in total}
    return {"right": sum(right.values()), "sentences": len(results), "kinds": kinds}


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description="Written sentences, spoken and transcribed back.")
    parser.add_argument("--before", type=Path, help="a file with another speakable() to compare")
    parser.add_argument("--model", default="base", help="as --whisper_model")
    parser.add_argument("--threads", type=int, default=0, help="CPU threads; 0 takes every core")
    parser.add_argument("--json", type=Path, help="file for the result")
    options = parser.parse_args(arguments)
    settings = Settings(whisper_model=options.model, threads=options.threads)
    voice, recogniser = piper.load(settings), faster_whisper.load(settings)
    voice.warm_up()
    recogniser.warm_up()
    now = SpokenText("en", voice.languages)
    readers = {"now": lambda text: now.read(text).words}
    if options.before:
        readers["before"] = load_reader(options.before)
    results: dict[str, list[Result]] = {name: [] for name in readers}
    for sentence in sentences():
        for name, read in readers.items():
            result = round_trip(sentence, read, voice, recogniser)
            results[name].append(result)
            mark = "ok" if result.right else "--"
            print(
                f"{mark} {name:6} {result.written} | {result.spoken} | {result.transcript}",
                flush=True,
            )
    each = {
        name: [{**asdict(one), "right": one.right} for one in made]
        for name, made in results.items()
    }
    report(
        {"model": options.model, "voice": voice.name}
        | {name: summary(made) for name, made in results.items()},
        [each],
        options.json,
    )
    voice.close()


if __name__ == "__main__":
    main()

"""What a voice is given to say for what is written: tables of forms, and what always holds."""

from __future__ import annotations

import re
import subprocess
import sys
import textwrap
from decimal import Decimal
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from voices.sentences import ClauseSplitter
from voices.spoken_text import SpokenText, limits, speakable
from voices.spoken_text.amounts import amounts_of
from voices.spoken_text.lexicon import LEXICONS

FORMS = Path(__file__).parent / "spoken_forms.tsv"

# A machine that others use as well is slow at times; that is no failure.
patient = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])

languages = st.sampled_from([*LEXICONS, "fi", "ko", "xx"])
SIGNS = [*"$€£¥%°^*_`~#|<>[](){}\\/=+-–—−×÷±≤≥≈√∑²³½₂.,:;!?'\"&@ \n", "\t", "\u00a0", "𝒳", "😊"]
WORDS = [
    *(
        "km",
        "Mrs.",
        "No.",
        "II",
        "a.m.",
        "and",
        "https://a.b/c",
        "x",
        "I",
        "U.S.",
        "9",
        "10",
        "0.5",
    ),
    *("1,000", "2024", "555-1234", "$5", "**", "`", "$x$", "\\frac{1}{2}", "<b>", "5/6", "10:30"),
]
noise = st.one_of(
    st.lists(st.sampled_from(SIGNS + WORDS), max_size=60).map("".join),
    st.lists(st.sampled_from(WORDS), max_size=40).map(" ".join),
    st.text(alphabet="0159.,’ -–/:x^$%", max_size=60),
    st.text(max_size=300),
)


def forms() -> list[tuple[str, str, str]]:
    rows = []
    for line in FORMS.read_text(encoding="utf-8").splitlines():
        if line and not line.startswith("# "):
            language, written, spoken = line.split("\t")
            rows.append((language, written.replace("\\n", "\n"), spoken))
    return rows


def clauses(text: str, language: str = "en") -> list[str]:
    splitter = ClauseSplitter(language)
    return [piece for character in text for piece in splitter.feed(character)] + splitter.finish()


def read_by_clause(text: str, language: str = "en") -> str:
    """What is said of a reply that comes character by character."""
    return " ".join(filter(None, (speakable(piece, language) for piece in clauses(text, language))))


@pytest.mark.parametrize(("language", "written", "spoken"), forms())
def test_written_and_spoken(language: str, written: str, spoken: str) -> None:
    assert speakable(written, language) == spoken


def test_there_are_hundreds_of_forms_in_all_languages() -> None:
    rows = forms()
    assert len(rows) > 400
    assert {language for language, _, _ in rows} >= set(LEXICONS)


@pytest.mark.parametrize(
    ("written", "spoken"),
    [
        ("We all know that the answer of 8 - 3 = 5 is right.", "8 minus 3 equals 5"),
        ("He said it very slowly, that $E = mc^2 + 1$ is the law.", "E equals m c squared plus 1"),
        ("Now this is a **very bold and long, also quite big** statement.", "very bold and long"),
        ("Please run `git commit, then push` before lunch.", "git commit, then push"),
        ("We saw Mrs. Smith at No. 5 today.", "Missis Smith at Number 5"),
        ("It takes a lot of time, about .5 hours in all.", "about 0.5 hours"),
        ("The three of them measured 10 - 4 - 2 in total.", "10 minus 4 minus 2"),
        ("Here it was \\(x + 2, y\\) that was asked.", "x plus 2, y"),
        ("Press the key that is called <a href='x, y z'>this one</a> now.", "this one now"),
    ],
)
def test_the_splitter_and_the_reader_agree(written: str, spoken: str) -> None:
    assert spoken in read_by_clause(written)


@pytest.mark.parametrize(
    ("language", "whole"),
    [
        ("de", "z. B. Müller"),
        ("de", "Nr. 5"),
        ("de", "Dr. Schmidt"),
        ("fr", "M. Dupont"),
        ("es", "Sra. García"),
        ("nl", "dhr. Jansen"),
        ("en", "Mrs. Jones"),
        ("en", "8 - 3 = 5"),
        ("en", "`a, B. C`"),
        ("en", "$a + b, c$"),
    ],
)
def test_a_clause_is_not_cut_in_it(language: str, whole: str) -> None:
    text = (
        f"It says so. I like it very much. We saw that the {whole} is more than enough. It is so."
    )
    assert any(whole in piece for piece in clauses(text, language))


# -- what always holds -----------------------------------------------------------------------------


@patient
@given(noise, languages)
def test_nothing_raises_and_nothing_unspeakable_is_left(text: str, language: str) -> None:
    spoken = speakable(text, language)
    assert not re.search(r"[*`_|<>{}\\^\n\t😊]", spoken)
    assert spoken == spoken.strip()
    assert "  " not in spoken
    assert not spoken or any(map(str.isalnum, spoken))
    assert len(spoken) <= limits.LONGEST_TEXT


@patient
@given(st.lists(st.from_regex(r"[a-z]{4,9}[,;.!?]?", fullmatch=True), min_size=1, max_size=40))
def test_plain_text_is_read_as_written(words: list[str]) -> None:
    text = " ".join(words)
    assert speakable(text) == text
    assert speakable(speakable(text)) == text


@patient
@given(st.integers(0, 10**15 - 1), languages)
def test_a_whole_number_keeps_its_digits(number: int, language: str) -> None:
    assert speakable(f"{number} apples" if language == "en" else str(number), language).startswith(
        str(number)
    )
    if language == "en":
        assert speakable(f"{number:,} apples") == f"{number} apples"


@patient
@given(st.integers(16, 40).flatmap(lambda n: st.integers(10**n, 10 ** (n + 1) - 1)))
def test_no_digit_of_a_long_number_is_lost(number: int) -> None:
    spoken = speakable(f"Take {number}.")
    assert re.sub(r"\D", "", spoken) == str(number)
    assert max(map(len, spoken.split())) < 10


@patient
@given(
    st.decimals(0, 99999, places=3, allow_nan=False, allow_infinity=False),
    st.sampled_from(["de", "en", "fr", "es", "it", "pt", "nl", "pl"]),
)
def test_a_decimal_reads_back(number: Decimal, language: str) -> None:
    sign = amounts_of(language).decimal
    spoken = speakable(f"{number:f}".replace(".", sign) + " km", language)
    assert Decimal(spoken.split(" ")[0].replace(sign, ".")) == number
    assert len(spoken.split(" ")) == 2


@patient
@given(st.integers(2, 10**6), st.integers(0, 99), st.sampled_from("$€£"))
def test_a_price_reads_back(whole: int, cents: int, sign: str) -> None:
    spoken = speakable(f"{sign}{whole:,}.{cents:02}")
    assert re.findall(r"\d+", spoken) == [str(whole)] + ([str(cents)] if cents else [])
    assert re.search(r"dollars|euros|pounds", spoken)


@patient
@given(st.integers(0, 998), st.integers(1, 999), st.sampled_from(["-", "–", " - "]))
def test_a_rising_pair_is_a_range_and_a_falling_one_with_a_result_is_none(
    low: int, more: int, dash: str
) -> None:
    high = low + more
    assert speakable(f"{low}{dash}{high} apples") == f"{low} to {high} apples"
    assert speakable(f"{high}{dash}{low} = {more}") == f"{high} minus {low} equals {more}"


@patient
@given(st.dates(), st.sampled_from(["en", "fr", "es", "it", "nl", "pl"]))
def test_a_date_reads_back(date: object, language: str) -> None:
    spoken = speakable(str(date), language)
    assert "-" not in spoken.replace("-", "", spoken.count("-")) or language == "en"
    assert re.search(rf"\b{date.day}\b", spoken)


@patient
@given(st.integers(-9, 99), st.integers(-99, 99))
def test_a_power_reads_back(base: int, exponent: int) -> None:
    written = f"{base}^{exponent}"
    spoken = speakable(written).replace("minus ", "-")
    ends = {2: "squared", 3: "cubed"}.get(exponent, f"to the power of {exponent}")
    assert spoken == f"{base} {ends}"


@patient
@given(st.from_regex(r"[2-9]\d\d-[2-9]\d\d-\d{4}", fullmatch=True))
def test_a_telephone_number_is_read_digit_by_digit(number: str) -> None:
    spoken = speakable(f"Call {number} now.")
    assert re.sub(r"\D", "", spoken) == number.replace("-", "")
    assert all(len(digit) == 1 for digit in re.findall(r"\d+", spoken))


@pytest.mark.parametrize(
    "unit",
    ["1-", "1 - ", "(", "[", "**", "`", "$", "$x", "<a ", "\\frac{", "^{", "A.", "1,", "1.", "1/",
     "a/", "I.", "9:", "x^", "@a", "http://", "&", "> ", "- ", "€", "_a_", "*a", "![", "1 000 ",
     "½", "β", "東", "\u0301", "|", "~~", "e.g.", "{", "{\\", "5'", "\\(", "km/", "-5"],
)  # fmt: skip
def test_time_grows_with_the_text_and_no_faster(unit: str) -> None:
    """Ten times the text may take some twenty times as long, never a hundred times."""
    reader = SpokenText("en", ["en"])
    counts = []
    for length in (300, 3000):
        text = (unit * length)[:length]
        steps = 0

        def count(frame: object, event: str, argument: object) -> None:
            nonlocal steps
            steps += 1

        sys.setprofile(count)
        try:
            reader.read(text)
        finally:
            sys.setprofile(None)
        counts.append(steps)
    assert counts[1] < 40 * counts[0]


# -- what the voice can say ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("languages", "written", "words", "left_out"),
    [
        (["en"], "Tokyo (東京) is big.", "Tokyo is big.", ("Chinese",)),
        (["en"], "東京は大きい。", "", ("Chinese", "Hiragana")),
        (["en"], "Привет means hello.", "means hello.", ("Cyrillic",)),
        (["en"], "A שלום or سلام or नमस्ते.", "A or or.", ("Arabic", "Devanagari", "Hebrew")),
        (["en"], "α is a letter, λόγος a word.", "alpha is a letter, a word.", ("Greek",)),
        (["en"], "Café, naïve, Zürich, 5 km.", "Café, naïve, Zürich, 5 kilometers.", ()),
        (["de"], "Das ist 漢字.", "Das ist.", ("Chinese",)),
        (["ru"], "Привет, hello, 東京.", "Привет, hello.", ("Chinese",)),
        (["cmn"], "你好 hello привет", "你好 hello", ("Cyrillic",)),
        (["ja"], "東京は大きい。", "東京は大きい。", ()),
        (["ko"], "안녕 東京", "안녕", ("Chinese",)),
        (["hi"], "नमस्ते hello", "नमस्ते hello", ()),
        (["en", "pl"], "Łódź i 東京", "Łódź i", ("Chinese",)),
        ([], "東京 ok", "東京 ok", ()),
    ],
)  # fmt: skip
def test_what_the_voice_cannot_say_is_left_out(
    languages: list[str], written: str, words: str, left_out: tuple[str, ...]
) -> None:
    spoken = SpokenText("", languages).read(written)
    assert (spoken.words, spoken.left_out) == (words, left_out)


def test_a_voice_of_several_languages_speaks_one_at_a_time() -> None:
    voice = ["en", "hi"]
    assert SpokenText("hi", voice).read("नमस्ते hello").words == "नमस्ते hello"
    assert SpokenText("en", voice).read("नमस्ते hello").left_out == ("Devanagari",)
    assert SpokenText("ru", voice).read("Привет hello").left_out == ("Russian",)


def test_a_language_that_is_not_known_is_the_voices_own() -> None:
    assert SpokenText("", ["de"]).read("50 %").words == "50 Prozent"
    assert SpokenText("de", ["de", "en"]).read("50 %").words == "50 Prozent"
    assert SpokenText("", []).read("50 %").words == "50 percent"


# -- what the phonemizer can take ------------------------------------------------------------------


@pytest.mark.parametrize("separator", [".", ". ", "-", "", "/"])
@pytest.mark.parametrize("count", [5, 50, 120, 1000])
def test_dotted_letters_are_bounded(separator: str, count: int) -> None:
    spoken = speakable(separator.join("ABCDEFGHIJ"[n % 10] for n in range(count)))
    assert not re.search(r"(?:[^\W_]\.){4}", spoken)
    assert max(map(len, spoken.split()), default=0) <= limits.LONGEST_WORD


def test_only_what_is_one_word_is_cut() -> None:
    chinese = "今天天气很好我们一起去公园散步然后回家吃饭" * 4
    assert speakable(chinese, "zh") == chinese
    german = "Rindfleischetikettierungsüberwachungsaufgabenübertragungsgesetz"
    assert speakable(german[:60], "de") == german[:60]
    assert speakable("w" * 130) == " ".join(("w" * 60, "w" * 60, "w" * 10))


def test_the_real_phonemizer_survives_what_killed_it() -> None:
    """In a process of its own: espeak-ng corrupts memory over long runs of dotted letters."""
    script = """
        import sys
        from piper.phonemize_espeak import EspeakPhonemizer
        from voices.spoken_text import speakable
        phonemizer = EspeakPhonemizer()
        letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
        for count in (30, 100, 120, 400, 3000):
            for end in (".", "", ". "):
                for unit in ("{}.", "{}. ", "({}.)", "{}.{}.-", "1.{}.", "{}'.", "é.", "я.", "中."):
                    text = "".join(unit.replace("{}", letters[n % 26]) for n in range(count))
                    for language, voice in (("en", "en-us"), ("de", "de"), ("ru", "ru")):
                        phonemizer.phonemize(voice, speakable(text + end, language) or "a")
        print("alive")
    """
    command = [sys.executable, "-c", textwrap.dedent(script)]
    run = subprocess.run(command, capture_output=True, text=True, timeout=170, check=False)
    assert (run.returncode, run.stdout.strip()) == (0, "alive"), run.stderr[-500:]


@pytest.mark.parametrize(
    ("language", "voice", "written"),
    [
        ("en", "en-us", "Mrs. Smith lives at No. 5 in St. Louis."),
        ("en", "en-us", "World War II, the U.S. Senate and J. R. R. Tolkien vs. Dr. Who."),
        ("en", "en-us", "It is 5 p.m. in London, e.g. Big Ben, approx. Six."),
        ("de", "de", "Am 6. Mai sah Dr. Müller z. B. Nr. 5."),
        ("fr", "fr", "Hier M. Dupont a vu le Dr. Martin."),
    ],
)
def test_the_real_phonemizer_makes_no_pause_in_a_sentence(
    language: str, voice: str, written: str
) -> None:
    from piper.phonemize_espeak import EspeakPhonemizer

    spoken = "".join(read_by_clause(written, language))
    sentences = EspeakPhonemizer().phonemize(voice, spoken)
    assert len(sentences) == 1, sentences
    assert "roman" not in spoken

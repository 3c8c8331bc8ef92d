"""What a reply says while a tool takes long, so that nobody hears silence. Pure."""

from __future__ import annotations

AFTER_NOTHING = 1.5
"""Seconds after which a reply that has said nothing yet says that it takes a moment."""

AFTER_WORDS = 6.0
"""The same for one that said something before the call, and between two times."""

_WORDS = {
    "ar": ("لحظة من فضلك.", "سيستغرق الأمر وقتا أطول قليلا."),
    "cs": ("Okamžik, prosím.", "Ještě to chvíli potrvá."),
    "da": ("Et øjeblik.", "Det tager lidt længere."),
    "de": ("Einen Moment, bitte.", "Es dauert noch etwas."),
    "en": ("One moment, please.", "It takes a little longer."),
    "es": ("Un momento, por favor.", "Tarda un poco más."),
    "fi": ("Hetkinen, olkaa hyvä.", "Tämä kestää vielä hetken."),
    "fr": ("Un instant, s'il vous plaît.", "Cela prend encore un peu de temps."),
    "hi": ("एक क्षण, कृपया।", "इसमें थोड़ा और समय लगेगा।"),
    "hu": ("Egy pillanat.", "Még egy kis időbe telik."),
    "it": ("Un momento, per favore.", "Ci vuole ancora un po'."),
    "ja": ("少々お待ちください。", "もう少し時間がかかります。"),
    "ko": ("잠시만 기다려 주세요.", "조금 더 걸립니다."),
    "nb": ("Et øyeblikk.", "Det tar litt lengre tid."),
    "nl": ("Een moment, alstublieft.", "Het duurt nog even."),
    "pl": ("Chwileczkę.", "To jeszcze chwilę potrwa."),
    "pt": ("Um momento, por favor.", "Vai demorar mais um pouco."),
    "ru": ("Одну минуту, пожалуйста.", "Это займёт ещё немного времени."),
    "sv": ("Ett ögonblick.", "Det tar lite längre tid."),
    "tr": ("Bir dakika lütfen.", "Biraz daha sürecek."),
    "uk": ("Хвилинку, будь ласка.", "Це займе ще трохи часу."),
    "zh": ("请稍等。", "还需要一点时间。"),
}


class WaitingWords:
    """Decides when a waiting reply says something, and what. `language` is a code such as "de"."""

    def __init__(self, language: str) -> None:
        self._first, self._again = _WORDS.get(language, _WORDS["en"])
        self._said_first = False
        self._next = AFTER_NOTHING

    def begin(self, *, spoke: bool) -> None:
        """Calls begin; `spoke`: the reply has said something in this pass."""
        self._next = AFTER_WORDS if spoke else AFTER_NOTHING

    def due(self, waited: float) -> str:
        """What to say once the calls have taken so many seconds; empty where nothing is due."""
        if waited < self._next:
            return ""
        self._next = waited + AFTER_WORDS
        words = self._again if self._said_first else self._first
        self._said_first = True
        return words

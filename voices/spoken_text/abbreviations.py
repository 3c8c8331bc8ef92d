"""Abbreviations: where a full stop ends no sentence, and what the voice is to say instead.

The clause splitter and the text for the voice use the same table, so a full stop that ends no
clause is no pause of the voice either.
"""

from __future__ import annotations

# fmt: off
ENGLISH = {
    "dr": "Doctor", "mr": "Mister", "mrs": "Missis", "ms": "Ms", "mx": "Mx", "prof": "Professor",
    "rev": "Reverend", "hon": "Honorable", "gen": "General", "col": "Colonel", "maj": "Major",
    "capt": "Captain", "cpt": "Captain", "lt": "Lieutenant", "sgt": "Sergeant", "sr": "Senior",
    "jr": "Junior", "st": "Saint", "mt": "Mount", "ft": "Fort", "gov": "Governor",
    "pres": "President", "rep": "Representative", "sen": "Senator", "vs": "versus",
    "cf": "compare", "al": "al", "ca": "circa", "approx": "approximately", "est": "established",
    "dept": "Department", "univ": "University", "inc": "Inc", "ltd": "Limited", "co": "Company",
    "corp": "Corporation", "bros": "Brothers", "assn": "Association", "ave": "Avenue",
    "blvd": "Boulevard", "rd": "Road", "jan": "January", "feb": "February", "mar": "March",
    "apr": "April", "jun": "June", "jul": "July", "aug": "August", "sep": "September",
    "sept": "September", "oct": "October", "nov": "November", "dec": "December",
    "e.g": "for example", "i.e": "that is", "etc": "et cetera", "a.k.a": "also known as",
    "ph.d": "PhD",
}
"""By the letters before the full stop, in lower case; words that end no sentence."""

NUMBERED = {
    "no": "number", "nos": "numbers", "nr": "number", "vol": "volume", "fig": "figure",
    "figs": "figures", "p": "page", "pp": "pages", "art": "article", "sec": "section",
    "ch": "chapter", "eq": "equation", "ed": "edition", "op": "opus",
}
"""Abbreviations only before a number: "No. 5", but "No. It is far."."""

OTHERS: dict[str, dict[str, str]] = {
    "de": {
        "dr": "Doktor", "prof": "Professor", "nr": "Nummer", "z. b": "zum Beispiel",
        "z.b": "zum Beispiel", "d. h": "das heißt", "d.h": "das heißt", "usw": "und so weiter",
        "bzw": "beziehungsweise", "ca": "circa", "u. a": "unter anderem", "evtl": "eventuell",
        "u.a": "unter anderem", "ggf": "gegebenenfalls", "inkl": "inklusive", "str": "Straße",
        "st": "Sankt", "mio": "Millionen", "mrd": "Milliarden", "vgl": "vergleiche", "hr": "Herr",
        "fr": "Frau", "abb": "Abbildung", "bsp": "Beispiel", "etc": "et cetera",
        "s. o": "siehe oben", "v. chr": "vor Christus", "n. chr": "nach Christus",
        "v.chr": "vor Christus", "n.chr": "nach Christus",
    },
    "fr": {
        "m": "Monsieur", "mm": "Messieurs", "dr": "Docteur", "etc": "et cetera", "av": "avenue",
        "bd": "boulevard", "p. ex": "par exemple", "p.ex": "par exemple", "env": "environ",
        "n°": "numéro",
    },
    "es": {
        "sr": "señor", "sra": "señora", "srta": "señorita", "dr": "doctor", "dra": "doctora",
        "ud": "usted", "uds": "ustedes", "p. ej": "por ejemplo", "p.ej": "por ejemplo",
        "etc": "etcétera", "ee. uu": "Estados Unidos", "ee.uu": "Estados Unidos", "núm": "número",
        "av": "avenida", "aprox": "aproximadamente", "pág": "página",
    },
    "it": {
        "sig": "signor", "sig.ra": "signora", "dott": "dottor", "dr": "dottor",
        "prof": "professor", "ecc": "eccetera", "es": "esempio", "ad es": "ad esempio",
        "ca": "circa", "pag": "pagina",
    },
    "pt": {
        "sr": "senhor", "sra": "senhora", "dr": "doutor", "dra": "doutora", "etc": "et cetera",
        "p. ex": "por exemplo", "p.ex": "por exemplo", "av": "avenida", "aprox": "aproximadamente",
    },
    "nl": {
        "dhr": "de heer", "mevr": "mevrouw", "dr": "dokter", "nr": "nummer",
        "bijv": "bijvoorbeeld", "bv": "bijvoorbeeld", "enz": "enzovoort",
        "d.w.z": "dat wil zeggen", "o.a": "onder andere", "ca": "circa", "incl": "inclusief",
    },
    "pl": {
        "np": "na przykład", "itd": "i tak dalej", "itp": "i tym podobne", "m.in": "między innymi",
        "tzn": "to znaczy", "dr": "doktor", "prof": "profesor", "ul": "ulica", "ok": "około",
        "nr": "numer", "tys": "tysięcy", "godz": "godzina",
    },
    "ru": {
        "т. е": "то есть", "т.е": "то есть", "т. д": "так далее", "т.д": "так далее",
        "т. п": "тому подобное", "т.п": "тому подобное", "напр": "например", "ул": "улица",
        "руб": "рублей", "тыс": "тысяч", "млн": "миллионов", "млрд": "миллиардов", "см": "смотри",
    },
}
# fmt: on


def table(language: str) -> dict[str, str]:
    """What the abbreviations of a language stand for; a language has its own alone."""
    return ENGLISH if language == "en" else OTHERS.get(language, {})

"""The names under which people know Whisper's languages. Pure.

Clients send what they have at hand: a browser's "en-US", a form's "English", a list's "eng".
"""

from __future__ import annotations

from collections.abc import Collection

AUTOMATIC = "auto"

# Whisper's codes with their English names, and the three-letter codes of ISO 639-2 and 639-3.
_LANGUAGES = """
af afrikaans afr; am amharic amh; ar arabic ara; as assamese asm; az azerbaijani aze;
ba bashkir bak; be belarusian bel; bg bulgarian bul; bn bengali ben bangla; bo tibetan bod tib;
br breton bre; bs bosnian bos; ca catalan cat valencian; cs czech ces cze; cy welsh cym wel;
da danish dan; de german deu ger deutsch; el greek ell gre; en english eng;
es spanish spa castilian español; et estonian est; eu basque eus baq; fa persian fas per farsi;
fi finnish fin; fo faroese fao; fr french fra fre français; gl galician glg; gu gujarati guj;
ha hausa hau; haw hawaiian; he hebrew heb iw; hi hindi hin; hr croatian hrv;
ht haitian-creole hat haitian; hu hungarian hun; hy armenian hye arm; id indonesian ind in;
is icelandic isl ice; it italian ita italiano; ja japanese jpn; jw javanese jav jv;
ka georgian kat geo; kk kazakh kaz; km khmer khm; kn kannada kan; ko korean kor; la latin lat;
lb luxembourgish ltz letzeburgesch; ln lingala lin; lo lao; lt lithuanian lit; lv latvian lav;
mg malagasy mlg; mi maori mri mao; mk macedonian mkd mac; ml malayalam mal; mn mongolian mon;
mr marathi mar; ms malay msa may; mt maltese mlt; my myanmar mya bur burmese; ne nepali nep;
nl dutch nld dut flemish nederlands; nn nynorsk nno norwegian-nynorsk;
no norwegian nor nb nob bokmål; oc occitan oci; pa punjabi pan panjabi; pl polish pol polski;
ps pashto pus pushto; pt portuguese por português; ro romanian ron rum moldavian moldovan mo;
ru russian rus; sa sanskrit san; sd sindhi snd; si sinhala sin sinhalese; sk slovak slk slo;
sl slovenian slv; sn shona sna; so somali som; sq albanian sqi alb; sr serbian srp;
su sundanese sun; sv swedish swe svenska; sw swahili swa; ta tamil tam; te telugu tel;
tg tajik tgk; th thai tha; tk turkmen tuk; tl tagalog tgl fil filipino; tr turkish tur;
tt tatar tat; uk ukrainian ukr; ur urdu urd; uz uzbek uzb; vi vietnamese vie; yi yiddish yid ji;
yo yoruba yor; yue cantonese; zh chinese zho chi mandarin cmn
"""

_CODES = {
    name: code
    for code, *names in (entry.split() for entry in _LANGUAGES.split(";"))
    for name in (code, *names)
}

WHISPER_LANGUAGES = frozenset(_CODES.values()) - {"yue"}
"""The codes that every multilingual Whisper model knows; the newest one knows Cantonese too."""

_NAMES = {
    entry.split()[0]: entry.split()[1].replace("-", " ").title() for entry in _LANGUAGES.split(";")
}


def language_name(code: str) -> str:
    """Return the English name of a language, or its code where it has none here."""
    return _NAMES.get(code, code)


def language_code(name: str, known: Collection[str]) -> str | None:
    """Return the code of a language by its name, code or locale ("en-US"), if it is `known`."""
    plain = "-".join(name.lower().replace("_", "-").split())
    for candidate in (plain, plain.split("-", 1)[0]):
        code = _CODES.get(candidate, candidate)
        if code in known:
            return code
    return None

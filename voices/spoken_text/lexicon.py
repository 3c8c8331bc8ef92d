"""What symbols are called in each language that has its own words here.

Units, currencies and large numbers come from the Unicode CLDR (`amounts.py`), which knows far more
languages; this table holds what the CLDR has no words for. In a language without an entry these
symbols are left to the voice.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Lexicon:
    """The words of one language. Templates name `{base}`, `{exponent}`, `{above}`, `{below}`."""

    minus: str
    plus: str
    times: str
    divided_by: str
    equals: str
    not_equal: str
    to: str
    """Between the ends of a range."""
    less: str
    greater: str
    at_most: str
    at_least: str
    plus_minus: str
    about: str
    power: str
    squared: str
    cubed: str
    root: str
    over: str
    per: str
    conjunction: str
    alternative: str
    number: str
    at: str
    dot: str
    """In an address."""
    point: str
    """In a version."""
    time: str = "{hour} {minute}"
    full_hour: str = "{hour}"
    half: str = ""
    minor: str = ""
    """Between the major and the minor unit of money: "3 euros AND 50"."""
    version: str = ""
    ratio: str = ""
    """Between the numbers of "3:1", where it is another word than for a range."""


# fmt: off
LEXICONS: dict[str, Lexicon] = {
    "en": Lexicon(
        minus="minus", plus="plus", times="times", divided_by="divided by", equals="equals",
        not_equal="is not equal to", to="to", less="less than", greater="greater than",
        at_most="at most", at_least="at least", plus_minus="plus or minus", about="about",
        power="{base} to the power of {exponent}", squared="{base} squared", cubed="{base} cubed",
        root="the square root of", over="{above} over {below}", per="per", conjunction="and",
        alternative="or", number="number", at="at", dot="dot", point="point",
        full_hour="{hour} o'clock", half="one half", minor="and", version="version",
    ),
    "de": Lexicon(
        minus="minus", plus="plus", times="mal", divided_by="geteilt durch", equals="gleich",
        not_equal="ungleich", to="bis", less="kleiner als", greater="größer als",
        at_most="höchstens", at_least="mindestens", plus_minus="plus minus", about="etwa",
        power="{base} hoch {exponent}", squared="{base} zum Quadrat", cubed="{base} hoch 3",
        root="Wurzel aus", over="{above} durch {below}", per="pro", conjunction="und",
        alternative="oder", number="Nummer", at="ät", dot="Punkt", point="Punkt",
        time="{hour} Uhr {minute}", full_hour="{hour} Uhr", half="ein halb", minor=" ",
        version="Version", ratio="zu",
    ),
    "es": Lexicon(
        minus="menos", plus="más", times="por", divided_by="dividido entre", equals="igual a",
        not_equal="distinto de", to="a", less="menor que", greater="mayor que",
        at_most="como máximo", at_least="al menos", plus_minus="más menos", about="unos",
        power="{base} elevado a {exponent}", squared="{base} al cuadrado", cubed="{base} al cubo",
        root="raíz cuadrada de", over="{above} sobre {below}", per="por", conjunction="y",
        alternative="o", number="número", at="arroba", dot="punto", point="punto",
        time="{hour} y {minute}", half="un medio", minor="con", version="versión",
    ),
    "fr": Lexicon(
        minus="moins", plus="plus", times="fois", divided_by="divisé par", equals="égale",
        not_equal="différent de", to="à", less="inférieur à", greater="supérieur à",
        at_most="au plus", at_least="au moins", plus_minus="plus ou moins", about="environ",
        power="{base} puissance {exponent}", squared="{base} au carré", cubed="{base} au cube",
        root="racine carrée de", over="{above} sur {below}", per="par", conjunction="et",
        alternative="ou", number="numéro", at="arobase", dot="point", point="point",
        time="{hour} heures {minute}", full_hour="{hour} heures", half="un demi", minor=" ",
        version="version",
    ),
    "it": Lexicon(
        minus="meno", plus="più", times="per", divided_by="diviso", equals="uguale a",
        not_equal="diverso da", to="a", less="minore di", greater="maggiore di",
        at_most="al massimo", at_least="almeno", plus_minus="più o meno", about="circa",
        power="{base} elevato a {exponent}", squared="{base} al quadrato", cubed="{base} al cubo",
        root="radice quadrata di", over="{above} su {below}", per="per", conjunction="e",
        alternative="o", number="numero", at="chiocciola", dot="punto", point="punto",
        time="{hour} e {minute}", half="un mezzo", minor="e", version="versione",
    ),
    "pt": Lexicon(
        minus="menos", plus="mais", times="vezes", divided_by="dividido por", equals="igual a",
        not_equal="diferente de", to="a", less="menor que", greater="maior que",
        at_most="no máximo", at_least="pelo menos", plus_minus="mais ou menos", about="cerca de",
        power="{base} elevado a {exponent}", squared="{base} ao quadrado", cubed="{base} ao cubo",
        root="raiz quadrada de", over="{above} sobre {below}", per="por", conjunction="e",
        alternative="ou", number="número", at="arroba", dot="ponto", point="ponto",
        time="{hour} e {minute}", half="um meio", minor="e", version="versão",
    ),
    "nl": Lexicon(
        minus="min", plus="plus", times="keer", divided_by="gedeeld door", equals="is",
        not_equal="is niet", to="tot", less="kleiner dan", greater="groter dan",
        at_most="hoogstens", at_least="minstens", plus_minus="plus of min", about="ongeveer",
        power="{base} tot de macht {exponent}", squared="{base} in het kwadraat",
        cubed="{base} tot de derde", root="de wortel van", over="{above} gedeeld door {below}",
        per="per", conjunction="en", alternative="of", number="nummer", at="apenstaartje",
        dot="punt", point="punt", time="{hour} uur {minute}", full_hour="{hour} uur",
        half="een half", minor=" ", version="versie", ratio="op",
    ),
    "pl": Lexicon(
        minus="minus", plus="plus", times="razy", divided_by="podzielić przez", equals="równa się",
        not_equal="nie równa się", to="do", less="mniejsze niż", greater="większe niż",
        at_most="najwyżej", at_least="co najmniej", plus_minus="plus minus", about="około",
        power="{base} do potęgi {exponent}", squared="{base} do kwadratu",
        cubed="{base} do sześcianu", root="pierwiastek z", over="{above} przez {below}", per="na",
        conjunction="i", alternative="lub", number="numer", at="małpa", dot="kropka",
        point="kropka", half="jedna druga", version="wersja",
    ),
    "ru": Lexicon(
        minus="минус", plus="плюс", times="умножить на", divided_by="разделить на", equals="равно",
        not_equal="не равно", to="до", less="меньше", greater="больше", at_most="не больше",
        at_least="не меньше", plus_minus="плюс-минус", about="примерно",
        power="{base} в степени {exponent}", squared="{base} в квадрате", cubed="{base} в кубе",
        root="корень из", over="{above} делить на {below}", per="в", conjunction="и",
        alternative="или", number="номер", at="собака", dot="точка", point="точка",
        half="одна вторая", version="версия",
    ),
    "uk": Lexicon(
        minus="мінус", plus="плюс", times="помножити на", divided_by="поділити на",
        equals="дорівнює", not_equal="не дорівнює", to="до", less="менше", greater="більше",
        at_most="не більше", at_least="не менше", plus_minus="плюс-мінус", about="приблизно",
        power="{base} у степені {exponent}", squared="{base} у квадраті", cubed="{base} у кубі",
        root="корінь з", over="{above} поділити на {below}", per="на", conjunction="і",
        alternative="або", number="номер", at="собачка", dot="крапка", point="крапка",
        half="одна друга", version="версія",
    ),
    "sv": Lexicon(
        minus="minus", plus="plus", times="gånger", divided_by="delat med", equals="är lika med",
        not_equal="är inte lika med", to="till", less="mindre än", greater="större än",
        at_most="högst", at_least="minst", plus_minus="plus minus", about="ungefär",
        power="{base} upphöjt till {exponent}", squared="{base} i kvadrat", cubed="{base} i kubik",
        root="roten ur", over="{above} delat med {below}", per="per", conjunction="och",
        alternative="eller", number="nummer", at="snabel-a", dot="punkt", point="punkt",
        half="en halv", version="version",
    ),
    "da": Lexicon(
        minus="minus", plus="plus", times="gange", divided_by="divideret med", equals="er lig med",
        not_equal="er ikke lig med", to="til", less="mindre end", greater="større end",
        at_most="højst", at_least="mindst", plus_minus="plus minus", about="cirka",
        power="{base} opløftet til {exponent}", squared="{base} i anden", cubed="{base} i tredje",
        root="kvadratroden af", over="{above} divideret med {below}", per="per", conjunction="og",
        alternative="eller", number="nummer", at="snabel-a", dot="punktum", point="punktum",
        half="en halv", version="version",
    ),
    "nb": Lexicon(
        minus="minus", plus="pluss", times="ganger", divided_by="delt på", equals="er lik",
        not_equal="er ikke lik", to="til", less="mindre enn", greater="større enn",
        at_most="høyst", at_least="minst", plus_minus="pluss minus", about="cirka",
        power="{base} opphøyd i {exponent}", squared="{base} i andre", cubed="{base} i tredje",
        root="kvadratroten av", over="{above} delt på {below}", per="per", conjunction="og",
        alternative="eller", number="nummer", at="krøllalfa", dot="punktum", point="punktum",
        half="en halv", version="versjon",
    ),
    "cs": Lexicon(
        minus="minus", plus="plus", times="krát", divided_by="děleno", equals="rovná se",
        not_equal="nerovná se", to="až", less="menší než", greater="větší než", at_most="nejvýše",
        at_least="nejméně", plus_minus="plus minus", about="přibližně",
        power="{base} umocněno na {exponent}", squared="{base} na druhou", cubed="{base} na třetí",
        root="odmocnina z", over="{above} děleno {below}", per="za", conjunction="a",
        alternative="nebo", number="číslo", at="zavináč", dot="tečka", point="tečka",
        half="jedna polovina", version="verze",
    ),
    "tr": Lexicon(
        minus="eksi", plus="artı", times="çarpı", divided_by="bölü", equals="eşittir",
        not_equal="eşit değildir", to="ila", less="küçüktür", greater="büyüktür",
        at_most="en fazla", at_least="en az", plus_minus="artı eksi", about="yaklaşık",
        power="{base} üzeri {exponent}", squared="{base} kare", cubed="{base} küp", root="karekök",
        over="{above} bölü {below}", per="bölü", conjunction="ve", alternative="veya",
        number="numara", at="et", dot="nokta", point="nokta", half="bir bölü iki",
    ),
    "hi": Lexicon(
        minus="माइनस", plus="प्लस", times="गुणा", divided_by="भागा", equals="बराबर",
        not_equal="बराबर नहीं", to="से", less="से कम", greater="से अधिक", at_most="अधिकतम",
        at_least="कम से कम", plus_minus="प्लस माइनस", about="लगभग",
        power="{base} की घात {exponent}", squared="{base} का वर्ग", cubed="{base} का घन",
        root="वर्गमूल", over="{above} बटा {below}", per="प्रति", conjunction="और",
        alternative="या", number="नंबर", at="ऐट", dot="डॉट", point="पॉइंट", half="आधा",
    ),
    "zh": Lexicon(
        minus="减", plus="加", times="乘", divided_by="除以", equals="等于", not_equal="不等于",
        to="到",
        less="小于", greater="大于", at_most="最多", at_least="至少", plus_minus="正负",
        about="大约",
        power="{base}的{exponent}次方", squared="{base}的平方", cubed="{base}的立方", root="根号",
        over="{below}分之{above}", per="每", conjunction="和", alternative="或", number="第",
        at="艾特",
        dot="点", point="点", time="{hour}点{minute}分", full_hour="{hour}点", half="二分之一",
    ),
    "ja": Lexicon(
        minus="マイナス", plus="プラス", times="かける", divided_by="割る", equals="イコール",
        not_equal="ノットイコール",
        to="から", less="小なり", greater="大なり", at_most="最大", at_least="少なくとも",
        plus_minus="プラスマイナス",
        about="約", power="{base}の{exponent}乗", squared="{base}の二乗", cubed="{base}の三乗",
        root="ルート",
        over="{below}分の{above}", per="毎", conjunction="と", alternative="または",
        number="ナンバー",
        at="アットマーク", dot="ドット", point="点", time="{hour}時{minute}分",
        full_hour="{hour}時",
        half="二分の一",
    ),
}

LETTERS = {
    "α": "alpha", "β": "beta", "γ": "gamma", "δ": "delta", "ε": "epsilon", "ζ": "zeta", "η": "eta",
    "θ": "theta", "ι": "iota", "κ": "kappa", "λ": "lambda", "μ": "mu", "ν": "nu", "ξ": "xi",
    "π": "pi", "ρ": "rho", "σ": "sigma", "τ": "tau", "φ": "phi", "χ": "chi", "ψ": "psi",
    "ω": "omega", "Γ": "Gamma", "Δ": "Delta", "Θ": "Theta", "Λ": "Lambda", "Σ": "Sigma",
    "Φ": "Phi", "Ψ": "Psi", "Ω": "Omega", "Π": "Pi",
}
# fmt: on
"""Greek letters that stand alone, as in a formula, for voices that speak no Greek."""

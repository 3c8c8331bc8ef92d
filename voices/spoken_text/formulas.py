r"""Simple LaTeX to plain mathematics: `\frac{1}{2}` to `1/2`, `\alpha^2` to `α^2`.

What comes out is read like any other text, so this knows no language. What is too intricate to be
listened to (matrices, aligned equations) comes out as its symbols in order.
"""

from __future__ import annotations

import re

# fmt: off
_SYMBOLS = {
    "times": "×", "cdot": "×", "ast": "×", "div": "÷", "pm": "±", "mp": "±", "leq": "≤", "le": "≤",
    "geq": "≥", "ge": "≥", "lt": "<", "gt": ">", "neq": "≠", "ne": "≠", "approx": "≈", "sim": "≈",
    "equiv": "=", "to": "→", "rightarrow": "→", "Rightarrow": "→", "implies": "→", "infty": "∞",
    "circ": "°", "degree": "°", "ldots": "...", "dots": "...", "cdots": "...", "quad": " ",
    "qquad": " ", "alpha": "α", "beta": "β", "gamma": "γ", "delta": "δ", "epsilon": "ε",
    "varepsilon": "ε", "zeta": "ζ", "eta": "η", "theta": "θ", "iota": "ι", "kappa": "κ",
    "lambda": "λ", "mu": "μ", "nu": "ν", "xi": "ξ", "pi": "π", "rho": "ρ", "sigma": "σ",
    "tau": "τ", "phi": "φ", "varphi": "φ", "chi": "χ", "psi": "ψ", "omega": "ω", "Gamma": "Γ",
    "Delta": "Δ", "Theta": "Θ", "Lambda": "Λ", "Sigma": "Σ", "Phi": "Φ", "Psi": "Ψ", "Omega": "Ω",
    "sum": "∑", "int": "∫", "prod": "∏", "partial": "∂", "nabla": "∇", "%": "%", "$": " ",
    "&": " ", ",": " ", ";": " ", ":": " ", "!": "", "\\": "; ", "#": "#", "_": " ", "{": "",
    "}": "", " ": " ",
}
# fmt: on
# Commands that only say how their argument looks, or how tall a bracket is.
_LOOKS = frozenset(
    [
        "text",
        "textbf",
        "textit",
        "textrm",
        "mathrm",
        "mathbf",
        "mathit",
        "mathbb",
        "mathcal",
        "mathsf",
        "operatorname",
        "boxed",
        "left",
        "right",
        "big",
        "Big",
        "bigg",
        "Bigg",
        "displaystyle",
        "textstyle",
        "limits",
        "begin",
        "end",
        "overline",
        "bar",
        "hat",
        "vec",
        "tilde",
        "underline",
        "mbox",
    ]
)
_TEXTS = frozenset(["text", "textbf", "textit", "textrm", "mathrm", "operatorname", "mbox"])
_TOKEN = re.compile(r"\\([A-Za-z]+|.)|(\d+(?:[.,]\d+)*)|([A-Za-z])|(.)", re.DOTALL)
_DEEPEST = 12


BARE = rf"\\(?:d?frac|sqrt|{'|'.join(name for name in _SYMBOLS if name.isalpha())})(?![A-Za-z])"
"""Commands that are LaTeX wherever they stand."""


def plain(latex: str) -> str:
    """The formula as plain text: operators as characters, powers as `x^2`, roots as `√`."""
    text, _ = _sequence(_TOKEN.findall(latex), 0, 0)
    return re.sub(r"\s+", " ", text).strip()


_Token = tuple[str, str, str, str]


def _sequence(tokens: list[_Token], at: int, depth: int) -> tuple[str, int]:
    """The text of the tokens from `at` on, up to a closing brace; and where that ends."""
    parts: list[str] = []
    while at < len(tokens):
        if tokens[at][3] == "}" and depth:
            return "".join(parts), at + 1
        part, at = _one(tokens, at, depth)
        parts.append(part)
    return "".join(parts), at


def _one(tokens: list[_Token], at: int, depth: int) -> tuple[str, int]:
    command, number, letter, other = tokens[at]
    at += 1
    if command:
        return _command(command, tokens, at, depth)
    if number:
        return (f"{number} " if at < len(tokens) and tokens[at][2] else number), at
    if letter:
        # Letters that stand together are factors: "mc" is m times c.
        return (f"{letter} " if at < len(tokens) and tokens[at][2] else letter), at
    if other == "{" and depth < _DEEPEST:
        return _sequence(tokens, at, depth + 1)
    if other == "^":
        exponent, at = _argument(tokens, at, depth)
        if exponent.strip() in ("°", "∘"):
            return "°", at
        return f"^{{{exponent.strip()}}} ", at
    if other == "_":
        index, at = _argument(tokens, at, depth)
        return f" {index} ", at
    return {"-": " − ", "{": "", "}": "", "~": " ", "'": "'"}.get(other, other), at


def _command(name: str, tokens: list[_Token], at: int, depth: int) -> tuple[str, int]:
    if name in ("frac", "dfrac", "tfrac", "cfrac"):
        above, at = _argument(tokens, at, depth)
        below, at = _argument(tokens, at, depth)
        above, below = above.strip(), below.strip()
        if above.isdigit() and below.isdigit():
            return f" {above}/{below} ", at
        return f" {above} ∕ {below} ", at
    if name == "sqrt":
        radicand, at = _argument(tokens, at, depth)
        return f" √ {radicand.strip()} ", at
    if name in ("sum", "int", "prod"):
        return _limits(_SYMBOLS[name], tokens, at, depth)
    if name in _TEXTS and at < len(tokens) and tokens[at][3] == "{":
        return _words(tokens, at + 1)
    if name in _LOOKS:
        return "", at
    symbol = _SYMBOLS.get(name)
    return (f" {name} " if symbol is None else symbol), at


def _limits(symbol: str, tokens: list[_Token], at: int, depth: int) -> tuple[str, int]:
    """A sum or an integral: from where to where, then of what."""
    limits: dict[str, str] = {}
    while at < len(tokens) and tokens[at][3] in ("_", "^") and len(limits) < 2:
        mark = tokens[at][3]
        limits[mark], at = _argument(tokens, at + 1, depth)
    if "_" in limits and "^" in limits:
        return f" {symbol} {limits['_']} → {limits['^']} ", at
    return f" {symbol} {' '.join(limits.values())} ", at


def _argument(tokens: list[_Token], at: int, depth: int) -> tuple[str, int]:
    """What a command or a mark applies to: a group in braces, or the one token after it."""
    while at < len(tokens) and tokens[at][3].isspace():
        at += 1
    if at >= len(tokens) or depth >= _DEEPEST:
        return "", at
    if tokens[at][3] == "{":
        return _sequence(tokens, at + 1, depth + 1)
    command, number, letter, other = tokens[at]
    if number:
        # Without braces only the first digit belongs to the mark.
        rest = number[1:]
        if rest:
            tokens[at] = ("", rest, "", "")
            return number[0], at
        return number, at + 1
    return _one(tokens, at, depth + 1) if command else (letter or other, at + 1)


def _words(tokens: list[_Token], at: int) -> tuple[str, int]:
    """The words in `\\text{...}`, which are no factors."""
    parts = []
    while at < len(tokens) and tokens[at][3] != "}":
        parts.append("".join(tokens[at]))
        at += 1
    return f" {''.join(parts)} ", at + 1

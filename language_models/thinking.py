"""Which part of a model's text is thinking, and which is the reply. Pure.

Reasoning models write `<think> … </think>` before they answer. Where their chat template has
written the opening tag already, only the closing one comes. But a reply may also be *about* these
tags, and then it loses no word: a tag opens thinking only where a reply, a line or a sentence
begins, and an unopened closing tag ends it only where it does not stand among the words of a
sentence.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

# Qwen and DeepSeek write <think>, Mistral [THINK]; the others are of smaller families.
_TAG = re.compile(
    r"<(?P<close>/?)(?P<name>think|thinking|thought|reasoning)>|\[(?P<shut>/?)(?P<mark>THINK)\]",
    re.IGNORECASE,
)
_TAGS = [
    f"{left}{slash}{name}{right}"
    for left, right, names in (
        ("<", ">", ("think", "thinking", "thought", "reasoning")),
        ("[", "]", ("think",)),
    )
    for name in names
    for slash in ("", "/")
]
_LONGEST_TAG = max(map(len, _TAGS))

OPENING_TAG, CLOSING_TAG = "<think>", "</think>"
"""A stream begins with the first where its prompt ended with it."""

_SENTENCE_END = ".!?…。！？"
_QUOTES = "`'\"‘“«‹([{"

# What stands between two tags that are only named: "<think> and </think> are tags".
_MENTION = re.compile(r"\s*(?:and|or|und|oder|et|ou|y|o|e|&|/|,|\+)\s*", re.IGNORECASE)

# How a text goes on that began with the name of a tag: "<think> is a tag", "<think>, …".
_ABOUT = re.compile(r"[ \t]+[a-z]|[ \t]*[`'\"’”».,;:!?)\]}]")


@dataclass(frozen=True)
class Parts:
    """What of a text is reply.

    `thinking`: it ends within a thought. `thought`: there was one. `opened_before`: a thought ended
    that had not begun in this text; what came before it was taken for the reply until then.
    """

    reply: str
    thinking: bool = False
    thought: bool = False
    opened_before: bool = False


def without_thinking(text: str, *, complete: bool, cut: bool = False) -> Parts:
    """The reply in a text of which more may come unless it is `complete`.

    What cannot be decided yet is left out. `cut`: the text ends because no token was left, so an
    open thought was none that only looked like one.
    """
    reply = ""
    at = 0
    mentioned = thought = opened_before = False
    while (tag := _TAG.search(text, at)) is not None:
        before = reply + text[at : tag.start()]
        if not _closes(tag):
            if not _may_open(before):
                reply, at, mentioned = before + tag.group(), tag.end(), True
                continue
            end = _closing(text, tag)
            if end is None:
                about = complete and not cut and _ABOUT.match(text, tag.end())
                if about:
                    reply, at, mentioned = before + tag.group(), tag.end(), True
                    continue
                return Parts(before, not complete, True, opened_before)
            if _MENTION.fullmatch(text, tag.end(), end.start()):
                reply, at = before + text[tag.start() : end.end()], end.end()
                continue
            reply, at, thought = before, end.end(), True
        elif mentioned:
            reply, at, mentioned = before + tag.group(), tag.end(), False
        elif not complete and not text[tag.end() :].strip():
            return Parts(before, True, thought, opened_before)
        elif _among_words(before, text[tag.end() :]):
            reply, at = before + tag.group(), tag.end()
        else:
            opened_before = opened_before or bool(before.strip())
            reply, at, thought = "", tag.end(), True
    rest = text[at:]
    if not complete:
        rest = rest[: len(rest) - _undecided(rest)]
    return Parts(reply + rest, False, thought, opened_before)


def _closes(tag: re.Match[str]) -> bool:
    return bool(tag["close"] or tag["shut"])


def _closing(text: str, opening: re.Match[str]) -> re.Match[str] | None:
    """The tag that ends the thought which `opening` began."""
    name = (opening["name"] or opening["mark"]).lower()
    return next(
        (
            tag
            for tag in _TAG.finditer(text, opening.end())
            if _closes(tag) and (tag["name"] or tag["mark"]).lower() == name
        ),
        None,
    )


def _may_open(before: str) -> bool:
    """Whether a thought can begin after this text: where a reply, a line or a sentence does."""
    if before.count("```") % 2:
        return False  # within a code block it is an example
    said = before.rstrip()
    return not said or "\n" in before[len(said) :] or said[-1] in _SENTENCE_END


def _among_words(before: str, after: str) -> bool:
    """Whether a tag between these texts is a word of a sentence."""
    if before and before[-1] in _QUOTES:
        return True
    said = before.rstrip(" \t")
    if not said or said == before or said[-1] in _SENTENCE_END + "\n":
        return False
    following = after.lstrip(" \t")
    return not following or not (following[0].isupper() or following[0] == "\n")


def _undecided(text: str) -> int:
    """Length of the longest end of `text` that a tag begins with."""
    end = text[-_LONGEST_TAG:].lower()
    return next(
        (
            len(end) - start
            for start in range(len(end))
            if end[start] in "<[" and any(tag.startswith(end[start:]) for tag in _TAGS)
        ),
        0,
    )

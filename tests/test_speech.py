"""A reply's text on its way to the voice."""

from __future__ import annotations

import pytest

from voices.speech import Speech


def clauses(*pieces: str, text: str | None) -> str:
    """The text that is spoken of a reply that came in these pieces and is `text` in the end."""
    speech = Speech(1, 1)
    for piece in pieces:
        speech.feed(piece)
    speech.complete(text)
    return "".join(clause.text for clause in speech.clauses).rstrip()


@pytest.mark.parametrize(
    ("pieces", "text", "spoken"),
    [
        (["It was opened in 1883. ", "He"], "It was opened in 1883.", "It was opened in 1883."),
        (["It was opened in 1883."], "It was opened in 1883.", "It was opened in 1883."),
        (["It was ", "old. Yes."], None, "It was old. Yes."),
        # What was cut into a clause already may be spoken already.
        (["Yes, of course I do. ", "He"], "Yes,", "Yes, of course I do."),
        # A text of which another beginning was sent says nothing about its end.
        (["Hm. Let us see. ", "It is old."], "It is old.", "Hm. Let us see. It is old."),
    ],
)
def test_an_end_that_is_taken_back_is_not_spoken(
    pieces: list[str], text: str | None, spoken: str
) -> None:
    assert clauses(*pieces, text=text) == spoken

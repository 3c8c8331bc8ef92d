"""Where a reply is cut for the voice, and how it is read aloud."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from voices.sentences import LONGEST_CLAUSE, ClauseSplitter, said_part

# A machine that others use as well is slow at times; that is no failure.
patient = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])


def split(text: str, *, step: int | None = None) -> list[str]:
    """The clauses of a text that arrives whole, or in pieces of `step` characters."""
    splitter = ClauseSplitter()
    step = step or max(1, len(text))
    pieces = []
    for start in range(0, len(text), step):
        pieces += splitter.feed(text[start : start + step])
    return pieces + splitter.finish()


PIECES = [
    *("Dr. Smith", "J. R. R. Tolkien", "U.S. Senate", "No. 5", "No.", "e.g. this", "3.14", "1,000"),
    *("10:30 a.m.", "https://example.com/a,b.html?c=d.", "me@mail.example.org,", "Well...", "etc."),
    *("and", "because", "the", "house", "is", "old,", "red;", "big.", "Why?", "Yes!", "Paris", "I"),
    *(
        "\n",
        "\n\n- ",
        "\n1. ",
        "\n```\nx = 1. Y\n```\n",
        "**bold**",
        "`code`",
        "[a, b](http://c.d)",
    ),
    *(
        "😊",
        "…",
        '"Really?"',
        "(so he said)",
        "東京は大きい。",
        "你好，世界！",
        "-",
        "—",
        "w" * 300,
    ),
]
# No punctuation to cut at, and words that begin like those before which a cut is good.
RUN_ON = ["an", "and", "in", "inside", "with", "to", "toward", "old", "Brooklyn", "extraordinarily"]
replies = st.one_of(
    st.lists(st.sampled_from(RUN_ON), min_size=8, max_size=120).map(" ".join),
    st.lists(st.sampled_from(PIECES), max_size=60).map(" ".join),
    st.lists(st.sampled_from(PIECES), max_size=60).map("".join),
    st.text(max_size=600),
    st.lists(st.sampled_from(["0" * 250, "a", " " * 40, " "]), max_size=12).map("".join),
)


@patient
@given(replies, st.integers(1, 7))
def test_the_pieces_are_the_text_however_it_was_fed(text: str, step: int) -> None:
    pieces = split(text)
    assert "".join(pieces) == text
    assert all(pieces)
    assert split(text, step=1) == pieces
    assert split(text, step=step) == pieces


@patient
@given(replies)
def test_no_piece_is_too_long_unless_it_is_code(text: str) -> None:
    assert all(
        len(piece.strip()) <= LONGEST_CLAUSE or piece.lstrip().startswith("```")
        for piece in split(text)
    )


@patient
@given(replies.filter(str.strip))
def test_every_piece_has_something_in_it(text: str) -> None:
    assert all(piece.strip() for piece in split(text))


@pytest.mark.parametrize(
    ("text", "pieces"),
    [
        ("Yes. It is old.", ["Yes. ", "It is old."]),
        (
            "Sure, it was opened in 1883, and it is still in use. It is long. It is very old.",
            # the first at a comma after three words; tiny sentences stay together
            [
                "Sure, it was opened in 1883, ",
                "and it is still in use. ",
                "It is long. It is very old.",
            ],
        ),
        (
            "The longest bridge of that old town is quite far from the station where you are",
            ["The longest bridge of that old town is quite far ", "from the station where you are"],
        ),
        ("Really?! Then tell me all of it.", ["Really?! ", "Then tell me all of it."]),
        ('He said "No." Then he went home.', ['He said "No." ', "Then he went home."]),
        ("Hmm... That is hard to say.", ["Hmm... ", "That is hard to say."]),
        ("So do I. And who are you?", ["So do I. ", "And who are you?"]),
        ("It is far? No. It is near.", ["It is far? ", "No. It is near."]),
        ("We meet at 5 p.m. Then we eat at home.", ["We meet at 5 p.m. ", "Then we eat at home."]),
        ("It is 42. That is all there is.", ["It is 42. ", "That is all there is."]),
        (
            "Try this\n```\na. B, c\n```\nIt works.",
            ["Try this\n", "```\na. B, c\n```\n", "It works."],
        ),
        (
            "First point here\nSecond point is here\n",
            ["First point here\n", "Second point is here\n"],
        ),
        ("東京は大きい。とても大きい。", ["東京は大きい。", "とても大きい。"]),
        ("", []),
        ("  \n", ["  \n"]),
    ],
)
def test_cuts(text: str, pieces: list[str]) -> None:
    assert split(text) == pieces


@pytest.mark.parametrize(
    "whole",
    [
        *(
            "Dr. Smith",
            "Mr. and Mrs. Jones",
            "e.g. Apples",
            "i.e. That",
            "the U.S. Senate",
            "No. 5",
        ),
        *("J. R. R. Tolkien", "J. S. Bach", "vs. Rome", "St. Louis", "Ph.D. Student", "Vol. 2"),
        *(
            "3.14",
            "1,000,000",
            "10:30",
            "March 3, 2024",
            "https://a.example/b,c.D",
            "a.B@c.example",
        ),
        *(
            "wait . . . ?",
            "approx. five",
            "e.g., Apples",
            "Louis V. Smith",
            "[a, b](http://c.d)",
        ),
    ],
)
@pytest.mark.parametrize("position", [0, 1, 2])
def test_never_cut_inside(whole: str, position: int) -> None:
    before = ["", "It says so. ", "It says so. I like it very much. "][position]
    text = f"{before}We saw that the {whole} is more than what anyone had wanted. It is so."
    assert any(whole in piece for piece in split(text))


def test_a_list_marker_stays_with_its_item() -> None:
    text = "Three things to do:\n1. Buy the red apples\n2. Eat all of them\n- Wash a. B dishes\n"
    assert split(text)[1:3] == ["1. Buy the red apples\n", "2. Eat all of them\n"]


def test_a_clause_is_known_as_soon_as_the_next_word_begins() -> None:
    splitter = ClauseSplitter()
    assert splitter.feed("It was opened in 1883.") == []
    assert splitter.feed(" ") == []
    assert splitter.feed("I") == ["It was opened in 1883. "]


def test_a_long_sentence_is_cut_at_its_last_good_place() -> None:
    words = "unpronounceably " * 11
    start = "One. Two three four five. " + words.capitalize()
    assert split(start + "indeed, " + words)[2].endswith("indeed, ")
    assert split(start + words * 2)[2].endswith("unpronounceably ")


def test_a_name_stays_whole_where_a_long_sentence_is_cut() -> None:
    words = "Unpronounceably " + "unpronounceably " * 14
    text = f"One. Two three four five. {words}New Yorkshireman {words.lower()}"
    assert split(text)[2] == words


@pytest.mark.parametrize(
    ("fraction", "said"),
    [
        (0.0, ""),
        (0.2, ""),
        (0.3, "One"),
        (0.6, "One"),
        (0.7, "One two,"),
        (0.99, "One two,"),
        (1.0, "One two, six. "),
        (1.5, "One two, six. "),
        (-1.0, ""),
    ],
)
def test_said_part(fraction: float, said: str) -> None:
    assert said_part("One two, six. ", fraction) == said


@patient
@given(replies, st.floats(0, 1), st.floats(0, 1))
def test_said_part_grows_and_ends_with_whole_words(text: str, one: float, other: float) -> None:
    less, more = sorted((one, other))
    part = said_part(text, more)
    assert text.startswith(part)
    assert part.startswith(said_part(text, less))
    assert part == text or not part or text[len(part)].isspace()

"""What of a language model's text is said."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from language_models.reply_filter import ReplyFilter, clean


def said(raw: str) -> str:
    """What comes through the filter of a whole reply, fed letter by letter."""
    reply = ReplyFilter(10_000)
    shown = "".join(reply.push(letter) for letter in raw) + reply.finish(cut=False)
    if not clean(raw, complete=True).opened_before:
        assert shown == reply.text
    return reply.text


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        ("<think>Hm, Paris.</think>Paris.", "Paris."),
        ("<think>\nOkay, so…\n</think>\n\nParis.", "Paris."),
        ("<think></think> Paris.", "Paris."),
        ("<think> hm </think> Paris.", "Paris."),
        ("  <THINK>hm</THINK>Paris.", "Paris."),
        ("<thinking>hm</thinking>Paris.", "Paris."),
        ("<reasoning>hm <b>Rome</b></reasoning>Paris.", "Paris."),
        ("[THINK]hm[/THINK]Paris.", "Paris."),
        ("<think>a</think>One.\n<think>b</think>Two.", "One.\nTwo."),
        ("One. <think>b</think>Two.", "One. Two."),
        ("<think>It may be Paris, but", ""),
        # Only the closing tag: the chat template wrote the other.
        ("They ask for the capital.</think>Paris.", "Paris."),
        ("Okay, the capital\n</think>\n\nParis.", "Paris."),
        ("好的，用户问好。</think>你好！", "你好！"),
        ("</think>Paris.", "Paris."),
    ],
)
def test_thinking_is_not_said(raw: str, expected: str) -> None:
    assert said(raw) == expected


@pytest.mark.parametrize(
    "text",
    [
        "The <think> tag is optional.",
        "Put it between <think> and </think> then.",
        "Close it with </think> and go on.",
        "Use `<think>` first, then `</think>`.",
        "It ends with </think>",
        "<think> is a tag of reasoning models.",
        "<think> and </think> are tags.",
        "What marks it? <think> does.",
        "An example:\n```\n<think>\nhm\n</think>\n```\nThat is all.",
        "I think <b>so</b>, and 1 < 2 [TH",
        "The <thinking> element has no end",
    ],
)
def test_text_about_the_tags_loses_no_word(text: str) -> None:
    assert said(text) == text


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        ("A: It is old.", "It is old."),
        ("Assistant: It is old.", "It is old."),
        ("**Assistant:** It is old.", "It is old."),
        ("AI: A: It is old.", "It is old."),
        ("Antwort: Sehr alt.", "Sehr alt."),
        ("<think>hm</think>\nAnswer: Old.", "Old."),
        ("A boat: it swims.", "A boat: it swims."),
        ("Answer me: is it old?", "Answer me: is it old?"),
        ("The answer: it is old.", "The answer: it is old."),
        ("A", "A"),
        ("Assistant", "Assistant"),
        ("Old.\nUser: Why?\nAssistant: So.", "Old."),
        ("Old.\n\n**Human:** Why?", "Old."),
        ("First:\nyou see, Bob.\nQuestions: none.", "First:\nyou see, Bob.\nQuestions: none."),
    ],
)
def test_a_role_label_is_not_said_and_another_role_ends_the_reply(raw: str, expected: str) -> None:
    assert said(raw) == expected


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        ("I am Emily. I am Emily. I am Emily", "I am Emily."),
        ("It is old. It's big! It is OLD! And so on.", "It is old. It's big!"),
        ("Yes. Yes. Yes. Yes. Yes", "Yes. Yes."),
        ("No. No! You must not.", "No. No! You must not."),
        ("很好。很好。很好。", "很好。很好。"),
        ("Dr. Ray saw Dr. Ray. He is well.", "Dr. Ray saw Dr. Ray. He is well."),
        ("It is old. It is old and grey.", "It is old. It is old and grey."),
        ("1. Ink. 2. Ink and paper.", "1. Ink. 2. Ink and paper."),
        ("Take No. 5. Take No. 6.", "Take No. 5. Take No. 6."),
        ("It is 3.5. It is 3.6.", "It is 3.5. It is 3.6."),
        ("The end", "The end"),
    ],
)
def test_a_sentence_that_is_repeated_ends_the_reply(raw: str, expected: str) -> None:
    assert said(raw) == expected


@pytest.mark.parametrize(
    ("pieces", "expected"),
    [
        (["It", " was", " opened", ".", " He", " lived", " in", " Par"], "It was opened."),
        (["Yes", "!", " It", " is", " 3", ".5", " miles", ", or"], "Yes!"),
        (["It", " is", " old", ".", " It", " is", " big", "."], "It is old. It is big."),
        # One sentence that is longer than all tokens ends with a whole word.
        (["He", " was", " king", " of", " the", " islan"], "He was king of the"),
        (["Mr", ". ", "Smith", " and", " Dr", ". ", "Jones", " we"], "Mr. Smith and Dr. Jones"),
        (["Very", "oldandg"], "Veryoldandg"),
    ],
)
def test_a_reply_that_is_cut_ends_with_its_last_whole_sentence(
    pieces: list[str], expected: str
) -> None:
    reply = ReplyFilter(len(pieces))
    shown = "".join(map(reply.push, pieces)) + reply.finish(cut=True)
    assert reply.text == expected
    assert shown.startswith(expected)


def test_near_its_last_token_a_reply_goes_out_by_whole_sentences() -> None:
    reply = ReplyFilter(8)
    pieces = ["It", " was", " opened", ".", " He", " lived", " in", " Par"]
    assert "".join(map(reply.push, pieces)) == "It was opened."
    assert reply.finish(cut=True) == ""


def test_a_reply_that_is_not_cut_is_said_to_its_end() -> None:
    reply = ReplyFilter(8)
    pieces = ["Red", ", ", "green", ", ", "blue", " and", " gr"]
    assert "".join(map(reply.push, pieces)) + reply.finish(cut=False) == "Red, green, blue and gr"


def test_a_model_that_was_given_more_tokens_for_thinking_says_no_more_than_it_may() -> None:
    reply = ReplyFilter(6)
    for piece in ["<think>", *["hm "] * 50, "</think>", "One", ".", " Two", " and", " a"]:
        reply.push(piece)
        assert not reply.ended
    reply.push(" half")
    assert reply.ended
    reply.finish(cut=False)
    assert reply.text == "One."


@pytest.mark.parametrize(
    ("raw", "expected"),
    [("\ud83c\udf89 Yes", "🎉 Yes"), ("Yes \ud83c", "Yes \ufffd"), ("Y\x00es\x1b", "Yes")],
)
def test_what_no_channel_takes_is_mended(raw: str, expected: str) -> None:
    assert said(raw) == expected


ATOMS = (
    *("<think>", "</think>", "<thi", "nk>", "</", "[THINK]", "[/THINK]", "<reasoning>"),
    *("A:", "Assistant", ":", "**", "User", "\nUser:", "Q: ", "\n", "\n\n", " ", "  "),
    *("It is old", "It", " is", "Yes", "no", ". ", ".", "! ", "?", "…", "。", "你好", "`", "```"),
    *("Dr. ", "No. ", "5", "1. ", "3.5", "and", " about", "\ud83c", "\udf89", "\x00", "<", "["),
)
TEXTS = st.lists(st.sampled_from(ATOMS), max_size=14).map("".join)


@given(TEXTS, st.data())
def test_what_a_beginning_gives_is_certain(raw: str, data: st.DataObject) -> None:
    whole = clean(raw, complete=True)
    end = data.draw(st.integers(0, len(raw)))
    beginning = clean(raw[:end], complete=False)
    if not whole.opened_before:
        assert whole.text.startswith(beginning.text)
        if beginning.ended:
            assert whole.text == beginning.text


@given(TEXTS, st.data())
def test_how_the_stream_is_cut_makes_no_difference(raw: str, data: st.DataObject) -> None:
    cuts = sorted(data.draw(st.lists(st.integers(0, len(raw)), max_size=6)))
    reply = ReplyFilter(10_000)
    pieces = [raw[a:b] for a, b in zip([0, *cuts], [*cuts, len(raw)], strict=True)]
    shown = "".join(map(reply.push, pieces)) + reply.finish(cut=False)
    whole = clean(raw, complete=True)
    assert reply.text == whole.text
    if not whole.opened_before:
        assert shown == whole.text


@given(TEXTS, st.integers(1, 12), st.data())
def test_a_cut_reply_is_a_beginning_of_the_whole(raw: str, most: int, data: st.DataObject) -> None:
    cuts = sorted(data.draw(st.lists(st.integers(0, len(raw)), max_size=6)))
    reply = ReplyFilter(most)
    pieces = [raw[a:b] for a, b in zip([0, *cuts], [*cuts, len(raw)], strict=True)]
    shown = "".join(map(reply.push, pieces)) + reply.finish(cut=True)
    if not clean(raw, complete=True).opened_before:
        assert shown.startswith(reply.text)
        assert clean(raw, complete=True).text.startswith(reply.text)


@given(st.lists(st.sampled_from(["the ", "<think> tag ", "is old. ", "and ", "new, "]), max_size=9))
def test_plain_sentences_about_the_tag_keep_all_words(words: list[str]) -> None:
    text = "In a text " + "".join(words)
    if "old. <think>" not in text and text.count("is old. ") < 2:
        assert said(text) == text.rstrip()

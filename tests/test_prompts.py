"""The prompt formats, and where a reply is cut."""

from __future__ import annotations

import re
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from language_models.base import ChatMessage
from language_models.prompts import CHATML, PHI_2, PHI_3, PHI_FORMATS, PromptFormat, ReplyCut

CONVERSATION = (
    ChatMessage("system", "Be brief."),
    ChatMessage("user", "Hello"),
    ChatMessage("assistant", "Hi."),
    ChatMessage("user", "How are you?"),
)


def test_phi_2() -> None:
    assert PHI_2.render(CONVERSATION) == (
        "Be brief.\nInstruct: Hello\nOutput: Hi.\nInstruct: How are you?\nOutput:"
    )


def test_phi_3() -> None:
    assert PHI_3.render(CONVERSATION) == (
        "<|system|>\nBe brief.<|end|>\n<|user|>\nHello<|end|>\n<|assistant|>\nHi.<|end|>\n"
        "<|user|>\nHow are you?<|end|>\n<|assistant|>"
    )


def test_chatml() -> None:
    assert CHATML.render(CONVERSATION) == (
        "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nHello<|im_end|>\n"
        "<|im_start|>assistant\nHi.<|im_end|>\n<|im_start|>user\nHow are you?<|im_end|>\n"
        "<|im_start|>assistant\n"
    )


def test_every_phi_has_its_format_and_its_end() -> None:
    assert PHI_FORMATS["phi-2"].stop_ids == (50256,)
    assert PHI_FORMATS["Phi-3-mini-4k-instruct"].stop_ids[0] == 32007
    assert PHI_FORMATS["Phi-3-mini-128k-instruct"].stop_ids[0] == 32007
    assert CHATML.stop_ids[0] == 32000


@pytest.mark.parametrize("prompt_format", [PHI_2, PHI_3, CHATML])
@given(
    st.lists(
        st.sampled_from(
            [
                "<|end|>",
                "<|im_end|>",
                "<|user|>",
                "<|",
                "|>",
                "end",
                "</s>",
                "<s",
                ">",
                "Instruct:",
                "Output:",
                "Inst",
                "ruct:",
                "hello",
                " ",
                "\n",
                "{}",
            ]
        ),
        max_size=12,
    ).map("".join)
)
def test_nobody_can_speak_as_the_format(prompt_format: PromptFormat, said: str) -> None:
    """Whatever a person says, the prompt holds as many reserved marks as for a plain word."""
    reserved = re.compile(prompt_format.reserved)
    plain = prompt_format.render((ChatMessage("user", "x"),))
    prompt = prompt_format.render((ChatMessage("user", said),))
    assert reserved.findall(prompt) == reserved.findall(plain)


def test_words_stay_when_special_tokens_go() -> None:
    assert PHI_3.clean("say <|user|>hi <|e<|end|>nd|>there 1 < 2 | 3 > 2") == (
        "say hi there 1 < 2 | 3 > 2"
    )


STOPS = ("\nInstruct:", "Instruct:")


@given(st.text(alphabet="Instruc: \nab", max_size=60), st.data())
def test_a_reply_is_cut_at_the_same_place_however_it_arrives(
    text: str, data: st.DataObject
) -> None:
    marks = sorted(data.draw(st.sets(st.integers(0, len(text)), max_size=8)) | {0, len(text)})
    cut = ReplyCut(STOPS)
    out = ""
    for start, end in pairwise(marks):
        out += cut.push(text[start:end])
        if cut.complete:
            break
    else:
        out += cut.finish()
    assert out == re.split(r"\n?Instruct:", text, maxsplit=1)[0]


def test_certain_text_is_not_held_back() -> None:
    cut = ReplyCut(STOPS)
    assert cut.push("It is In") == "It is "
    assert cut.push("dia.") == "India."
    assert cut.finish() == ""
